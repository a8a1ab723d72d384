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

/** One user's records in a collection of the default bucket, at the `url` of Kinto's API. */
export class Collection {
  #url;
  #headers;

  constructor(url, name, user, password) {
    this.user = user;
    this.#url = new URL(`buckets/default/collections/${name}/records`, url).href;
    this.#headers = { Authorization: `Basic ${base64(`${user}:${password}`)}` };
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

  #request(method, url, headers = {}) {
    if (new URL(url).origin !== new URL(this.#url).origin) {
      throw new KintoError(`The server names ${url}, which is not its own address.`);
    }
    return answer(url, { method, headers: { ...this.#headers, ...headers } });
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

function conditions({ last_modified: modified }) {
  return modified === undefined ? { "If-None-Match": "*" } : { "If-Match": `"${modified}"` };
}

function lost() {
  return new KintoError("The connection was lost.");
}
