// The form: the file that is picked, whose file it replaces, and how far its upload is.

import { newId } from "./kinto.js";
import { $, complain, reporting, say } from "./page.js";
import { nameOf, sizeInWords } from "./table.js";

const QUARTERS = ["Nothing is", "A quarter is", "Half is", "Three quarters are", "All is"];
const WAIT = "Wait until the upload has ended, or cancel it.";

const hasFile = (event) => event.dataTransfer.types.includes("Files");

/**
 * `uploadTo` says where uploads go. A file of `resumableFrom` bytes or more is uploaded in pieces
 * of `chunkSize` bytes, where the server can. `onEnd` is called after each upload, however it
 * ended.
 */
export class UploadForm {
  #options;
  #server = {};
  #collection;
  /** The record whose file is to be replaced, if it is not a new one. */
  #replaced = null;
  /** Aborts the upload that is under way, if there is one. */
  #sending = null;
  /** The quarter of the upload that was told last. */
  #told = 0;

  constructor(options) {
    this.#options = options;
    $("upload").addEventListener(
      "submit",
      reporting(() => this.#send()),
    );
    $("cancel").addEventListener("click", () => this.#cancel());
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
        this.#pickDropped(event);
      }
    });
    addEventListener("beforeunload", (event) => {
      if (this.#sending) {
        event.preventDefault();
      }
    });
  }

  /** `server` is what the plugin says of itself. */
  uploadTo(collection, server) {
    this.#collection = collection;
    this.#server = server;
    if (!this.#sending) {
      this.#setReplaced(null);
    }
  }

  /** The next file replaces that of `record`. */
  replace(record) {
    if (this.#sending) {
      complain(WAIT);
      return;
    }
    this.#setReplaced(record);
    if ([...$("type").options].some((option) => option.value === record.type)) {
      $("type").value = record.type;
    }
    $("category").value = record.category ?? "";
    say(`Pick the file that replaces ${nameOf(record)}.`);
    $("upload").scrollIntoView();
    $("file").focus();
  }

  /** `record` is gone: no file replaces its file any more. */
  forget(record) {
    if (this.#replaced?.id === record.id && !this.#sending) {
      this.#setReplaced(null);
    }
  }

  async #send() {
    const [file] = $("file").files;
    const data = { type: $("type").value, category: $("category").value };
    const record = this.#replaced ?? { id: newId() };
    const { resumable } = this.#server;
    if (resumable?.max_size && file.size > resumable.max_size) {
      complain(`${file.name} is too large: at most ${sizeInWords(resumable.max_size)}.`);
      return;
    }
    this.#setSending(new AbortController());
    say(`${file.name} is being uploaded.`);
    try {
      if (resumable && file.size >= this.#options.resumableFrom) {
        await this.#sendInChunks(record, file, data);
      } else {
        await this.#sendAtOnce(record, file, data);
      }
      say(`${file.name} is uploaded.`);
      $("upload").reset();
      this.#setReplaced(null);
    } catch (error) {
      await this.#explain(error, file);
    } finally {
      this.#setSending(null);
    }
    await this.#options.onEnd();
  }

  async #sendAtOnce(record, file, data) {
    const onProgress = (sent) => this.#showProgress(file, sent);
    await this.#collection.attach(record, file, data, {
      onProgress,
      signal: this.#sending.signal,
    });
  }

  async #sendInChunks(record, file, data) {
    const { signal } = this.#sending;
    const { chunkSize } = this.#options;
    // Who picks the same file again after the page was closed goes on where it was.
    const what = [file.name, file.size, file.lastModified, data.type, data.category];
    const where = [this.#collection.url, this.#collection.user, this.#replaced];
    const key = `upload ${JSON.stringify([...where, ...what])}`;
    const url = localStorage.getItem(key);
    const upload = this.#collection.attachInChunks(record, file, data, { url, chunkSize, signal });
    upload.onCreated = (created) => localStorage.setItem(key, created);
    upload.onProgress = (sent) => this.#showProgress(file, sent);
    upload.onWaiting = () => {
      say("The server cannot be reached. The upload goes on when it is back.");
      this.#told = null;
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
  async #explain(error, file) {
    const replaced = this.#replaced;
    if (this.#sending.signal.aborted) {
      say(`The upload of ${file.name} is cancelled.`);
    } else if (replaced && [404, 412].includes(error.status)) {
      const name = nameOf(replaced);
      const current = await this.#collection.get(replaced.id).catch(() => replaced);
      this.#setReplaced(current);
      complain(
        current
          ? `${name} was changed by somebody else meanwhile, and is not replaced. The list shows ` +
              `its current version. To replace it with ${file.name} anyway, press Replace again.`
          : `${name} was deleted by somebody else meanwhile. To upload ${file.name} as a new ` +
              "file, press Upload.",
      );
    } else if (error.status === 507) {
      complain(`${file.name} is not uploaded, since the space is used up: ${error.message}`);
    } else {
      // A file that is refused is refused again.
      const mayPass = error.status === 0 || error.status >= 500;
      const advice = mayPass ? " You can try again." : "";
      complain(`${file.name} is not uploaded: ${error.message}${advice}`);
    }
  }

  #setReplaced(record) {
    this.#replaced = record;
    $("upload-title").textContent = record ? `Replace ${nameOf(record)}` : "Upload a file";
    $("send").textContent = record ? "Replace" : "Upload";
    $("cancel").hidden = record === null;
  }

  #setSending(controller) {
    const hadFocus = $("upload").contains(document.activeElement);
    this.#sending = controller;
    $("fields").disabled = controller !== null;
    $("cancel").hidden = controller === null && this.#replaced === null;
    $("progress").hidden = controller === null;
    $("bar").value = 0;
    $("percent").textContent = "";
    this.#told = 0;
    // What is disabled or hidden would lose the focus.
    if (hadFocus || document.activeElement === document.body) {
      $(controller ? "cancel" : "file").focus();
    }
  }

  #showProgress(file, sent) {
    const percent = file.size ? Math.floor((100 * sent) / file.size) : 100;
    $("bar").value = percent;
    $("percent").textContent = percent < 100 ? `${percent} %` : "Saving …";
    // More often would be a torment to those who have it read out.
    const quarter = Math.floor(percent / 25);
    if (quarter !== this.#told) {
      this.#told = quarter;
      say(`${QUARTERS[quarter]} sent of ${file.name}.`);
    }
  }

  #cancel() {
    if (this.#sending) {
      this.#sending.abort();
    } else {
      $("upload").reset();
      say(`${nameOf(this.#replaced)} is not replaced.`);
      this.#setReplaced(null);
      $("file").focus();
    }
  }

  #pickDropped({ dataTransfer: { files } }) {
    if (this.#sending) {
      complain(WAIT);
    } else if (files.length > 1) {
      complain("One file at a time, please.");
    } else {
      $("file").files = files;
      say(`${files[0].name} is picked.`);
      $("type").focus();
    }
  }
}
