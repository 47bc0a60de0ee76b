// The photos of this tab, what is known of each, and which of them are shown in what order.

import { once } from "./parts.js";
import { answered } from "./words.js";

export class Batch extends EventTarget {
  photos = [];
  selected = null;
  shown = []; // those that the filter lets through, in their order
  find = "";
  kind = "";
  sort = "place";

  #next = 0;
  #tell = once(() => {
    this.#choose();
    this.dispatchEvent(new Event("change"));
  });

  add(files) {
    const added = files.map(({ file, name }) => ({
      id: this.#next++,
      file,
      name,
      state: "waiting", // or asking, named, failed, stopped
      record: null,
      asked: null, // {model, top, sure} that the record answers
      error: null,
      took: null,
      tries: 0,
      small: undefined, // a thumbnail as a blob; null where the browser cannot make one
    }));
    for (const photo of added) this.photos.push(photo);
    this.changed();
    return added;
  }

  clear() {
    this.photos = [];
    this.shown = [];
    this.selected = null;
    this.changed();
  }

  select(photo) {
    if (photo === this.selected) return;
    this.selected = photo;
    this.changed();
  }

  /** Something of a photo is another now: in the next frame, whoever shows it is told. */
  changed() {
    this.#tell();
  }

  arrange({ find = this.find, kind = this.kind, sort = this.sort }) {
    Object.assign(this, { find: find.trim().toLocaleLowerCase(), kind, sort });
    this.changed();
  }

  count(...states) {
    return this.photos.reduce((count, photo) => count + states.includes(photo.state), 0);
  }

  #choose() {
    const { find, kind } = this;
    const found = this.photos.filter(
      (photo) => (!kind || kindOf(photo) === kind) && (!find || textOf(photo).includes(find)),
    );
    const by = this.sort.replace("-", "");
    if (by !== "place") {
      const turn = this.sort.startsWith("-") ? -1 : 1;
      const values = new Map(found.map((photo) => [photo, VALUES[by](photo)]));
      found.sort((one, other) => compared(values.get(one), values.get(other), turn) || one.id - other.id);
    }
    this.shown = found;
  }
}

const names = new Intl.Collator("en", { numeric: true });
const VALUES = {
  file: (photo) => photo.name,
  name: (photo) => (photo.record && !photo.error ? answered(photo) : null),
  sure: (photo) => (photo.record && !photo.error ? photo.record.answer.probability : null),
  took: (photo) => photo.took,
};

/** The order of two values; what has none comes last, whichever way. */
function compared(one, other, turn) {
  if (one === null || other === null) return (one === null) - (other === null);
  return turn * (typeof one === "string" ? names.compare(one, other) : one - other);
}

function kindOf(photo) {
  if (photo.state === "failed") return "failed";
  return photo.state === "named" ? photo.record.answer.kind : "open";
}

function textOf(photo) {
  const said = photo.error || photo.record ? answered(photo) : "";
  const first = photo.record?.labels?.[0]?.name.replaceAll("_", " ") ?? "";
  return `${photo.name}\n${said}\n${first}`.toLocaleLowerCase();
}
