// The requests to Kinto: a list of records, and their files.

import { TusUpload, base64 } from "./tus.js";

const PAGE = 50;

/** Kinto has refused, or does not answer (`status` 0). */
export class KintoError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** One user's records in a collection, whose `path` is below the URL of Kinto's `api`. */
export class Collection {
  #api;
  #url;
  #headers;

  constructor(api, path, user, password) {
    this.user = user;
    this.#api = api;
    this.#url = new URL(`${path}/records`, api).href;
    this.#headers = authorization(user, password);
  }

  get url() {
    return this.#url;
  }

  /** The last changed records, or those of the page at the URL `next`: `{ records, next }`. */
  async list(next = `${this.#url}?_sort=-last_modified&_limit=${PAGE}`) {
    const response = await this.#request("GET", next);
    return { records: (await response.json()).data, next: response.headers.get("Next-Page") };
  }

  /** The record, or `null` if there is none. */
  async get(id) {
    try {
      return (await (await this.#request("GET", this.#record(id))).json()).data;
    } catch (error) {
      if (error.status === 404) {
        return null;
      }
      throw error;
    }
  }

  /** Links to the files of `records`, by the records' ids, for who sends no password: `<img>`. */
  async links(records) {
    const shown = records.filter(({ attachment }) => attachment);
    if (shown.length === 0) {
      return new Map();
    }
    const paths = shown.map(({ id }) => new URL(`${this.#attachment(id)}/link`).pathname);
    const requests = paths.map((path) => ({ path }));
    const body = JSON.stringify({ defaults: { method: "POST" }, requests });
    const headers = { "Content-Type": "application/json" };
    const response = await this.#request("POST", new URL("batch", this.#api).href, headers, body);
    // Of a record that has lost its file meanwhile, there is none.
    const made = (await response.json()).responses.map((each) => each.body.url);
    return new Map(shown.map(({ id }, index) => [id, made[index]]));
  }

  /** Delete the record, and its file with it, unless somebody has changed it. */
  async remove(record) {
    await this.#request("DELETE", this.#record(record.id), conditions(record));
  }

  /**
   * Attach `file` to `record`, in one request. A record without `last_modified` has to be new.
   * `onProgress` is called with the number of bytes that were sent.
   */
  attach(record, file, data, { onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const body = new FormData();
      body.append("data", JSON.stringify(data));
      body.append("attachment", file);
      // fetch() does not tell how far an upload is.
      const request = new XMLHttpRequest();
      request.open("POST", this.#attachment(record.id));
      const headers = { ...this.#headers, ...conditions(record) };
      Object.entries(headers).forEach(([name, value]) => request.setRequestHeader(name, value));
      request.responseType = "json";
      request.upload.addEventListener("progress", ({ loaded, total }) =>
        // The form around the file is sent, too.
        onProgress(Math.min(file.size, Math.round((file.size * loaded) / total))),
      );
      request.addEventListener("load", () => {
        if (request.status < 300) {
          resolve();
        } else {
          const message = request.response?.message ?? request.statusText;
          reject(new KintoError(message, request.status));
        }
      });
      request.addEventListener("error", () => reject(lost()));
      request.addEventListener("abort", () => reject(signal.reason));
      signal.addEventListener("abort", () => request.abort());
      request.send(body);
    });
  }

  /** The same as a resumable upload; `url` is that of one that was begun before. */
  attachInChunks(record, file, data, { url, chunkSize, signal }) {
    const metadata = { filename: file.name, data: JSON.stringify(data) };
    if (file.type) {
      metadata.filetype = file.type;
    }
    return new TusUpload(file, {
      endpoint: this.#attachment(record.id),
      url,
      headers: this.#headers,
      conditions: conditions(record),
      metadata,
      chunkSize,
      signal,
    });
  }

  #record(id) {
    return `${this.#url}/${encodeURIComponent(id)}`;
  }

  #attachment(id) {
    return `${this.#record(id)}/attachment`;
  }

  #request(method, url, headers = {}, body = undefined) {
    if (new URL(url).origin !== new URL(this.#url).origin) {
      throw new KintoError(`The server names ${url}, which is not its own address.`);
    }
    return answer(url, { method, headers: { ...this.#headers, ...headers }, body });
  }
}

/** What the plugin says of itself at the `url` of Kinto's API. */
export async function capability(url) {
  const { capabilities } = await (await answer(url)).json();
  if (capabilities.attachments === undefined) {
    throw new KintoError("The plugin kinto-attachment is not enabled on this server.");
  }
  return capabilities.attachments;
}

/** The path of the user's own collection in the `bucket` of private files. It is created if there
 * is none. */
export async function privateCollection(api, bucket, user, password) {
  const headers = authorization(user, password);
  const root = await (await answer(api, { headers })).json();
  // A name that is different for each user: Kinto has one for the default bucket.
  const path = `buckets/${bucket}/collections/${root.user.bucket}`;
  try {
    const options = { method: "PUT", headers: { ...headers, "If-None-Match": "*" } };
    await answer(new URL(path, api).href, options);
  } catch (error) {
    if (error.status !== 412) {
      throw error;
    }
  }
  return path;
}

/** A UUID. crypto.randomUUID() is there only with HTTPS, or on one's own machine. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

async function answer(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { cache: "no-store", redirect: "error", ...options });
  } catch {
    throw lost();
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new KintoError(said.message ?? response.statusText, response.status);
  }
  return response;
}

function authorization(user, password) {
  return { Authorization: `Basic ${base64(`${user}:${password}`)}` };
}

function conditions({ last_modified: modified }) {
  return modified === undefined ? { "If-None-Match": "*" } : { "If-Match": `"${modified}"` };
}

function lost() {
  return new KintoError("The connection was lost.");
}
