// Uploads a file with tus-js-client, and prints how many seconds that took.

const fs = require("fs");
const { client, path, options } = JSON.parse(process.argv[2]);
const tus = require(client);

const start = performance.now();
new tus.Upload(fs.createReadStream(path), {
  ...options,
  onError(error) { throw error; },
  onSuccess() { console.log((performance.now() - start) / 1000); },
}).start();
