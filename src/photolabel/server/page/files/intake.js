// Where photos come from: dropped, pasted, chosen, or a folder of them. What a file is, the service finds out.

import { at, show } from "./parts.js";

const MOST = 10_000; // files of one drop: more is a disk, and no choice
const SILENCE = 1000; // milliseconds: whoever drags is heard of far more often, but not always of their leaving
// What is taken of a dropped folder, in which there is more than photos; by name, for browsers do not know all of them.
const PHOTO = /\.(jpe?g|jpe|jfif|png|webp|gif|tiff?|bmp|avif|heic|heif)$/i;

/** `since` returns a function that says whether what came before is still wanted. */
export function intake({ take, tell, since }) {
  const file = at("file");
  const capture = at("capture");
  for (const input of [file, capture]) {
    input.addEventListener("change", () => {
      const chosen = Array.from(input.files, plain);
      input.value = ""; // so that the same file can be chosen again
      if (chosen.length) take(chosen);
    });
  }
  document.addEventListener("paste", (event) => {
    const pasted = Array.from(event.clipboardData?.files ?? [], plain);
    if (!pasted.length) return;
    event.preventDefault();
    take(pasted);
  });
  dropping({ take, tell, since });
  return { choose: () => file.click(), capture: () => capture.click() };
}

const busy = () => document.querySelector("dialog[open]") !== null;
const plain = (file) => ({ file, name: file.name || "photo" });

function dropping({ take, tell, since }) {
  const shade = at("dropping");
  const holds = (event) => Array.from(event.dataTransfer?.types ?? []).includes("Files");
  let timer = 0;
  const over = (shown) => {
    clearTimeout(timer);
    if (shown) timer = setTimeout(() => over(false), SILENCE);
    show(shade, shown);
  };
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    const welcome = holds(event) && !busy();
    event.dataTransfer.dropEffect = welcome ? "copy" : "none";
    over(welcome);
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) over(false);
  });
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    over(false);
    if (busy()) return;
    const wanted = since();
    const { found, cut, unread } = await dropped(event.dataTransfer);
    await new Promise((done) => setTimeout(done)); // a task of its own: what the browser did for the drop took long
    if (!wanted()) return;
    if (found.length) take(found);
    if (cut) tell(`There are more in that: these are the first ${MOST.toLocaleString("en")}. Drop the others by themselves.`);
    else if (unread) tell("Some of that could not be read.");
    else if (!found.length) tell("There was no photo in that. Drop files, or a folder of them.");
  });
}

/** What was dropped, with what is in folders, which have to be asked for before the event is over. */
async function dropped(transfer) {
  const all = { found: [], cut: false, unread: false };
  const things = Array.from(transfer.items ?? [])
    .filter((item) => item.kind === "file")
    .map((item) => ({ file: item.getAsFile(), item }))
    // Asking what it is stops the page for a third of a millisecond: not for hundreds that are called photos.
    .map(({ file, item }) => ({ file, entry: file && PHOTO.test(file.name) ? null : (item.webkitGetAsEntry?.() ?? null) }));
  for (const { file, entry } of things) {
    if (entry?.isDirectory) await walk(entry, entry.name, all);
    else if (file) all.found.push(plain(file));
  }
  return all;
}

async function walk(folder, path, all) {
  const reader = folder.createReader();
  for (;;) {
    const entries = await new Promise((done) => reader.readEntries(done, () => done(null))); // a hundred at most
    if (!entries) all.unread = true;
    if (!entries?.length) return;
    for (const entry of entries) {
      const name = `${path}/${entry.name}`;
      if (entry.isDirectory) await walk(entry, name, all);
      else if (PHOTO.test(entry.name) && !entry.name.startsWith(".")) {
        all.cut = all.found.length >= MOST;
        if (all.cut) return;
        const file = await new Promise((done) => entry.file(done, () => done(null)));
        if (file) all.found.push({ file, name });
        else all.unread = true;
      }
      if (all.cut) return;
    }
  }
}
