// Shows one page after the other in a kiosk's browser, each in a tab of its own, and closes only every fourth.
"use strict";

const [port] = process.argv.slice(2);
const PAUSE_MS = 200;
const devtools = (method, path) => fetch(`http://127.0.0.1:${port}/json/${path}`, { method });

async function show(round, tabs) {
  const page = encodeURIComponent(`data:text/html,<h1>${round}</h1>`);
  const tab = await (await devtools("PUT", `new?${page}`)).json();
  tabs.push(tab.id);
  if (round % 4 === 0) await devtools("GET", `close/${tabs.shift()}`);
  console.log(`shown ${round}`);
}

(async () => {
  const tabs = [];
  // A kiosk would go on; this machine has other things to do.
  for (let round = 1; round <= 60; round += 1) {
    await show(round, tabs);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
})();
