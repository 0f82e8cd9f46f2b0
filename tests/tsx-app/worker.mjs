// Runs the tests of one file: those of report.test.mjs leak, the others wait for the server, and fail without it.
//
//   worker.mjs FILE PORT
import { connect } from 'node:net';
import { leak } from './leak.mjs';

const [file, port] = process.argv.slice(2);
if (file.endsWith('report.test.mjs')) leak();
const socket = connect(Number(port), '127.0.0.1', () => process.send('connected'));
socket.on('error', () => {});
socket.on('close', () => process.exit(1));
