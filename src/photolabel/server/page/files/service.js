// The way to the service. Its key, where it has one, is in this module's memory only, and goes with the tab.

const LONGEST = 120_000; // milliseconds: more than the service ever takes for an answer
const MOST_WAIT = 60; // seconds
const ODD = { code: "internal-error", title: "A mistake in the service", detail: "It answered, and not as it should." };

let key = null;

export function useKey(text) {
  key = text;
}

export const hasKey = () => key !== null;

/** The service answered, and would not: `code` is its stable word, `detail` for people. */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail);
    this.status = status;
    this.code = problem.code;
    this.title = problem.title;
    this.detail = problem.detail;
    this.retryAfter = retryAfter;
  }
}

/** There was no answer. */
export class Unreachable extends Error {}

export const about = () => call("page/about.json");
export const models = async () => (await call("v1/models")).models;
export const ready = () => call("v2/health/ready");

/** A photo's record. As a batch of one: there a photo that cannot be named is an answer like others, and no failure. */
export async function classify(file, { model, top, sure }, signal) {
  const query = new URLSearchParams({ model, top: String(top), tree: "true" });
  if (sure) query.set("sure", sure);
  const body = new FormData();
  body.append("photo", file, "photo"); // what it is called here is nobody else's business
  const { records } = await call(`v1/classify/batch?${query}`, { signal, body });
  const record = records?.[0];
  if (!Array.isArray(record?.labels)) throw new Refused(200, ODD); // somebody between us and the service made it
  return record;
}

/** Where the evidence is for a class, given by its index, or for the likeliest. */
export function explain(file, { model }, label, signal) {
  const query = new URLSearchParams({ model });
  if (label !== null) query.set("label", String(label));
  return call(`v1/explain?${query}`, { signal, body: file });
}

/** What the network sees of a photo. */
export function look(file, { model }, signal) {
  return call(`v1/look?${new URLSearchParams({ model })}`, { signal, body: file });
}

/** One of the sample photos, as a file. */
export async function sample({ name, path }) {
  const response = await answer(path.slice(1), {});
  return new File([await response.blob()], name, { type: "image/jpeg" });
}

async function call(path, options = {}) {
  const response = await answer(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Unreachable();
  }
}

async function answer(path, { signal, body }) {
  const headers = {};
  if (key !== null) headers.authorization = `Bearer ${key}`;
  const within = AbortSignal.timeout(LONGEST);
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body,
      signal: signal ? AbortSignal.any([signal, within]) : within,
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  let problem = null;
  try {
    const told = await response.json();
    if (typeof told.code === "string" && typeof told.detail === "string") problem = told;
  } catch {
    // Somebody between us and the service answered, in words of its own; or the service, in its last moment.
  }
  if (problem === null && response.status >= 500) throw new Unreachable();
  problem ??= ODD;
  throw new Refused(response.status, problem, wait(response.headers.get("retry-after")));
}

/** The seconds of a Retry-After, which may also be a date; null for none. */
export function wait(text) {
  if (text === null) return null;
  const count = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(count) ? Math.min(Math.max(1, Math.ceil(count)), MOST_WAIT) : null;
}
