// Pages that leak, for the tests that give Vite a limit: GET /eat takes memory until somebody stops it, and
// GET /eat-heap takes what V8 may have for objects.
const leak = {
  name: 'leak',
  configureServer(server) {
    const eaten = [];
    server.middlewares.use('/eat', () => {
      setInterval(() => eaten.push(Buffer.alloc(8 << 20, 1)), 5);
    });
    server.middlewares.use('/eat-heap', () => {
      setInterval(() => eaten.push(Array.from({ length: 1 << 16 }, (_, number) => ({ number }))), 5);
    });
  },
};

export default { plugins: [leak], clearScreen: false };
