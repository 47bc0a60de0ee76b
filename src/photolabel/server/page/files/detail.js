// One photo: itself, what it is called and how surely, where the evidence is, and what the network saw of it.

import { drawHeat, drawPixels, lay, pixelsOf } from "./evidence.js";
import { at, foreign, make, say, show } from "./parts.js";
import { Refused, explain, look } from "./service.js";
import { answered, bytes, ending, nameOf, percent, time } from "./words.js";

export class Detail {
  #queue;
  #can; // {explain, look}
  #photo = null;
  #record = null; // of which names and facts are shown
  #address = null;
  #view = "photo";
  #label = null; // index of the class whose evidence is shown; null for the likeliest
  #drawing = null; // AbortController of what is asked and drawn for a view
  #waits = false; // for an answer of the service, for that
  #known = new Map(); // what was answered for this photo and model: "look", "evidence null", "evidence 281"
  #viewable = null; // whether this browser can show the photo; null while it is not known

  constructor(queue, can) {
    this.#queue = queue;
    this.#can = can;
    show(at("views").querySelector('[data-view="evidence"]'), can.explain);
    show(at("views").querySelector('[data-view="look"]'), can.look);
    for (const button of at("views").children) {
      button.addEventListener("click", () => {
        this.#label = null;
        this.#to(button.dataset.view);
      });
    }
    at("strength").addEventListener("input", () => this.#strength());
    at("retry").addEventListener("click", () => this.#queue.again([this.#photo]));
    at("shown").addEventListener("load", () => this.#seen(true));
    at("shown").addEventListener("error", () => this.#seen(false));
  }

  /** Show a photo, or what is new of the one that is shown. */
  show(photo) {
    if (photo !== this.#photo) this.#other(photo);
    if (!photo) return;
    this.#answer(photo);
    if (photo.record !== this.#record) {
      if (photo.record?.model !== this.#record?.model) this.#label = null; // an index is another class in another model
      this.#record = photo.record;
      this.#known.clear();
      this.#names(photo);
      this.#best();
    }
  }

  #other(photo) {
    this.#drawing?.abort();
    this.#known.clear();
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#photo = photo;
    this.#record = undefined;
    this.#label = null;
    this.#viewable = null;
    this.#address = photo && URL.createObjectURL(photo.file);
    const image = at("shown");
    if (!photo) {
      image.removeAttribute("src");
      return;
    }
    image.alt = `Photo ${photo.name}`;
    image.src = this.#address;
    show(at("frame"), true);
    show(at("cannot"), false);
    this.#to("photo");
  }

  #seen(viewable) {
    if (!this.#photo) return;
    this.#viewable = viewable;
    const { naturalWidth, naturalHeight } = at("shown");
    at("frame").style.setProperty("--wide", String(naturalWidth));
    at("frame").style.setProperty("--ratio", String(naturalWidth / naturalHeight || 1));
    show(at("frame"), viewable);
    say(at("cannot"), `This browser cannot show ${ending(this.#photo.name)} files such as this one.`);
    show(at("cannot"), !viewable);
    show(at("stage"), viewable || !this.#photo.error);
    if (!this.#waits) this.#best(); // else it is drawn when the answer comes
  }

  /** Instead of a photo that the browser cannot show, what the network saw of it. */
  #best() {
    if (this.#viewable === false && this.#view === "photo" && this.#photo.record && this.#can.look) this.#to("look");
    else this.#draw();
  }

  #answer(photo) {
    const heading = at("detail-heading");
    const open = !photo.record && !photo.error;
    const text = open ? { stopped: "Stopped", waiting: "Waiting", asking: "Looking" }[photo.state] : answered(photo);
    if (heading.textContent !== text) heading.replaceChildren(foreign(text));
    at("detail").dataset.state = photo.state;
    say(at("answer-how"), photo.error ? photo.error.detail : photo.record ? how(photo.record) : photo.name);
    show(at("retry"), photo.state === "failed" || photo.state === "stopped");
    show(at("views"), (this.#can.explain || this.#can.look) && !photo.error);
    show(at("stage"), this.#viewable === true || !photo.error);
    if (photo.error && this.#view !== "photo") this.#to("photo");
  }

  #names({ record, name, file, took }) {
    const path = at("path");
    const bars = at("bars");
    const facts = [["file", foreign(name)], ["size", bytes(file.size)]];
    path.replaceChildren();
    bars.replaceChildren();
    show(at("names"), Boolean(record));
    if (record) {
      const above = record.tree ?? [];
      path.append(...above.map((each, place) => step(each, above[place - 1], place === above.length - 1)));
      bars.append(...record.labels.map((label) => this.#bar(label)));
      const { decoding } = record;
      if (decoding) facts[1][1] += `, ${decoding.width} x ${decoding.height} pixels, ${decoding.format}`;
      facts.push(["answered in", time(took)], ["model", foreign(`${record.model}, ${record.precision}`)], ["recipe", foreign(record.recipe)]);
      if (record.opinions) facts.push(["its looks agree by", percent(record.opinions.agreement)]);
    }
    show(path, path.childElementCount > 1);
    at("facts").replaceChildren(...facts.map(([what, value]) => make("div", {}, make("dt", {}, what), make("dd", {}, value))));
  }

  #bar(label) {
    const fill = make("span", { className: "fill" });
    fill.style.width = `${label.probability * 100}%`;
    const name = make("span", { className: "label" }, foreign(nameOf(label)));
    const parts = [name, make("span", { className: "number" }, percent(label.probability)), make("span", { className: "track" }, fill)];
    if (!this.#can.explain) return make("li", {}, make("div", { className: "bar" }, ...parts));
    const button = make("button", { type: "button", className: "bar", title: "Show where the evidence for it is" }, ...parts);
    button.addEventListener("click", () => {
      this.#label = label.index;
      this.#to("evidence");
    });
    return make("li", {}, button);
  }

  #to(view) {
    this.#view = view;
    for (const button of at("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    this.#draw();
  }

  /** Show what the view is of, once it is there. */
  async #draw() {
    this.#drawing?.abort();
    this.#drawing = new AbortController();
    this.#waits = false;
    const { signal } = this.#drawing; // told when another photo, view or class is wanted: then this is late
    const view = this.#view;
    at("stage").dataset.shows = view;
    for (const name of ["heat", "box", "input"]) show(at(name), false);
    at("shown").style.filter = "";
    show(at("beneath"), view !== "photo");
    show(at("strength-field"), view === "evidence");
    at("facts-of-view").replaceChildren();
    say(at("said-of-view"), "");
    if (view === "photo" || !this.#photo) return;
    if (!this.#photo.record) {
      say(at("said-of-view"), "It comes when the photo is named.");
      return;
    }
    const key = view === "look" ? "look" : `evidence ${this.#label}`;
    const answer = this.#known.get(key) ?? (await this.#ask(key, view, signal));
    if (signal.aborted) return;
    this.#waits = false;
    if (!answer) return;
    const pixels = await pixelsOf(view === "look" ? answer.input : answer.evidence.map);
    if (signal.aborted) return;
    if (view === "look") this.#look(answer, pixels);
    else this.#evidence(answer.evidence, pixels);
  }

  async #ask(key, view, signal) {
    const { file, asked } = this.#photo;
    this.#waits = true;
    say(at("said-of-view"), view === "look" ? "Having a look." : "Looking for the evidence.");
    try {
      const answer = view === "look" ? await look(file, asked, signal) : await explain(file, asked, this.#label, signal);
      if (signal.aborted) return null;
      this.#known.set(key, answer);
      return answer;
    } catch (error) {
      if (signal.aborted) return null;
      const told = error instanceof Refused ? error.detail : "The service does not answer. Try it again in a moment.";
      say(at("said-of-view"), told);
      return null;
    }
  }

  #evidence({ label, box, cut, size }, pixels) {
    const heat = at("heat");
    drawHeat(heat, pixels);
    const whole = sizeOf(size);
    lay(heat, cut, whole);
    if (box) lay(at("box"), box, whole);
    show(heat, this.#viewable === true);
    show(at("box"), Boolean(box) && this.#viewable === true);
    this.#strength();
    const said = box ? "Bright is where most of the evidence is for" : "There is no evidence to be found for";
    at("said-of-view").replaceChildren(`${said} `, foreign(nameOf(label)), `, ${percent(label.probability)}.`);
  }

  #strength() {
    if (this.#view !== "evidence") return;
    const strength = Number(at("strength").value) / 100;
    at("heat").style.opacity = String(strength);
    at("shown").style.filter = at("heat").hidden ? "" : `grayscale(${strength})`;
  }

  #look({ facts, warnings, size, cut }, pixels) {
    const figure = at("input");
    const canvas = figure.querySelector("canvas");
    drawPixels(canvas, pixels);
    say(figure.querySelector("figcaption"), `All that the network gets: ${canvas.width} x ${canvas.height} pixels`);
    lay(at("box"), cut, sizeOf(size));
    show(at("box"), this.#viewable === true);
    show(figure, true);
    say(at("said-of-view"), "");
    at("facts-of-view").replaceChildren(
      ...facts.map((each) => make("li", {}, foreign(each))),
      ...warnings.map((each) => make("li", { className: "warning" }, foreign(each))),
    );
  }
}

const sizeOf = (size) => (Array.isArray(size) ? size : [size.width, size.height]);

function how({ answer, labels }) {
  if (answer.kind === "leaf") return `${percent(answer.probability)} sure`;
  if (answer.kind === "broader") return `${percent(answer.probability)} sure. No single name is; the likeliest is ${nameOf(labels[0])}.`;
  if (answer.reason === "none of its classes") return "It looks like none of the things that the model knows.";
  return `No name is sure enough. The likeliest is ${nameOf(labels[0])}, ${percent(labels[0].probability)}.`;
}

/** A name on the way, with its probability where that is another one than before it. */
function step(each, before, last) {
  const same = !last && before && percent(before.probability) === percent(each.probability);
  const made = make("li", {}, foreign(nameOf(each)), same ? "" : make("span", { className: "number" }, ` ${percent(each.probability)}`));
  if (last) made.setAttribute("aria-current", "true");
  return made;
}
