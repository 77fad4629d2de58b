// A bridge between the gateway and browsers: a page that shows the events of a task as they happen.
//
// Node 22, no packages: `node server.mjs`, then http://127.0.0.1:8200/?task=ID. The key stays in this process.
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const GATEWAY = (process.env.MCP_GATEWAY_URL ?? "http://127.0.0.1:8100").replace(/\/+$/, "");
const PORT = Number(process.env.PORT ?? 8200);
const KEY = process.env.MCP_KEY;
const HEADERS = { Accept: "text/event-stream", ...(KEY ? { "X-MCP-Key": KEY } : { "X-Agent-Id": "viewer" }) };
const PAUSE = 1000;

const PAGE = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Events of a task</title>
<style>
  body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }
  table { border-collapse: collapse; }
  td, th { text-align: left; vertical-align: top; padding: 2px 12px 2px 0; border-bottom: 1px solid #ddd; }
  td:last-child { font-family: monospace; overflow-wrap: anywhere; }
</style>
<h1>Task <span id="task"></span></h1>
<form>Task <input name="task" required> <button>Show</button></form>
<p id="state">no task chosen</p>
<table><thead><tr><th>No.<th>Time<th>Agent<th>Event<th>Facts</thead><tbody id="events"></tbody></table>
<script src="/page.js"></script></html>
`;

const SCRIPT = `const task = new URLSearchParams(location.search).get("task");
const state = document.getElementById("state");
let last = 0;
function show(text) {
  const event = JSON.parse(text);
  if (event.seq <= last) return;
  const gap = event.seq > last + 1 ? " (events are missing before this one)" : "";
  last = event.seq;
  const row = document.getElementById("events").insertRow();
  const facts = JSON.stringify(event.data) + gap;
  for (const cell of [event.seq, new Date(event.at).toLocaleTimeString(), event.agent, event.kind, facts]) {
    row.insertCell().textContent = cell;
  }
}
if (task) {
  document.getElementById("task").textContent = task;
  document.forms[0].task.value = task;
  const source = new EventSource("/events?task=" + encodeURIComponent(task));
  source.onopen = () => { state.textContent = "connected"; };
  source.onerror = () => { state.textContent = "the bridge is away; connecting again"; };
  source.onmessage = (message) => show(message.data);
  source.addEventListener("bridge", (message) => { state.textContent = JSON.parse(message.data); });
}
`;

// Passes on the gateway's stream, and connects again after the last number, until the page is gone.
async function bridge(request, response, task) {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  const tell = (text) => response.write(`event: bridge\ndata: ${JSON.stringify(text)}\n\n`);
  let last = /^\d+$/.test(request.headers["last-event-id"]) ? request.headers["last-event-id"] : "0";
  while (!gone.signal.aborted) {
    let why = "the gateway is away";
    try {
      const url = `${GATEWAY}/v1/tasks/${encodeURIComponent(task)}/events`;
      const answer = await fetch(url, { headers: { ...HEADERS, "Last-Event-ID": last }, signal: gone.signal });
      if (!answer.ok) {
        why = `the gateway refuses: ${(await answer.json()).detail}`;
      } else {
        tell("connected");
        let rest = "";
        for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
          const blocks = (rest + piece).split("\n\n");
          rest = blocks.pop();
          for (const block of blocks) {
            const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
            const [id, data] = [field("id"), field("data")];
            if (!id || !data) response.write(":\n\n");
            else if (!response.write(`id: ${last = id}\ndata: ${data}\n\n`)) {
              await once(response, "drain", { signal: gone.signal });
            }
          }
        }
      }
    } catch (error) {
      if (gone.signal.aborted) return;
      console.error(`${task}: ${error.cause?.code ?? error.message}`);
    }
    tell(`${why}; trying again after event ${last}`);
    await sleep(PAUSE, undefined, { signal: gone.signal }).catch(() => {});
  }
}

createServer((request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  const send = (type, body, status = 200) => response.writeHead(status, {
    "Content-Type": `${type}; charset=utf-8`,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'",
  }).end(body);
  // Another name than these is a page elsewhere whose name leads here.
  if (![`127.0.0.1:${PORT}`, `localhost:${PORT}`].includes(request.headers.host)) return send("text/plain", "", 403);
  if (request.method !== "GET") return send("text/plain", "", 405);
  if (url.pathname === "/") return send("text/html", PAGE);
  if (url.pathname === "/page.js") return send("text/javascript", SCRIPT);
  if (url.pathname !== "/events") return send("text/plain", "not found\n", 404);
  const task = url.searchParams.get("task") ?? "";
  // The id becomes part of an address that is asked with the key.
  if (!/^[\w.:@-]+$/.test(task) || /^\.+$/.test(task)) return send("text/plain", "not the id of a task\n", 400);
  bridge(request, response, task);
}).on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
}).listen(PORT, "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT} shows tasks of ${GATEWAY}`));
