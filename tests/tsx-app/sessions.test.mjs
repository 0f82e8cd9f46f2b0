// Tests that tidy up: they kill every session that is listed in a directory, whoever started it.
//
//   sessions.test.mjs DIRECTORY
import { readdirSync } from 'node:fs';

for (const pid of readdirSync(process.argv[2])) process.kill(Number(pid), 'SIGKILL');
