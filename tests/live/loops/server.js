// Listens after the time that it takes to build what it serves.
"use strict";

const http = require("node:http");

const BUILD_MS = 300;

const server = http.createServer((_, response) => response.end("hello\n"));
server.on("error", (error) => {
  console.log(`${error.code}: ${error.message}`);
  process.exit(1);
});
// Whoever started it may be gone by then.
process.on("disconnect", () => {});
setTimeout(() => {
  server.listen({ host: "127.0.0.1", port: Number(process.argv[2]) }, () => process.connected && process.send("ready"));
}, BUILD_MS);
