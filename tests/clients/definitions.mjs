// The official TypeScript clients as judges of definitions.
//
// Each line of standard input is {"kind", "legacy", "modern"}: JSON texts of a list result that holds one item,
// for a client of either era. Each is answered by a line that names each client with the reason of its refusal
// or null. It must lie beside the packages' node_modules.

import { createInterface } from 'node:readline';
import * as current from '@modelcontextprotocol/client';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';

const about = { name: 'judge', version: '1.0.0' };
const LISTS = {
  tools: 'listTools', resources: 'listResources', resourceTemplates: 'listResourceTemplates', prompts: 'listPrompts',
};

// A transport to a server that answers every list with the text of the moment.
class Server {
  constructor(revision) {
    this.revision = revision;
  }
  async start() {}
  async close() {
    this.onclose?.();
  }
  setProtocolVersion() {}
  async send({ id, method }) {
    if (id === undefined) return;
    const capabilities = { tools: {}, resources: {}, prompts: {} };
    const answers = {
      initialize: { protocolVersion: this.revision, capabilities, serverInfo: about },
      'server/discover': {
        resultType: 'complete', supportedVersions: [this.revision], capabilities, serverInfo: about, ttlMs: 0,
        cacheScope: 'private',
      },
    };
    const result = answers[method] ?? JSON.parse(this.text);
    setTimeout(() => this.onmessage?.({ jsonrpc: '2.0', id, result }), 0);
  }
}

async function connect(client, revision) {
  const server = new Server(revision);
  await client.connect(server);
  return { server, client };
}

const modes = (mode) => ({ versionNegotiation: { mode } });
const clients = {
  sdk: ['legacy', await connect(new Client(about), '2025-11-25')],
  'client legacy': ['legacy', await connect(new current.Client(about, modes('legacy')), '2025-11-25')],
  'client modern': ['modern', await connect(new current.Client(about, modes({ pin: '2026-07-28' })), '2026-07-28')],
};

async function verdict({ server, client }, kind, list) {
  server.text = list;
  try {
    const result = await client[LISTS[kind]](undefined, { timeout: 5000 });
    if (result[kind].length !== 1) return 'the definition is not in the list';
    // The client 2.x compiles an output schema before the call only.
    const compiled = client._compileOutputValidator?.(result[kind][0]);
    return compiled?.ok === false ? `its outputSchema does not compile: ${compiled.compileError}` : null;
  } catch (error) {
    return String(error.message ?? error).replaceAll(/\s+/g, ' ');
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const row = JSON.parse(line);
  const found = {};
  for (const [name, [era, connected]] of Object.entries(clients)) {
    found[name] = await verdict(connected, row.kind, row[era]);
  }
  console.log(JSON.stringify(found));
}
process.exit(0);
