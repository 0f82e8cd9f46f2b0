// Keeps a development runtime alive, as people write it: what does not get ready in time is killed and started again.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");

const [port, rounds, target] = process.argv.slice(2);
/** A server takes longer to start than this, every time. */
const PATIENCE_MS = 100;
const PAUSE_MS = 50;

const log = fs.openSync("runtime.log", "a");
let exits = 0;

function start() {
  const runtime = spawn(process.execPath, ["runtime.js", port], {
    stdio: ["ignore", log, log, "ipc"],
    // A process group of its own, for whoever kills groups.
    detached: target === "group",
  });
  let health;
  runtime.on("message", (state) => {
    clearTimeout(health);
    if (state === "starting") health = setTimeout(() => kill(runtime), PATIENCE_MS);
  });
  runtime.on("exit", (code, signal) => {
    clearTimeout(health);
    exits += 1;
    console.log(`runtime ${runtime.pid} exited code=${code} signal=${signal}`);
    if (exits < Number(rounds)) setTimeout(start, PAUSE_MS);
    else console.log("giving up");
  });
}

function kill(runtime) {
  if (target === "group") process.kill(-runtime.pid, "SIGKILL");
  else runtime.kill("SIGKILL");
}

start();
