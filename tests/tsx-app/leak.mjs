// Fills V8's heap with objects that are all in use.
const kept = [];

export function leak() {
  setInterval(() => kept.push(Array.from({ length: 1 << 16 }, (_, number) => ({ number }))), 1);
}
