// The line above all: what happened, until somebody closes it, and what is the matter, as long as it is.

import { at, say, show } from "./parts.js";

let passing = "";
let standing = "";

/** Tell what happened. */
export function tell(text) {
  passing = text;
  render();
}

/** Tell what is the matter, with a way to try whether it still is; "" when it is not. */
export function stand(text) {
  standing = text;
  render();
}

function render() {
  say(at("notice-text"), [passing, standing].filter(Boolean).join(" "));
  if (!standing) say(at("notice-count"), "");
  show(at("notice-now"), Boolean(standing));
  show(at("notice-close"), Boolean(passing));
  show(at("notice"), Boolean(passing || standing));
}

at("notice-close").addEventListener("click", () => tell(""));
