// The official TypeScript clients against one endpoint: runs the steps of a plan and says how each went.
//
// The plan comes on standard input: {"sdk": "client" or "sdk", "url" or "command", "mode", "steps"}. Each
// step is answered by a line {"step", "ok", "why"}. It must lie beside the packages' node_modules.

import assert from 'node:assert';
import { readFileSync } from 'node:fs';

const plan = JSON.parse(readFileSync(0, 'utf8'));
const LIMIT = { timeout: 30_000 };
const about = { name: 'trial', version: '1.0.0' };
const capabilities = { sampling: {}, elicitation: {} };
const sample = async () => ({
  role: 'assistant', model: 'a-model', content: { type: 'text', text: 'forty-two' },
});
const elicit = async () => ({ action: 'accept', content: { name: 'Ada' } });

async function current() {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const mode = plan.mode === 'legacy' || plan.mode === 'auto' ? plan.mode : { pin: plan.mode };
  const client = new Client(about, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler('sampling/createMessage', sample);
  client.setRequestHandler('elicitation/create', elicit);
  const call = (params, options) => client.callTool(params, options);
  return { client, call, StdioClientTransport, StreamableHTTPClientTransport };
}

async function older() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  const types = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client(about, { capabilities });
  client.setRequestHandler(types.CreateMessageRequestSchema, sample);
  client.setRequestHandler(types.ElicitRequestSchema, elicit);
  const call = (params, options) => client.callTool(params, undefined, options);
  return { client, call, StdioClientTransport, StreamableHTTPClientTransport };
}

async function everything(list, member) {
  const found = [];
  let cursor;
  do {
    const page = await list({ cursor });
    found.push(...page[member]);
    cursor = page.nextCursor;
  } while (cursor);
  return found;
}

function textOf(result) {
  const text = JSON.stringify(result);
  assert(!result.isError, `the tool failed: ${text.slice(0, 300)}`);
  return text;
}

const STEPS = {
  async revision({ client, transport }, step) {
    const found = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
    // The older client keeps it to itself on standard input and output.
    assert(found === step.wants || (plan.sdk === 'sdk' && plan.command), `it is ${found}`);
  },
  async tools({ client }, step) {
    const found = (await everything((params) => client.listTools(params, LIMIT), 'tools')).map((one) => one.name);
    const missing = step.wants.filter((name) => !found.includes(name));
    assert(missing.length === 0, `not listed: ${missing}, but ${found}`);
  },
  async call({ call }, step) {
    const text = textOf(await call({ name: step.name, arguments: step.arguments }, LIMIT));
    assert(text.includes(step.wants), `${step.wants} is not in ${text.slice(0, 300)}`);
  },
  async progress({ call }, step) {
    let heard = 0;
    const onprogress = () => { heard += 1; };
    textOf(await call({ name: step.name, arguments: step.arguments }, { ...LIMIT, onprogress }));
    assert(heard >= 2, `only ${heard} times progress`);
  },
  async resources({ client }) {
    const found = await everything((params) => client.listResources(params, LIMIT), 'resources');
    assert(found.length > 0, 'no resources');
    const read = await client.readResource({ uri: found[0].uri }, LIMIT);
    assert(read.contents.length > 0, `${found[0].uri} is empty`);
  },
  async prompts({ client }, step) {
    const found = (await everything((params) => client.listPrompts(params, LIMIT), 'prompts')).map((one) => one.name);
    assert(found.includes(step.name), `${step.name} is not in ${found}`);
    const got = await client.getPrompt({ name: step.name }, LIMIT);
    assert(got.messages.length > 0, 'a prompt without messages');
  },
};

const kit = await (plan.sdk === 'sdk' ? older() : current());
const [command, ...args] = plan.command ?? [];
const transport = command
  ? new kit.StdioClientTransport({ command, args, env: plan.env, stderr: 'ignore' })
  : new kit.StreamableHTTPClientTransport(new URL(plan.url));
await kit.client.connect(transport, LIMIT);
kit.transport = transport;
for (const step of plan.steps) {
  const said = { step: step.title, ok: true };
  try {
    await STEPS[step.do](kit, step);
  } catch (error) {
    Object.assign(said, { ok: false, why: `${error.name} ${error.code ?? ''}: ${error.message}` });
  }
  console.log(JSON.stringify(said));
}
await kit.client.close();
process.exit(0);
