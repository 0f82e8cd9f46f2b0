// Starts a server, and whoever follows its log. They do not notice that it dies.
"use strict";

const { fork, spawn } = require("node:child_process");

const server = fork("server.js", process.argv.slice(2));
spawn("tail", ["-n", "0", "-F", "runtime.log"], { stdio: "ignore" });
process.send("starting");
server.on("message", () => process.send("ready"));
server.on("exit", (code) => console.log(`the server exited with ${code}`));
