// The page: what the form does, what it says, and where the focus goes.
//
// Parameters in the page's address, for trying: `resumable` is the size in bytes from which on a
// file is uploaded in pieces, `chunk` the size of these.

import { Collection, capability, newId } from "./kinto.js";
import { nameOf, row, sizeInWords } from "./table.js";

const MIB = 1 << 20;
const API = new URL("../v1/", document.baseURI).href;
// The command that "make serve" prints uploads to it, too.
const COLLECTION = "files";
const QUARTERS = ["Nothing is", "A quarter is", "Half is", "Three quarters are", "All is"];

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const resumableFrom = Number(parameters.get("resumable") ?? 10 * MIB);
const chunkSize = Number(parameters.get("chunk")) || 5 * MIB;

let server = {};
let collection;
/** The record whose file is to be replaced, if it is not a new one. */
let replaced = null;
/** Aborts the upload that is under way, if there is one. */
let sending = null;
/** The quarter of the upload that was told last. */
let told = 0;
/** The URL of the list's next page, if there is one. */
let next = null;

function say(text) {
  $("problem").textContent = "";
  $("status").textContent = text;
}

function complain(text) {
  $("status").textContent = "";
  $("problem").textContent = text;
}

async function start() {
  $("user").value = sessionStorage.getItem("user") ?? $("user").value;
  $("password").value = sessionStorage.getItem("password") ?? $("password").value;
  try {
    server = await capability(API);
    await logIn();
  } catch (error) {
    complain(`Kinto is not ready: ${error.message}`);
  }
}

async function logIn() {
  sessionStorage.setItem("user", $("user").value);
  sessionStorage.setItem("password", $("password").value);
  collection = new Collection(API, COLLECTION, $("user").value, $("password").value);
  await showRecords();
}

/** Show the list anew. The focus stays where it was, or goes to the heading of the list. */
async function showRecords() {
  const focused = document.activeElement;
  const { id } = focused.closest("tr")?.dataset ?? {};
  const page = await collection.list();
  $("records").replaceChildren();
  showPage(page);
  if (id !== undefined) {
    const same = [...$("records").rows].find((each) => each.dataset.id === id);
    const { action } = focused.dataset;
    const equal = same?.querySelector(action ? `[data-action="${action}"]` : "a");
    (equal ?? $("files-title")).focus();
  }
}

function showPage(page) {
  const rows = page.records.map((record) =>
    row(record, server.base_url, { Replace: beginReplacing, Delete: remove }),
  );
  $("records").append(...rows);
  next = page.next;
  $("more").hidden = next === null;
  $("none").hidden = $("records").rows.length > 0;
}

async function showMore() {
  const page = await collection.list(next);
  const known = $("records").rows.length;
  showPage(page);
  $("records").rows[known]?.querySelector("a, button").focus();
  say(`${$("records").rows.length} files are shown.`);
}

function beginReplacing(record) {
  if (sending) {
    complain("Wait until the upload has ended, or cancel it.");
    return;
  }
  setReplaced(record);
  if ([...$("type").options].some((option) => option.value === record.type)) {
    $("type").value = record.type;
  }
  $("category").value = record.category ?? "";
  say(`Pick the file that replaces ${nameOf(record)}.`);
  $("upload").scrollIntoView();
  $("file").focus();
}

function setReplaced(record) {
  replaced = record;
  $("upload-title").textContent = record ? `Replace ${nameOf(record)}` : "Upload a file";
  $("send").textContent = record ? "Replace" : "Upload";
  $("cancel").hidden = record === null;
}

async function remove(record) {
  if (!confirm(`Delete ${nameOf(record)}?`)) {
    return;
  }
  try {
    await collection.remove(record);
    say(`${nameOf(record)} is deleted.`);
    if (replaced?.id === record.id && !sending) {
      setReplaced(null);
    }
  } catch (error) {
    if (error.status === 412) {
      complain(
        `${nameOf(record)} was changed by somebody else meanwhile, and is not deleted. ` +
          "The list shows what it is now.",
      );
    } else if (error.status === 404) {
      say(`${nameOf(record)} was deleted by somebody else before.`);
    } else {
      complain(`${nameOf(record)} is not deleted: ${error.message}`);
    }
  }
  await showRecords().catch(() => {});
}

async function send() {
  const [file] = $("file").files;
  const data = { type: $("type").value, category: $("category").value };
  const record = replaced ?? { id: newId() };
  if (server.resumable?.max_size && file.size > server.resumable.max_size) {
    complain(`${file.name} is too large: at most ${sizeInWords(server.resumable.max_size)}.`);
    return;
  }
  setSending(new AbortController());
  say(`${file.name} is being uploaded.`);
  try {
    await (server.resumable && file.size >= resumableFrom ? sendInChunks : sendAtOnce)(
      record,
      file,
      data,
    );
    say(`${file.name} is uploaded.`);
    $("upload").reset();
    setReplaced(null);
  } catch (error) {
    await explain(error, file);
  } finally {
    setSending(null);
  }
  // The message that is shown matters more than one that says that the list cannot be read.
  await showRecords().catch(() => {});
}

