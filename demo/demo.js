// The page: who looks at it, and the list of what is there.
//
// Parameters in the page's address, for trying: `resumable` is the size in bytes from which on a
// file is uploaded in pieces, `chunk` the size of these.

import { UploadForm } from "./form.js";
import { Collection, capability } from "./kinto.js";
import { $, complain, reporting, say } from "./page.js";
import { nameOf, row } from "./table.js";

const MIB = 1 << 20;
const API = new URL("../v1/", document.baseURI).href;
// The command that "make serve" prints uploads to it, too.
const COLLECTION = "files";

const parameters = new URLSearchParams(location.search);
const form = new UploadForm({
  resumableFrom: Number(parameters.get("resumable") ?? 10 * MIB),
  chunkSize: Number(parameters.get("chunk")) || 5 * MIB,
  // What the form has said matters more than that the list cannot be read.
  onEnd: () => showRecords().catch(() => {}),
});

let server = {};
let collection;
/** The URL of the list's next page, if there is one. */
let next = null;

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
  form.uploadTo(collection, server);
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
  const actions = { Replace: (record) => form.replace(record), Delete: remove };
  $("records").append(...page.records.map((record) => row(record, server.base_url, actions)));
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

async function remove(record) {
  if (!confirm(`Delete ${nameOf(record)}?`)) {
    return;
  }
  try {
    await collection.remove(record);
    say(`${nameOf(record)} is deleted.`);
    form.forget(record);
  } catch (error) {
    if (error.status === 412) {
      complain(
        `${nameOf(record)} was changed by somebody else meanwhile, and is not deleted. ` +
          "The list shows its current version.",
      );
    } else if (error.status === 404) {
      say(`${nameOf(record)} had already been deleted.`);
      form.forget(record);
    } else {
      complain(`${nameOf(record)} is not deleted: ${error.message}`);
    }
  }
  await showRecords().catch(() => {});
}

$("login").addEventListener(
  "submit",
  reporting(async () => {
    await logIn();
    say(`These are the files of ${collection.user}.`);
  }),
);
$("more").addEventListener("click", reporting(showMore));

start();
