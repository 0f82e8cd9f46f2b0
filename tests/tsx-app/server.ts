// A server that leaks: it has eaten its memory by the time that it is given, in milliseconds since 1970, or holds so
// many MiB and waits.
//
//   tsx server.ts until TIME
//   tsx server.ts hold MIB
const [mode, value]: string[] = process.argv.slice(2);
const MIB = 1 << 20;
const kept: Buffer[] = [];

if (mode === 'hold') {
  for (let mib = 0; mib < Number(value); mib += 4) kept.push(Buffer.alloc(4 * MIB, 1));
  console.log('holding');
  setInterval(() => {}, 60_000);
} else {
  const until: number = Number(value);
  setTimeout(() => setInterval(() => kept.push(Buffer.alloc(8 * MIB, 1)), 2), until - Date.now());
}
