// The page: its parts, joined.

import { Batch } from "./batch.js";
import { camera, canShoot } from "./camera.js";
import { Detail } from "./detail.js";
import { asCsv, asJson, save } from "./files.js";
import { intake } from "./intake.js";
import { stand, tell } from "./notice.js";
import { at, make, say, show } from "./parts.js";
import { Queue, isOpen } from "./queue.js";
import { Refused, about, hasKey, models, sample, useKey } from "./service.js";
import { forget } from "./small.js";
import { Table } from "./table.js";
import { seconds, several } from "./words.js";

const TOPS = [1, 3, 5, 10, 20, 50];
const wide = matchMedia("(min-width: 62rem)");

const batch = new Batch();
const queue = new Queue(batch);
let known = null; // what the service says of itself
let table = [];
let detail = null;
let rows = null;
let cleared = 0; // how often: what was on its way then is not wanted any more
let taken = 0; // how often photos came

// -- photos come

function take(found) {
  const added = batch.add(found);
  taken++;
  if (!batch.selected || batch.photos.length === added.length) batch.selected = added[0];
  else if (added.length === 1) [batch.selected] = added;
  view(batch.photos.length === 1 ? "detail" : "list");
  queue.go();
  say(at("said"), `${several(added.length, "photo")} added.`);
}

function since() {
  const before = cleared;
  return () => before === cleared;
}

const ways = intake({ take, tell, since });
const shooting = camera({ take, capture: ways.capture });
for (const name of ["choose", "more"]) at(name).addEventListener("click", ways.choose);
for (const name of ["shoot", "shoot-more"]) {
  show(at(name), canShoot());
  at(name).addEventListener("click", shooting.open);
}

function invite(samples) {
  const list = at("samples").querySelector("ul");
  list.replaceChildren(
    ...samples.map((each) => {
      const small = each.path.slice(1).replace(/\.jpg$/, "-small.jpg");
      const picture = make("img", { src: small, alt: each.name.replace(/\.jpg$/, ""), width: 240, height: 180 });
      const button = make("button", { type: "button" }, picture);
      button.addEventListener("click", async () => {
        const before = taken + cleared;
        try {
          const file = await sample(each);
          if (before === taken + cleared) take([{ file, name: each.name }]); // once, and only if nothing else was chosen
        } catch {
          tell("The service does not answer. Try it again in a moment.");
        }
      });
      return make("li", {}, button);
    }),
  );
  show(at("samples"), samples.length > 0);
}

// -- what is asked

function choices() {
  const [first] = table;
  at("model").replaceChildren(...table.map(({ name }) => new Option(name, name, name === first.name)));
  const most = Math.max(...table.map((each) => each.classes));
  const tops = TOPS.filter((each) => each <= Math.min(known.top, most));
  at("top").replaceChildren(...tops.map((each) => new Option(String(each), String(each), each === 5, each === 5)));
  show(at("model-field"), table.length > 1);
  show(at("asked"), true);
}

function asked() {
  return { model: at("model").value, top: Number(at("top").value), sure: at("sure").value };
}

at("asked").addEventListener("submit", (event) => event.preventDefault());
at("asked").addEventListener("change", () => queue.renew(asked()));

// -- list and detail

function view(name) {
  document.body.dataset.view = name;
  batch.changed();
}

function open(photo, { focus = true } = {}) {
  batch.select(photo);
  if (wide.matches) return;
  view("detail");
  scrollTo(0, 0);
  if (focus) requestAnimationFrame(() => at("detail-heading").focus({ preventScroll: true }));
}

at("back").addEventListener("click", () => {
  view("list");
  requestAnimationFrame(() => requestAnimationFrame(() => rows.focus(batch.selected)));
});

function walk(by) {
  const place = batch.shown.indexOf(batch.selected) + by;
  if (batch.shown[place]) open(batch.shown[place], { focus: false });
}

at("previous").addEventListener("click", () => walk(-1));
at("next").addEventListener("click", () => walk(1));

at("filters").addEventListener("submit", (event) => event.preventDefault());
at("find").addEventListener("input", () => batch.arrange({ find: at("find").value }));
at("kind").addEventListener("change", () => batch.arrange({ kind: at("kind").value }));
at("sort").addEventListener("change", () => batch.arrange({ sort: at("sort").value }));

// -- what can be done with all of them

at("stop").addEventListener("click", () => queue.stop());
at("again").addEventListener("click", () => queue.again(batch.photos.filter((each) => each.state === "stopped")));
at("clear").addEventListener("click", () => {
  cleared++;
  queue.stop();
  forget();
  batch.clear();
  detail?.show(null);
  batch.arrange({ find: "", kind: "", sort: "place" });
  for (const name of ["find", "kind"]) at(name).value = "";
  view("list");
  requestAnimationFrame(() => requestAnimationFrame(() => at("choose").focus()));
});

