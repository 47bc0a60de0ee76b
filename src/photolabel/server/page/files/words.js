// Numbers and names as people say them.

export function percent(probability) {
  const value = probability * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  if (value > 99.9 && value < 100) return ">99.9%";
  return `${value.toFixed(1)}%`;
}

export const nameOf = (label) => (label.everyday ?? label.name).replaceAll("_", " ");

export function several(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

export function bytes(count) {
  if (count < 1000) return several(count, "byte");
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

export function time(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

export const seconds = (count) => several(count, "second");

/** What is said of a photo in one line: its answer, or what is wrong. */
export function answered(photo) {
  if (photo.error) return photo.error.title;
  const { answer } = photo.record;
  if (answer.kind !== "unsure") return nameOf(answer);
  return answer.reason === "none of its classes" ? "nothing it knows" : "unsure";
}

/** The kind of file, by the end of its name, to stand where a thumbnail cannot. */
export function ending(name) {
  const found = /\.([a-z0-9]{1,5})$/i.exec(name);
  return found ? found[1].toUpperCase() : "?";
}

const TITLES = {
  "unsupported-format": "Not a photo",
  "corrupt-photo": "Broken or cut short",
  "photo-too-large": "Too large",
  "photo-too-slow": "Too slow to decode",
  "decoder-crashed": "Crashes its decoder",
};

/** What is wrong with a photo, in a few words. */
export const titleOf = (code) => TITLES[code] ?? "Cannot be named";
