// Thumbnails of the photos that are looked at: asked for when a row is shown, made in a worker, two at once.

const SIDE = 112; // pixels: twice what is shown
const AT_ONCE = 2; // each holds a whole photo, decoded
const MOST_STARTS = 5; // of a worker whose script does not come: the service may be away just then

let worker; // undefined: to be started; null: there is none to be had
let starts = 0;
let policy;
let busy = new Map(); // id -> photo
let wanted = []; // the last one first: who scrolls on does not want the first any more
const listeners = [];

export function onSmall(listener) {
  listeners.push(listener);
}

/** Ask for a photo's thumbnail; it comes as `photo.small`, and listeners are told. */
export function want(photo) {
  if (photo.small !== undefined || busy.has(photo.id)) return;
  wanted = wanted.filter((each) => each !== photo);
  wanted.push(photo);
  next();
}

export function forget() {
  wanted = [];
}

function next() {
  if (worker === undefined) worker = started();
  while (wanted.length && busy.size < AT_ONCE) {
    const photo = wanted.pop();
    if (worker === null || photo.file.size === 0) {
      done(photo, null);
      continue;
    }
    busy.set(photo.id, photo);
    worker.postMessage({ id: photo.id, file: photo.file, side: SIDE });
  }
}

function done(photo, blob) {
  photo.small = blob;
  for (const listener of listeners) listener(photo);
}

function started() {
  if (!window.OffscreenCanvas) return null;
  const address = new URL("shrink.js", import.meta.url).href;
  let heard = false;
  starts++;
  // The one policy of the page: it lets this address through, and nothing else.
  policy ??= window.trustedTypes?.createPolicy("photolabel", { createScriptURL: () => address });
  const made = new Worker(policy ? policy.createScriptURL("") : address);
  made.onmessage = ({ data: { id, blob } }) => {
    const photo = busy.get(id);
    heard = true;
    busy.delete(id);
    if (photo) done(photo, blob);
    next();
  };
  made.onerror = () => {
    const unmade = [...busy.values()];
    busy = new Map();
    if (!heard && starts < MOST_STARTS) {
      worker = undefined; // started anew when the next one is asked for
      wanted.push(...unmade);
      return;
    }
    worker = null;
    for (const photo of unmade) done(photo, null);
    next();
  };
  return made;
}