const isKnown = (photo) => Boolean(photo.record || photo.error);

function saved(write, name, type) {
  const done = batch.photos.filter(isKnown);
  save(write(done, table.find((each) => each.name === queue.asked.model)), name, type);
}

at("save-csv").addEventListener("click", () => saved(asCsv, "photolabel.csv", "text/csv"));
at("save-json").addEventListener("click", () => saved(asJson, "photolabel.json", "application/json"));

// -- what is told

let ticking = 0;
let told = 0;

at("notice-now").addEventListener("click", now);
window.addEventListener("online", now);

function now() {
  if (queue.asked === null) start();
  else queue.now();
}

queue.addEventListener("held", () => {
  clearInterval(ticking);
  if (!queue.held) {
    stand("");
    return;
  }
  const text = { busy: "The service has much to do. It goes on by itself.", away: "The service does not answer. Nothing is lost: it goes on as soon as it is back." };
  stand(text[queue.held.why]);
  const tick = () => {
    const left = Math.max(0, Math.ceil((queue.held.until - Date.now()) / 1000));
    say(at("notice-count"), left ? `Next try in ${seconds(left)}.` : "Trying.");
  };
  tick();
  ticking = setInterval(() => queue.held && tick(), 500);
});

queue.addEventListener("locked", () => askKey(true));

let keyless = false;

function askKey(again) {
  if (again) say(at("key-said"), "That key does not open it, or does not any more. It stays in this tab, and is forgotten when you close it.");
  at("key-text").value = "";
  keyless = true;
  if (!at("key").open) at("key").showModal();
}

// There is nothing to be done without. A browser lets a dialog refuse Escape once; then it closes.
at("key").addEventListener("cancel", (event) => event.preventDefault());
at("key").addEventListener("close", () => keyless && askKey(false));
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key-text").value.trim());
  keyless = false;
  at("key").close();
  if (queue.locked) queue.unlock();
  else start();
});

// -- what is shown

function render() {
  const { photos, selected, shown } = batch;
  const count = photos.length;
  document.body.dataset.photos = count === 0 ? "none" : count === 1 ? "one" : "many";
  show(at("invite"), count === 0);
  show(at("batch"), count > 0);
  show(at("detail"), count > 0 && selected !== null);
  show(at("list"), count > 1);
  show(at("walk"), count > 1);
  if (detail && count) detail.show(selected);
  const place = shown.indexOf(selected);
  say(at("place"), place < 0 ? "" : `${place + 1} of ${shown.length}`);
  at("previous").disabled = place <= 0;
  at("next").disabled = place < 0 || place >= shown.length - 1;
  if (at("sort").value !== batch.sort) at("sort").value = batch.sort;
  progress();
}

function progress() {
  const count = batch.photos.length;
  const named = batch.count("named");
  const failed = batch.count("failed");
  const stopped = batch.count("stopped");
  const open = batch.photos.some(isOpen);
  const parts = [open ? `${named + failed} of ${several(count, "photo")}` : several(named, "photo named", "photos named")];
  if (failed) parts.push(several(failed, "could not be", "could not be"));
  if (stopped) parts.push(`${stopped} not asked`);
  const text = count === 1 && !open ? "" : parts.join(", "); // of one all is said beside it
  say(at("progress-text"), text);
  show(at("progress"), Boolean(text));
  show(at("progress-bar"), open);
  at("progress-bar").value = count ? (named + failed) / count : 0;
  show(at("stop"), open);
  show(at("again"), !open && stopped > 0);
  for (const name of ["save-csv", "save-json"]) at(name).disabled = !batch.photos.some(isKnown);
  document.title = count && open ? `${named + failed} of ${count} · photolabel` : "photolabel";
  const tens = open ? Math.floor((10 * (named + failed)) / count) : -1; // not every photo is worth a word
  if (count && tens !== told) say(at("said"), open ? text : `Done. ${text}`);
  told = tens;
}

batch.addEventListener("change", render);

// -- the beginning

const AGAIN = 5000; // milliseconds between two looks whether the service is there
let starting = null;
let later = 0;

/** Find out what the service is and can do, once, however often it is asked for; where it is away, again and again. */
function start() {
  clearTimeout(later);
  starting ??= begin().finally(() => {
    starting = null;
  });
}

async function begin() {
  try {
    known ??= await about();
    invite(known.samples);
    if (known.key && !hasKey()) {
      askKey(false);
      return;
    }
    table = await models();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askKey(true);
    else {
      stand("The service does not answer.");
      later = setTimeout(start, AGAIN);
    }
    return;
  }
  stand("");
  queue.limit = known.bytes;
  detail ??= new Detail(queue, known);
  rows ??= new Table(batch, open);
  show(at("docs"), known.docs && !known.key);
  choices();
  queue.asked = asked();
  batch.changed(); // there may be photos already, which have waited for this
  queue.go();
}

start();
