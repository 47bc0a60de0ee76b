// All photos as a table. Only the rows that can be seen are there, however many photos there are; so a row has one
// height, and the arrow keys go from row to row.

import { at, foreign, make, once, say, show } from "./parts.js";
import { onSmall, want } from "./small.js";
import { answered, ending, percent, time } from "./words.js";

const ROW = 64; // pixels, as in page.css
const MORE = 6; // rows above and below what is seen

export class Table {
  #batch;
  #open; // called with a photo that is chosen
  #body = at("table").tBodies[0];
  #rows = new Map(); // photo -> Row
  #active = null; // the photo whose button is the table's one stop for the Tab key
  #draw = once(() => this.#render());

  constructor(batch, open) {
    this.#batch = batch;
    this.#open = open;
    batch.addEventListener("change", () => this.#render());
    window.addEventListener("scroll", this.#draw, { passive: true });
    window.addEventListener("resize", this.#draw, { passive: true });
    onSmall((photo) => this.#rows.get(photo)?.thumb(photo));
    this.#body.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-id]");
      const photo = row && this.#batch.photos.find((each) => String(each.id) === row.dataset.id);
      if (photo) this.#choose(photo);
    });
    this.#body.addEventListener("focusin", (event) => {
      const row = event.target.closest("tr[data-id]");
      this.#active = (row && this.#batch.photos.find((each) => String(each.id) === row.dataset.id)) ?? this.#active;
      this.#stops();
    });
    for (const button of at("table").tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const by = button.dataset.sort;
        const next = { [`${by}`]: `-${by}`, [`-${by}`]: "place" };
        batch.arrange({ sort: next[batch.sort] ?? by });
      });
    }
  }

  /** Put the keyboard where a photo is. */
  focus(photo) {
    const place = this.#batch.shown.indexOf(photo);
    if (place < 0) return;
    this.#active = photo;
    this.#reveal(place);
    this.#render();
    this.#rows.get(photo)?.button.focus({ preventScroll: true });
  }

  #choose(photo) {
    this.#active = photo;
    this.#open(photo);
  }

  #render() {
    const { shown, photos, selected, sort } = this.#batch;
    show(at("table"), shown.length > 0);
    show(at("nothing"), photos.length > 0 && shown.length === 0);
    for (const head of at("table").tHead.querySelectorAll("button")) {
      const { sort: by } = head.dataset;
      const order = sort === by ? "ascending" : sort === `-${by}` ? "descending" : null;
      if (order) head.parentElement.setAttribute("aria-sort", order);
      else head.parentElement.removeAttribute("aria-sort");
    }
    at("table").setAttribute("aria-rowcount", String(shown.length + 1));
    if (!shown.includes(this.#active)) this.#active = shown.includes(selected) ? selected : (shown[0] ?? null);

    const above = -this.#body.getBoundingClientRect().top;
    // Some are there even while none can be seen: the Tab key leads to them.
    const first = Math.max(0, Math.min(shown.length - MORE, Math.floor(above / ROW) - MORE));
    const last = Math.min(shown.length, Math.max(first + MORE, Math.ceil((above + innerHeight) / ROW) + MORE));
    const wanted = shown.slice(first, last);
    const kept = new Set(wanted);
    const active = document.activeElement;
    const focused = active?.closest?.("tr[data-id]");
    for (const [photo, row] of this.#rows) {
      if (kept.has(photo)) continue;
      if (row.element === focused) at("main").focus({ preventScroll: true }); // not to nowhere
      row.element.remove();
      this.#rows.delete(photo);
    }
    let before = this.#space("above", first, null);
    wanted.forEach((photo, place) => {
      let row = this.#rows.get(photo);
      if (!row) this.#rows.set(photo, (row = new Row(photo)));
      row.update(photo, first + place + 2, photo === selected);
      if (before.nextSibling !== row.element) before.after(row.element);
      before = row.element;
      want(photo);
    });
    this.#space("below", shown.length - last, before);
    // A row that changes its place is taken out on the way, and the keyboard's place with it.
    if (active !== document.activeElement && focused?.isConnected) active.focus({ preventScroll: true });
    this.#stops();
  }

  /** A row that stands for those which are not there. */
  #space(name, rows, after) {
    let space = this.#body.querySelector(`tr.${name}`);
    if (!space) {
      space = make("tr", { className: `space ${name}`, ariaHidden: "true" }, make("td"));
      if (after) after.after(space);
      else this.#body.prepend(space);
    }
    space.firstChild.style.height = `${rows * ROW}px`;
    show(space, rows > 0);
    return space;
  }

  /** The Tab key stops at one row: the active one, or the first that is there. */
  #stops() {
    const stop = this.#rows.has(this.#active) ? this.#active : this.#body.querySelector("tr[data-id]");
    for (const [photo, row] of this.#rows) row.button.tabIndex = photo === stop || row.element === stop ? 0 : -1;
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { shown } = this.#batch;
    const here = shown.indexOf(this.#active);
    const page = Math.max(1, Math.floor(innerHeight / ROW) - 3);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: shown.length - 1 };
    if (!(event.key in to) || here < 0) return;
    event.preventDefault();
    this.focus(shown[Math.max(0, Math.min(shown.length - 1, to[event.key]))]);
  }

  #reveal(place) {
    const top = this.#body.getBoundingClientRect().top + place * ROW;
    const room = at("batch").querySelector(".tools").offsetHeight + at("table").tHead.offsetHeight + 24;
    if (top < room) scrollBy(0, top - room);
    else if (top + ROW > innerHeight - 8) scrollBy(0, top + ROW - innerHeight + 8);
  }
}

