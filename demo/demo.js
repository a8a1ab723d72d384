// The page: who looks at it, and the list of what is there.
//
// Parameters in the page's address, for trying: `resumable` is the size in bytes from which on a
// file is uploaded in pieces, `chunk` the size of these.

import { UploadForm } from "./form.js";
import { Collection, capability, privateCollection } from "./kinto.js";
import { $, complain, reporting, say } from "./page.js";
import { nameOf, row } from "./table.js";

const MIB = 1 << 20;
const API = new URL("../v1/", document.baseURI).href;
// The command that "make serve" prints uploads to it, too.
const PUBLIC = "buckets/default/collections/files";
// Files of this bucket are private: config/development.ini.
const PRIVATE_BUCKET = "private";

const parameters = new URLSearchParams(location.search);
const form = new UploadForm({
  resumableFrom: Number(parameters.get("resumable") ?? 10 * MIB),
  chunkSize: Number(parameters.get("chunk")) || 5 * MIB,
  // What the form has said matters more than that the list cannot be read.
  onEnd: () => showRecords().catch(() => {}),
});

/** What the plugin says of itself, once it has answered. */
let server;
/** The last login: an earlier one may be answered later, and counts no more. */
let login;
let publicFiles;
let privateFiles;
/** The one of them that is shown, and uploaded to. */
let collection;
/** The last reading of the list from its beginning: an earlier one may be answered later. */
let reading;
/** The URL of the list's next page, if there is one. */
let next = null;

async function start() {
  $("user").value = sessionStorage.getItem("user") ?? $("user").value;
  $("password").value = sessionStorage.getItem("password") ?? $("password").value;
  try {
    await logIn();
  } catch (error) {
    complain(`Kinto is not ready: ${error.message}`);
  }
}

/** Turn to the files of the user in the form. Gives `false` if another login came meanwhile. */
async function logIn() {
  const own = (login = Symbol("login"));
  const isLast = () => login === own;
  const user = [$("user").value, $("password").value];
  sessionStorage.setItem("user", user[0]);
  sessionStorage.setItem("password", user[1]);
  try {
    server ??= await capability(API);
    const hasPrivate = server.private !== undefined;
    const path = hasPrivate ? await privateCollection(API, PRIVATE_BUCKET, ...user) : null;
    if (isLast()) {
      publicFiles = new Collection(API, PUBLIC, ...user);
      privateFiles = hasPrivate ? new Collection(API, path, ...user) : null;
      $("private-field").hidden = !hasPrivate;
      await choose();
    }
  } catch (error) {
    if (isLast()) {
      throw error;
    }
  }
  return isLast();
}

/** Turn to the user's public or private files: at once, so that no private file goes astray. */
async function choose() {
  const isPrivate = $("private").checked;
  collection = isPrivate ? privateFiles : publicFiles;
  form.uploadTo(collection, server);
  $("files-title").textContent = isPrivate ? "Private files" : "Files";
  await showRecords();
}

/** Show the list anew. The focus stays where it was, or goes to the heading of the list. */
async function showRecords() {
  const focused = document.activeElement;
  const { id } = focused.closest("tr")?.dataset ?? {};
  reading = Symbol("reading");
  const page = await read();
  if (page === null) {
    return;
  }
  $("records").replaceChildren();
  showPage(page);
  if (id !== undefined) {
    const same = [...$("records").rows].find((each) => each.dataset.id === id);
    const { action } = focused.dataset;
    const equal = same?.querySelector(action ? `[data-action="${action}"]` : "a");
    (equal ?? $("files-title")).focus();
  }
}

/** A page of records, with the addresses of their files; `null` if the list was read anew
 * meanwhile. */
async function read(url) {
  const own = reading;
  const of = collection;
  const { records, next } = await of.list(url);
  const links = of === privateFiles ? await of.links(records) : new Map();
  const address = ({ id, attachment }) => links.get(id) ?? attachment?.location;
  const rows = records.map((record) => [record, address(record)]);
  return own === reading ? { next, rows } : null;
}

function showPage(page) {
  const actions = { Replace: (record) => form.replace(record), Delete: remove };
  const shown = page.rows.map(([record, url]) => row(record, url, server.base_url, actions));
  $("records").append(...shown);
  next = page.next;
  $("more").hidden = next === null;
  $("none").hidden = $("records").rows.length > 0;
}

async function showMore() {
  const page = await read(next);
  if (page === null) {
    return;
  }
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
    if (await logIn()) {
      say(`These are the files of ${collection.user}.`);
    }
  }),
);
$("private").addEventListener(
  "change",
  reporting(async () => {
    await choose();
    say(
      collection === privateFiles
        ? `These are the private files of ${collection.user}: nobody else can read them.`
        : `These are the files of ${collection.user}: whoever knows the address of one can read it.`,
    );
  }),
);
$("more").addEventListener("click", reporting(showMore));

start();
