// Asking the service. Who asks is added here, and so is the position that an answer must have reached: whoever
// has just done something finds it in what they read next.

import { credentials } from "./session.js";

/** A refusal, as the service words it, or that there was no answer at all. */
export class Problem extends Error {
  constructor(status, title, detail, type = "") {
    super(detail);
    this.status = status;
    this.title = title;
    this.type = type;
  }

  /** All of it in one sentence. */
  get words() {
    return `${this.title}: ${this.message.replace(/\.$/, "")}.`;
  }

  /** Whether the same request may succeed in a while. */
  get passes() {
    return this.status === 0 || this.status === 503;
  }
}

const NO_ANSWER = "Rookery cannot be reached";

/** The read model is behind our own last command: for a while reads do not wait for it. */
const IMPATIENT_MS = 5_000;

let atLeast = 0;
let impatientUntil = 0;
const reached = new Set();

/** Calls `listener` with whether the service answered, each time that this changes. */
export function onReach(listener) {
  reached.add(listener);
}

let isReached = true;

function reach(now) {
  if (now === isReached) return;
  isReached = now;
  for (const listener of reached) listener(now);
}

/** Reads `path`: `{ data, position, next, behind }`. `behind` says that what we did last is not in it yet. */
export async function read(path) {
  const patient = atLeast > 0 && Date.now() >= impatientUntil;
  try {
    const answer = await send("GET", path, undefined, patient ? { "X-Min-Log-Position": atLeast } : {});
    return { ...answer, behind: answer.position !== null && answer.position < atLeast };
  } catch (problem) {
    if (!(patient && problem.type === "urn:rookery:problem:not-there-yet")) throw problem;
    impatientUntil = Date.now() + IMPATIENT_MS;
    return { ...(await send("GET", path)), behind: true };
  }
}

/** Reads `path` as it is now, whatever we did last: for looking at what is on its way. */
export const readNow = (path) => send("GET", path);

/** Sends a command: `{ data, position }`. A POST that is repeated by `key` is done once. */
export async function command(method, path, body, key) {
  const answer = await send(method, path, body, key ? { "Idempotency-Key": key } : {});
  atLeast = Math.max(atLeast, answer.position ?? 0);
  return answer;
}

/** Someone else is acting now: what was done before is no business of theirs. */
export function forget() {
  atLeast = 0;
}

async function send(method, path, body, more = {}) {
  const headers = { ...credentials(), ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    reach(false);
    throw new Problem(0, NO_ANSWER, "there is no answer");
  }
  reach(true);
  const data = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Problem(response.status, data.title ?? "Refused", data.detail ?? response.statusText, data.type);
  }
  const position = response.headers.get("X-Log-Position");
  const link = response.headers.get("Link")?.match(/<([^>]+)>; rel="next"/);
  return { data, position: position === null ? null : Number(position), next: link?.[1] ?? null };
}

/** Waits longer after each failure: one second, two, four, at most ten. */
export function patience() {
  let failures = 0;
  return {
    wait() {
      const pause = Math.min(1_000 * 2 ** failures, 10_000);
      failures += 1;
      return pause;
    },
    reset() {
      failures = 0;
    },
  };
}
