// The table of records. What they hold is others': it is put in the page as text, never as HTML.

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** The name of the record's file, or its id. */
export function nameOf(record) {
  return String(record.attachment?.filename ?? record.id);
}

/** So many bytes, in words. */
export function sizeInWords(bytes) {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const format = { style: "unit", unit: UNITS[power], unitDisplay: power ? "short" : "long" };
  return new Intl.NumberFormat("en", { ...format, maximumFractionDigits: 1 }).format(
    bytes / 1000 ** power,
  );
}

/**
 * A row. The file is at `address`, a URL that may be relative to `base`. `actions` are functions of
 * the record by the words on their buttons.
 */
export function row(record, address, base, actions) {
  const element = make("tr", { role: "row" });
  element.dataset.id = record.id;
  const file = record.attachment ?? {};
  const url = webAddress(address, base);
  const cells = {
    Preview: preview(file, url),
    File: url ? link(url, nameOf(record)) : make("span", {}, nameOf(record)),
    Type: text(record.type),
    Category: text(record.category),
    Size: Number.isFinite(file.size) ? sizeInWords(file.size) : "",
    Changed: time(record.last_modified),
    Actions: buttons(record, actions),
  };
  for (const [label, content] of Object.entries(cells)) {
    const isName = label === "File";
    const cell = isName
      ? make("th", { role: "rowheader", scope: "row" })
      : make("td", { role: "cell" });
    cell.dataset.label = label;
    cell.classList.toggle("empty", content === "");
    cell.append(content);
    element.append(cell);
  }
  return element;
}

/** An element with attributes, and a text in it. */
function make(name, attributes = {}, content = "") {
  const element = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  element.textContent = content;
  return element;
}

function text(value) {
  return value === undefined || value === null ? "" : String(value);
}

/** The URL of a file, or `null` if it is not one of the web: `javascript:` is a URL, too. */
function webAddress(address, base) {
  if (typeof address !== "string" || !URL.canParse(address, base || undefined)) {
    return null;
  }
  const url = new URL(address, base || undefined);
  return ["http:", "https:"].includes(url.protocol) ? url.href : null;
}

function link(href, name) {
  return make("a", { href, target: "_blank", rel: "noopener noreferrer" }, name);
}

function preview(file, url) {
  if (url === null || !String(file.mimetype).startsWith("image/")) {
    return "";
  }
  // The name stands beside it.
  const image = make("img", { alt: "", loading: "lazy", width: "56", height: "56" });
  image.addEventListener("error", () => image.remove());
  image.src = url;
  return image;
}

function time(milliseconds) {
  const date = new Date(milliseconds);
  const format = { dateStyle: "medium", timeStyle: "short" };
  const words = new Intl.DateTimeFormat("en", format).format(date);
  return make("time", { datetime: date.toISOString() }, words);
}

function buttons(record, actions) {
  const group = make("div", { class: "actions" });
  for (const [word, action] of Object.entries(actions)) {
    const button = make("button", { type: "button" }, word);
    // Read alone, a row of equal buttons does not say of which file they are.
    button.append(make("span", { class: "unseen" }, ` ${nameOf(record)}`));
    button.dataset.action = word;
    button.addEventListener("click", () => action(record));
    group.append(button);
  }
  return group;
}
