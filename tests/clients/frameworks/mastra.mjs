// Mastra: `MCPClient`, the tools of one server without its name before theirs.

import { MCPClient } from '@mastra/mcp';
import { ARGUMENTS, listed, run } from './trial.mjs';

await run(async (url, headers, wanted) => {
  const client = new MCPClient({ servers: { trial: { url: new URL(url), requestInit: { headers } } } });
  const { toolsets, errors } = await client.listToolsetsWithErrors();
  if (errors.trial) throw new Error(errors.trial);
  listed(Object.keys(toolsets.trial));
  return toolsets.trial[wanted].execute(ARGUMENTS, {});
});
