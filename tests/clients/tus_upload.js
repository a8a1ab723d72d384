// Uploads a file with tus-js-client, and prints the URL of the upload and the answers it got. It is
// aborted once the chunk that ends at `abortAt` is there. In the middle of the chunk that starts at
// `haltAt` it says so, and stands still until it reads something. It waits for `pause` milliseconds
// before each request.

const fs = require("fs");
const { PassThrough } = require("stream");
const { client, path, piped, storage, resume, abortAt, haltAt, pause, options } =
  JSON.parse(process.argv[2]);
const tus = require(client);

const answers = [];
let halted = false;
const finish = () => console.log(JSON.stringify({ url: upload.url, answers }));

function haltInTheMiddle(request, before) {
  const socket = request.getUnderlyingObject()?.socket;
  before ??= socket?.bytesWritten;
  if (socket && socket.bytesWritten - before > 1024 * 1024) {
    fs.writeSync(1, "halted\n");
    fs.readSync(0, Buffer.alloc(1));
  } else {
    setImmediate(haltInTheMiddle, request, before);
  }
}

const file = fs.createReadStream(path);
const upload = new tus.Upload(piped ? file.pipe(new PassThrough()) : file, {
  ...options,
  urlStorage: new tus.FileUrlStorage(storage),
  onBeforeRequest(request) {
    const starts = request.getMethod() === "PATCH" ? request.getHeader("Upload-Offset") : null;
    if (!halted && starts === String(haltAt)) {
      halted = true;
      haltInTheMiddle(request);
    }
    return new Promise((resolve) => setTimeout(resolve, pause ?? 0));
  },
  onAfterResponse(request, response) {
    const offset = Number(response.getHeader("Upload-Offset"));
    answers.push([request.getMethod(), response.getStatus(), offset]);
  },
  onChunkComplete(size, sent) {
    if (sent === abortAt) upload.abort().then(finish);
  },
  onError(error) { throw error; },
  onSuccess: finish,
});

async function main() {
  if (resume) {
    const [previous] = await upload.findPreviousUploads();
    upload.resumeFromPreviousUpload(previous);
  }
  upload.start();
}

main();
