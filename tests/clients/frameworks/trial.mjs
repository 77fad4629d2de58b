// Trials with one framework: at each URL the names of the tools that it lists, then what one call answers.
//
// Each script of this directory gives `run` a function: it takes the URL, the headers and the name of a tool,
// tells the names with `listed` as soon as it has them, and returns the answer of the call.

export const ARGUMENTS = { a: 1000, b: 2345 };

// The one that is tried now.
let url;

function tell(said) {
  console.log(`trial: ${JSON.stringify({ url, ...said })}`);
}

export function listed(tools) {
  tell({ tools });
}

export async function run(trial) {
  const [key, tool, ...urls] = process.argv.slice(2);
  for (url of urls) {
    try {
      const answer = await trial(url, key ? { 'X-MCP-Key': key } : {}, tool);
      tell({ answer: typeof answer === 'string' ? answer : JSON.stringify(answer) });
    } catch (error) {
      tell({ error: `${error.name}: ${error.message}` });
    }
  }
  // Some leave connections open.
  process.exit(0);
}
