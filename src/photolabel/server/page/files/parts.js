// Elements, made of text only: there is no other way in this page from a text to what is shown.

export const at = (id) => document.getElementById(id);

/** An element with properties and children; a child that is no element is text. */
export function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

/** Somebody else's text, which may run from right to left, and shall not turn what stands beside it. */
export const foreign = (text) => make("bdi", {}, text);

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Set a text where it is another one, so that nothing is laid out, or read aloud, for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Call `work` once in the next frame, however often it is asked for until then. */
export function once(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** The bytes of a base64 text, as a blob. */
export function blobOf(base64, type) {
  return new Blob([Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))], { type });
}
