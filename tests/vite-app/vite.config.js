// A page that leaks, for the test that gives Vite a memory limit: GET /eat takes memory until somebody stops it.
const leak = {
  name: 'leak',
  configureServer(server) {
    const eaten = [];
    server.middlewares.use('/eat', () => {
      setInterval(() => eaten.push(Buffer.alloc(8 << 20, 1)), 5);
    });
  },
};

export default { plugins: [leak], clearScreen: false };
