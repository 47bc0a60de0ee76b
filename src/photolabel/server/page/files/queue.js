// Has photos named, a few at once; waits where the service asks for it or is away, and stops where it is told to.

import { Refused, Unreachable, classify, ready } from "./service.js";
import { bytes, titleOf } from "./words.js";

const AT_ONCE = 4;
const MOST_TRIES = 3; // of a photo that cannot be sent while the service is there
const LONGEST_PAUSE = 15; // seconds between two looks whether the service is back

export class Queue extends EventTarget {
  asked = null; // {model, top, sure}
  limit = Infinity; // bytes of a photo
  held = null; // {why: "busy" | "away", until} while nothing is sent
  locked = false; // a key is needed

  #batch;
  #at = 0; // no photo before this one waits
  #busy = new Map(); // photo -> AbortController
  #timer = 0;
  #misses = 0;

  constructor(batch) {
    super();
    this.#batch = batch;
  }

  /** Name what waits. */
  go() {
    this.#at = 0;
    this.#pump();
  }

  /** Ask all photos again, as other things are asked now; what is known of them stays until they are answered. */
  renew(asked) {
    this.asked = asked;
    for (const photo of this.#batch.photos) if (photo.state !== "stopped") this.#wait(photo);
    this.#abort();
    this.go();
  }

  again(photos) {
    for (const photo of photos) this.#wait(photo);
    this.go();
  }

  stop() {
    for (const photo of this.#batch.photos) if (isOpen(photo)) photo.state = "stopped";
    this.#abort();
    this.#release();
    this.#batch.changed();
  }

  /** Look now whether the service is back. */
  now() {
    if (this.held) this.#look();
  }

  /** There is another key: what was asked with the old one is asked anew. */
  unlock() {
    this.locked = false;
    for (const photo of this.#busy.keys()) this.#wait(photo);
    this.#abort();
    this.go();
  }

  #wait(photo) {
    photo.state = "waiting";
    photo.tries = 0;
  }

  #abort() {
    for (const controller of this.#busy.values()) controller.abort();
    this.#busy.clear();
    this.#batch.changed();
  }

  #pump() {
    const { photos, selected } = this.#batch;
    while (!this.held && !this.locked && this.asked && this.#busy.size < AT_ONCE) {
      let photo = selected?.state === "waiting" ? selected : null;
      while (!photo && this.#at < photos.length) {
        if (photos[this.#at].state === "waiting") photo = photos[this.#at];
        else this.#at++;
      }
      if (!photo) return;
      this.#name(photo);
    }
  }

  async #name(photo) {
    const controller = new AbortController();
    const { asked } = this;
    photo.state = "asking";
    this.#busy.set(photo, controller);
    this.#batch.changed();
    const begun = performance.now();
    try {
      this.#check(photo);
      const record = await classify(photo.file, asked, controller.signal);
      if (controller.signal.aborted) return;
      this.#misses = 0;
      const took = performance.now() - begun;
      if (record.error) fail(photo, { code: record.error.code, detail: record.error.message }, record);
      else Object.assign(photo, { record, asked, error: null, took, state: "named" });
    } catch (error) {
      if (controller.signal.aborted) return; // whoever aborted it has said what it is now
      await this.#failed(photo, error, controller.signal);
    }
    if (this.#busy.get(photo) === controller) this.#busy.delete(photo);
    this.#batch.changed();
    this.#pump();
  }

  #check({ file }) {
    if (file.size > this.limit) {
      throw new Refused(0, {
        code: "photo-too-large",
        title: "Too large",
        detail: `Its file has ${bytes(file.size)}; this service takes up to ${bytes(this.limit)}.`,
      });
    }
  }

  async #failed(photo, error, signal) {
    if (error instanceof Unreachable) return this.#lost(photo, signal);
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      this.#later(photo);
      if (!this.locked) {
        this.locked = true;
        this.dispatchEvent(new Event("locked"));
      }
    } else if (error.status === 429) {
      this.#later(photo);
      this.#hold("busy", error.retryAfter ?? 2);
    } else if ([502, 503, 504].includes(error.status)) {
      this.#later(photo);
      this.#hold("away", error.retryAfter ?? 2);
    } else {
      fail(photo, error);
    }
    return undefined;
  }

  /** There was no answer: is it the file, the service, or only this once? */
  async #lost(photo, signal) {
    const there = await readable(photo.file);
    if (signal.aborted) return;
    if (!there) {
      fail(photo, {
        code: "photo-unreadable",
        title: "The file cannot be read",
        detail: "It was moved, changed or removed since it was chosen, or it is a folder. Choose it again.",
      });
      return;
    }
    photo.tries++;
    if (photo.tries >= MOST_TRIES) {
      const back = await ready().then(() => true, () => false);
      if (signal.aborted) return;
      if (back) {
        fail(photo, { code: "photo-error", title: "The photo could not be sent", detail: "The service is there, and did not take it." });
        return;
      }
      photo.tries = 0;
    }
    this.#later(photo);
    this.#hold("away", 1);
  }

  #later(photo) {
    photo.state = "waiting";
    this.#at = Math.min(this.#at, Math.max(0, this.#batch.photos.indexOf(photo)));
  }

  #hold(why, wait) {
    const until = Date.now() + wait * 1000;
    if (this.held && this.held.until >= until) return;
    clearTimeout(this.#timer);
    this.held = { why, until };
    this.#timer = setTimeout(() => this.#look(), wait * 1000);
    this.dispatchEvent(new Event("held"));
  }

  async #look() {
    clearTimeout(this.#timer);
    if (this.held?.why === "away") {
      try {
        await ready();
      } catch (error) {
        if (!this.held) return;
        this.#misses++;
        this.held = null;
        this.#hold("away", Math.min(LONGEST_PAUSE, error.retryAfter ?? 2 ** this.#misses));
        return;
      }
    }
    this.#release();
    this.go();
  }

  #release() {
    clearTimeout(this.#timer);
    this.#misses = 0;
    if (!this.held) return;
    this.held = null;
    this.dispatchEvent(new Event("held"));
  }
}

export const isOpen = (photo) => photo.state === "waiting" || photo.state === "asking";

/** A photo that cannot be named; `told` is the record that says so, where the service made one. */
function fail(photo, { code, title, detail }, told = null) {
  Object.assign(photo, { record: null, error: { code, title: title ?? titleOf(code), detail, told }, took: null, state: "failed" });
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    await file.slice(-1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
