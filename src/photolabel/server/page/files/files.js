// What can be saved: the records as JSON, as the service's batches have them, and as CSV with the columns of
// photolabel's own, of which no cell is a formula to a spreadsheet.

const FORMULA = /^[\u0000-\u0020\ufeff]*[-=+@\t\r\n\uff0d\uff1d\uff0b\uff20]/;
const FIELDS = ["model", "recipe", "precision"];

export const asJson = (photos, model) => `${JSON.stringify({ records: photos.map((each) => recordOf(each, model)) }, null, 1)}\n`;

export function asCsv(photos, model) {
  const records = photos.map((each) => recordOf(each, model));
  const most = Math.max(0, ...records.map((each) => each.labels.length));
  return [columns(most), ...records.map((each) => row(each, most))].map((cells) => `${cells.map(quoted).join(",")}\r\n`).join("");
}

/** A photo's record, with the name that its file has here; the service was never told it. */
function recordOf(photo, model) {
  const told = photo.record ?? photo.error.told;
  if (told) return { ...told, photo: photo.name };
  return {
    schema: "photolabel/1",
    photo: photo.name,
    model: model.model,
    recipe: model.recipe,
    precision: model.precision,
    labels: [],
    answer: null,
    error: { code: photo.error.code, message: photo.error.detail },
    file: null,
    decoding: null,
    names: null,
    opinions: null,
    calibration: null,
    truth: null,
  };
}

function columns(labels) {
  const ranked = Array.from({ length: labels }, (_, place) => [`name_${place + 1}`, `probability_${place + 1}`]);
  return [
    ...["photo", "kind", "name", "wnid", "probability"],
    ...ranked.flat(),
    ...["error_code", "error_message", "model", "recipe", "precision", "sha256", "bytes"],
    ...["format", "width", "height", "orientation", "scale"],
    ...["everyday", "reason", "names", "agreement"],
    ...["truth_name", "truth_wnid", "truth_probability", "truth_rank"],
  ];
}

function row(record, labels) {
  const of = (from, ...names) => names.map((name) => from?.[name] ?? null);
  const ranked = record.labels.flatMap((label) => [label.name, label.probability]);
  const cells = [
    ...of(record.answer, "kind", "name", "wnid", "probability"),
    ...ranked,
    ...Array(2 * labels - ranked.length).fill(null),
    ...of(record.error, "code", "message"),
    ...of(record, ...FIELDS),
    ...of(record.file, "sha256", "bytes"),
    ...of(record.decoding, "format", "width", "height", "orientation", "scale"),
    ...of(record.answer, "everyday", "reason"),
    record.names ? record.names.labels.map((label) => label.name).join("; ") : null,
    ...of(record.opinions, "agreement"),
    ...of(record.truth, "name", "wnid", "probability", "rank"),
  ];
  // A name with ./ before it leads to the same file; one with an apostrophe would not.
  return [harmless(record.photo, "./"), ...cells.map((cell) => harmless(cell, "'"))];
}

function harmless(cell, before) {
  return typeof cell === "string" && FORMULA.test(cell) ? before + cell : cell;
}

function quoted(cell) {
  if (cell === null) return "";
  const text = String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Have the browser save a text as a file. */
export function save(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser takes its time to read it
}
