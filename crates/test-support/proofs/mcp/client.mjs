// The official client of the protocol against `stakpak mcp serve` or `/v1/mcp`: lists, calls, is refused, is cancelled.
// The test that runs it gives the place and reads one JSON document.

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { PROOF_COMMAND, PROOF_URL, PROOF_TOKEN, PROOF_HOME, PATH } = process.env;

const transport = PROOF_URL
  ? new StreamableHTTPClientTransport(new URL(PROOF_URL), {
      requestInit: { headers: { Authorization: `Bearer ${PROOF_TOKEN}` } },
    })
  : new StdioClientTransport({
      command: PROOF_COMMAND,
      args: ["mcp", "serve"],
      env: { HOME: PROOF_HOME, PATH },
      cwd: PROOF_HOME,
      stderr: "inherit",
    });

const client = new Client({ name: "proof", version: "1" });
await client.connect(transport);
const call = async (name, args, options) => {
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  return { text: result.content[0].text, isError: result.isError ?? false };
};

const told = [];
const heard = await call(
  "run_command",
  { command: "echo heard; until [ -e told ]; do sleep 0.05; done; rm told; echo all" },
  {
    onprogress: (progress) => {
      if (told.push(progress.message) === 1) return writeFile(`${PROOF_HOME}/told`, "");
    },
  },
);
const cancel = new AbortController();
const cancelled = call("run_command", { command: "echo $$ > new; mv new pid; exec sleep 1000" }, { signal: cancel.signal });
const afterCancel = async () => {
  while (!existsSync(`${PROOF_HOME}/pid`)) await sleep(20);
  cancel.abort("not wanted");
  return cancelled;
};

console.log(
  JSON.stringify({
    server: client.getServerVersion().name,
    tools: (await client.listTools()).tools.map((tool) => tool.name),
    schema: (await client.listTools()).tools.find((tool) => tool.name === "run_command").inputSchema.type,
    pong: await client.ping(),
    heard,
    told: told.join(""),
    view: await call("view", { path: "notes" }),
    refused: await call("create", { path: "made", file_text: "x" }),
    unknown: await call("evil__view", { path: "notes" }),
    invalid: await call("view", { path: 7 }),
    cancelled: await afterCancel().then(
      () => "answered",
      (error) => String(error),
    ),
  }),
);
if (PROOF_URL) await transport.terminateSession();
await client.close();