class Row {
  constructor(photo) {
    this.picture = make("td", { className: "thumb" });
    this.button = make("button", { type: "button", tabIndex: -1 });
    this.said = make("span", { className: "said" });
    this.button.append(this.said);
    this.second = make("span", { className: "second" }, foreign(photo.name));
    this.fill = make("span", { className: "fill" });
    this.track = make("span", { className: "track" }, this.fill);
    this.number = make("span");
    this.took = make("td", { className: "took" });
    this.element = make(
      "tr",
      {},
      this.picture,
      make("th", { scope: "row", className: "name" }, this.button, this.second),
      make("td", { className: "sure" }, this.number, this.track),
      make("td", { className: "file" }, foreign(photo.name)),
      this.took,
    );
    this.element.dataset.id = String(photo.id);
    this.seen = undefined;
    this.thumb(photo);
  }

  thumb(photo) {
    if (photo.small === this.seen && this.picture.firstChild) return;
    this.seen = photo.small;
    if (photo.small) {
      const address = URL.createObjectURL(photo.small);
      const image = make("img", { alt: "", width: 48, height: 48, src: address });
      image.onload = image.onerror = () => URL.revokeObjectURL(address);
      this.picture.replaceChildren(image);
    } else {
      this.picture.replaceChildren(make("span", { className: "noimage" }, photo.small === null ? ending(photo.name) : ""));
    }
  }

  update(photo, place, selected) {
    const { element } = this;
    element.setAttribute("aria-rowindex", String(place));
    element.dataset.state = photo.state;
    element.classList.toggle("selected", selected);
    if (selected) this.button.setAttribute("aria-current", "true");
    else this.button.removeAttribute("aria-current");
    say(this.said, saying(photo));
    const sure = photo.record && !photo.error ? photo.record.answer.probability : null;
    element.dataset.kind = photo.state === "named" ? photo.record.answer.kind : "";
    say(this.number, sure === null ? "" : percent(sure));
    show(this.track, sure !== null);
    this.fill.style.width = `${(sure ?? 0) * 100}%`;
    say(this.took, photo.took === null ? "" : time(photo.took));
  }
}

const WORDS = { waiting: "waits", asking: "is being named", stopped: "stopped" };

export function saying(photo) {
  return photo.record || photo.error ? answered(photo) : WORDS[photo.state];
}
