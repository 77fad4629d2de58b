// AI SDK: `createMCPClient`.

import { createMCPClient } from '@ai-sdk/mcp';
import { ARGUMENTS, listed, run } from './trial.mjs';

await run(async (url, headers, wanted) => {
  const client = await createMCPClient({ transport: { type: 'http', url, headers } });
  const tools = await client.tools();
  listed(Object.keys(tools));
  return tools[wanted].execute(ARGUMENTS, { toolCallId: '1', messages: [] });
});
