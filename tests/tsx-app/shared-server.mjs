// What all tests talk to. It says its port to whoever started it, and leaks when it is told to.
import { createServer } from 'node:net';
import { leak } from './leak.mjs';

const server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1', () => {
  process.send(server.address().port);
});
process.on('message', leak);
