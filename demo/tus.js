// A client for resumable uploads: https://tus.io/protocols/resumable-upload, version 1.0.0.

const VERSION = "1.0.0";
// In seconds, between one failure and the next try. Any progress starts again from the first.
const DELAYS = [1, 2, 4, 8, 15, 30, 30, 30];

/** The server, or the way to it, has failed. `status` is that of HTTP; 0 without an answer. */
export class TusError extends Error {
  constructor(message, status = 0, seconds = 0) {
    super(message);
    this.status = status;
    /** How long the server asks to be left alone. */
    this.seconds = seconds;
  }

  /** Whether it may go well when it is tried again. */
  get passes() {
    // 507: a quota is exceeded, until somebody deletes something.
    return [0, 409, 423, 429].includes(this.status) || (this.status >= 500 && this.status !== 507);
  }
}

/** `text` in UTF-8 in Base64. */
export function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/**
 * An upload of `file` in pieces of `chunkSize` bytes, which goes on after the connection was lost.
 *
 * `endpoint` is the URL that creates uploads, `url` that of one that was begun before, if any.
 * `headers` go with every request, `conditions` are further ones of the creation. `metadata` are
 * texts by their keys. `signal` is that of an AbortController.
 */
export class TusUpload {
  #file;
  #options;
  #wasBegun;

  constructor(file, { url = null, ...options }) {
    this.#file = file;
    this.#options = { headers: {}, conditions: {}, metadata: {}, ...options };
    this.#wasBegun = url !== null;
    this.url = url;
    /** Called with the URL of the upload, which may be gone on with later. */
    this.onCreated = () => {};
    /** Called with the number of bytes that the server has. */
    this.onProgress = () => {};
    /** Called with the error, before the next try. */
    this.onWaiting = () => {};
  }

  /**
   * Send what the server has not got yet. Rejects with a `TusError` if the server refuses, or
   * if nothing was heard of it for about two minutes; with the signal's reason if it was aborted.
   */
  async run() {
    let offset = null;
    let reached = -1;
    let failures = 0;
    for (;;) {
      try {
        offset = await this.#advance(offset);
        if (offset > reached) {
          reached = offset;
          failures = 0;
          this.onProgress(offset);
        }
        if (offset >= this.#file.size) {
          return;
        }
      } catch (error) {
        if (this.#wasBegun && [404, 410].includes(error.status)) {
          this.url = null;
          this.#wasBegun = false;
        } else if (error.passes && failures < DELAYS.length) {
          this.onWaiting(error);
          await this.#wait(Math.max(DELAYS[failures], error.seconds));
          failures += 1;
        } else {
          throw error;
        }
        // The server may have got more than it could say.
        offset = null;
      }
    }
  }

  /** Tell the server to forget what it has. */
  async cancel() {
    if (this.url !== null) {
      const headers = { ...this.#options.headers, "Tus-Resumable": VERSION };
      await fetch(this.#own(this.url), { method: "DELETE", headers, redirect: "error" });
    }
  }

  async #advance(offset) {
    if (this.url === null) {
      return this.#create();
    }
    if (offset === null) {
      return offsetOf(await this.#request("HEAD", this.url));
    }
    const chunk = this.#file.slice(offset, offset + this.#options.chunkSize);
    const headers = {
      "Content-Type": "application/offset+octet-stream",
      "Upload-Offset": String(offset),
    };
    return offsetOf(await this.#request("PATCH", this.url, headers, chunk));
  }

  /** `url`, unless the server has sent us to another one: that gets neither file nor password. */
  #own(url) {
    const { endpoint } = this.#options;
    if (new URL(url, endpoint).origin !== new URL(endpoint).origin) {
      throw new TusError(`The server names ${url} for the file, which is not its own address.`, 400);
    }
    return url;
  }

  async #create() {
    const { endpoint, conditions, metadata } = this.#options;
    const pairs = Object.entries(metadata).map(([key, text]) => `${key} ${base64(text)}`);
    const response = await this.#request("POST", endpoint, {
      ...conditions,
      "Upload-Length": String(this.#file.size),
      "Upload-Metadata": pairs.join(","),
    });
    this.url = this.#own(new URL(response.headers.get("Location"), endpoint).href);
    this.onCreated(this.url);
    return 0;
  }

  async #request(method, url, headers = {}, body = undefined) {
    const { signal } = this.#options;
    const all = { ...this.#options.headers, "Tus-Resumable": VERSION, ...headers };
    let response;
    const options = { method, headers: all, body, signal, cache: "no-store", redirect: "manual" };
    this.#own(url);
    try {
      response = await fetch(url, options);
    } catch (error) {
      signal?.throwIfAborted();
      throw new TusError(error.message);
    }
    if (response.type === "opaqueredirect") {
      throw new TusError("The server redirects uploads to another address.", 400);
    }
    if (!response.ok) {
      const said = await response.json().catch(() => ({}));
      const seconds = Number(response.headers.get("Retry-After")) || 0;
      throw new TusError(said.message ?? response.statusText, response.status, seconds);
    }
    return response;
  }

  /** Wait for so many seconds, or until the browser is connected again. */
  #wait(seconds) {
    const { signal } = this.#options;
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const end = (settle) => (value) => {
        done.abort();
        clearTimeout(timer);
        settle(value);
      };
      const timer = setTimeout(end(resolve), seconds * 1000);
      addEventListener("online", end(resolve), { signal: done.signal });
      signal?.addEventListener("abort", () => end(reject)(signal.reason), { signal: done.signal });
    });
  }
}

function offsetOf(response) {
  return Number(response.headers.get("Upload-Offset"));
}
