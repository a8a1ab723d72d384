// Runs @tus/server with its file store, and prints the URL at which uploads are created.

const [server, store, directory] = process.argv.slice(2);
const { Server } = require(server);
const { FileStore } = require(store);

const tus = new Server({ path: "/files", datastore: new FileStore({ directory }) });
const listening = tus.listen({ host: "127.0.0.1", port: 0 }, () => {
  console.log(`http://127.0.0.1:${listening.address().port}/files`);
});