async function sendAtOnce(record, file, data) {
  const onProgress = (sent) => showProgress(file, sent);
  await collection.attach(record, file, data, { onProgress, signal: sending.signal });
}

async function sendInChunks(record, file, data) {
  const { signal } = sending;
  // Who picks the same file again after the page was closed goes on where it was.
  const what = [file.name, file.size, file.lastModified, data.type, data.category];
  const key = `upload ${JSON.stringify([collection.user, replaced, ...what])}`;
  const url = localStorage.getItem(key);
  const upload = collection.attachInChunks(record, file, data, { url, chunkSize, signal });
  upload.onCreated = (created) => localStorage.setItem(key, created);
  upload.onProgress = (sent) => showProgress(file, sent);
  upload.onWaiting = () => {
    say("The server cannot be reached. The upload goes on when it is back.");
    told = null;
  };
  try {
    await upload.run();
    localStorage.removeItem(key);
  } catch (error) {
    if (signal.aborted) {
      // What cannot be cancelled now expires on the server.
      await upload.cancel().catch(() => {});
    }
    if (signal.aborted || !error.passes) {
      localStorage.removeItem(key);
    }
    throw error;
  }
}

/** Say why an upload failed. The form is left as it is, so that it can be tried again. */
async function explain(error, file) {
  if (sending.signal.aborted) {
    say(`The upload of ${file.name} is cancelled.`);
  } else if (replaced && [404, 412].includes(error.status)) {
    const name = nameOf(replaced);
    const current = await collection.get(replaced.id).catch(() => replaced);
    setReplaced(current);
    complain(
      current
        ? `${name} was changed by somebody else meanwhile, and is not replaced. The list shows ` +
            `what it is now. Press Replace again to replace it with ${file.name} all the same.`
        : `${name} was deleted by somebody else meanwhile. Press Upload to upload ${file.name} ` +
            "as a new file.",
    );
  } else {
    complain(`${file.name} is not uploaded; you can try again. ${error.message}`);
  }
}

function setSending(controller) {
  const hadFocus = $("upload").contains(document.activeElement);
  sending = controller;
  $("fields").disabled = sending !== null;
  $("cancel").hidden = sending === null && replaced === null;
  $("progress").hidden = sending === null;
  $("bar").value = 0;
  $("percent").textContent = "";
  told = 0;
  // What is disabled or hidden would lose the focus.
  if (hadFocus || document.activeElement === document.body) {
    $(sending ? "cancel" : "file").focus();
  }
}

function showProgress(file, sent) {
  const percent = file.size ? Math.floor((100 * sent) / file.size) : 100;
  $("bar").value = percent;
  $("percent").textContent = percent < 100 ? `${percent} %` : "Saving …";
  // More often would be a torment to those who have it read out.
  const quarter = Math.floor(percent / 25);
  if (quarter !== told) {
    told = quarter;
    say(`${QUARTERS[quarter]} sent of ${file.name}.`);
  }
}

function cancel() {
  if (sending) {
    sending.abort();
  } else {
    $("upload").reset();
    say(`${nameOf(replaced)} is not replaced.`);
    setReplaced(null);
    $("file").focus();
  }
}

function pickDropped({ dataTransfer: { files } }) {
  if (sending) {
    complain("Wait until the upload has ended, or cancel it.");
  } else if (files.length > 1) {
    complain("One file at a time, please.");
  } else {
    $("file").files = files;
    say(`${files[0].name} is picked.`);
    $("type").focus();
  }
}

/** A listener that says what went wrong, whatever it is. */
function reporting(action) {
  return async (event) => {
    event.preventDefault();
    try {
      await action(event);
    } catch (error) {
      complain(`This did not work: ${error.message}`);
    }
  };
}

const hasFile = (event) => event.dataTransfer.types.includes("Files");

$("login").addEventListener(
  "submit",
  reporting(async () => {
    await logIn();
    say(`These are the files of ${collection.user}.`);
  }),
);
$("upload").addEventListener("submit", reporting(send));
$("cancel").addEventListener("click", cancel);
$("more").addEventListener("click", reporting(showMore));
// A browser would leave the page for a file that is dropped beside the form.
addEventListener("dragover", (event) => {
  if (hasFile(event)) {
    event.preventDefault();
    $("drop").classList.add("target");
  }
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) {
    $("drop").classList.remove("target");
  }
});
addEventListener("drop", (event) => {
  $("drop").classList.remove("target");
  if (hasFile(event)) {
    event.preventDefault();
    pickDropped(event);
  }
});
addEventListener("beforeunload", (event) => {
  if (sending) {
    event.preventDefault();
  }
});

start();
