// LangChain JS: `MultiServerMCPClient`.

import { MultiServerMCPClient } from '@langchain/mcp-adapters';
import { ARGUMENTS, listed, run } from './trial.mjs';

await run(async (url, headers, wanted) => {
  const client = new MultiServerMCPClient({ mcpServers: { trial: { transport: 'http', url, headers } } });
  const tools = await client.getTools();
  listed(tools.map((tool) => tool.name));
  return tools.find((tool) => tool.name === wanted).invoke(ARGUMENTS);
});
