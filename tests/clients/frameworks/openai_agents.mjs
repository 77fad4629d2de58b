// OpenAI Agents JS: `MCPServerStreamableHttp`, and the tools as an agent gets them.

import { getAllMcpTools, MCPServerStreamableHttp } from '@openai/agents';
import { ARGUMENTS, listed, run } from './trial.mjs';

await run(async (url, headers, wanted) => {
  const server = new MCPServerStreamableHttp({ url, name: 'trial', requestInit: { headers } });
  await server.connect();
  const tools = await getAllMcpTools([server]);
  listed(tools.map((tool) => tool.name));
  return tools.find((tool) => tool.name === wanted).invoke(undefined, JSON.stringify(ARGUMENTS));
});
