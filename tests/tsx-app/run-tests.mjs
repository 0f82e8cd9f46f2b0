// A pool of test workers, one process for each test file, as vitest's forks are, around a server that all of them share.
// First the worker of report.test.mjs fills its heap; when it is gone, the server does.
//
//   run-tests.mjs WORKERS
import { fork } from 'node:child_process';

const heapOf64 = '--max-old-space-size=64';
const server = fork('shared-server.mjs', [], {
  env: { ...process.env, NODE_OPTIONS: heapOf64 },
  stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
});
server.once('message', async (port) => {
  const worker = (name, options = {}) =>
    fork('worker.mjs', [`tests/${name}.test.mjs`, String(port)], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      ...options,
    });
  const done = (child) => new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
  const connected = (child) => new Promise((resolve) => child.once('message', resolve));

  const names = Array.from({ length: Number(process.argv[2]) }, (_, number) => `session-${number + 1}`);
  const sessions = names.map((name) => worker(name));
  await Promise.all(sessions.map(connected));
  const report = worker('report', { execArgv: [heapOf64] });
  console.log('report', report.pid, JSON.stringify(await done(report)));

  const ends = sessions.map(async (session) => `session ${session.pid} ${JSON.stringify(await done(session))}`);
  const end = done(server);
  server.send('leak');
  console.log('server', server.pid, JSON.stringify(await end));
  for (const line of await Promise.all(ends)) console.log(line);
  process.exit(1);
});
