// A tweet of one's own on its way, by the system's own records: from the log to the last follower.

import { el, milliseconds, say, show, some, svg } from "./dom.js";
import { patience, readNow } from "./http.js";
import { open } from "./dialog.js";

/**
 * The hops of the way: the time that ends each, what happened then, and the time that it began with. RabbitMQ
 * confirms to the relay and delivers to the projector side by side.
 */
const HOPS = [
  { at: "appended_at", what: "appended", means: "to the log" },
  { at: "published_at", what: "published", means: "to RabbitMQ", from: "appended_at" },
  { at: "confirmed_at", what: "confirmed", means: "by RabbitMQ", from: "published_at" },
  { at: "received_at", what: "received", means: "by the projector", from: "published_at" },
  { at: "applied_at", what: "applied", means: "rows written", from: "received_at" },
  { at: "readable_at", what: "readable", means: "by all followers", from: "applied_at" },
];

/** Looked at so soon again while it is on its way, and not sooner than the last look took three times over. */
const LOOK_MS = 150;

/** Whom to tell of a tweet that is watched: the pipeline's own place for it. */
let place = null;

/** The element in which tweets that are posted here are drawn. */
export function journeysIn(element) {
  place = element;
}

/** The tweet that is watched: the one that was posted last. */
let watched = null;

/** Follows `tweet` until its last follower can read it; says so in `line`, and draws it in the pipeline. */
export async function watch(tweet, line) {
  watched = tweet;
  const card = el("section", { class: "card journey", "aria-label": `Tweet ${tweet} on its way` });
  place?.replaceChildren(card);
  const retry = patience();
  line.textContent = "On its way…";
  for (;;) {
    const began = performance.now();
    let wait;
    try {
      const { data } = await readNow(`/api/tweets/${tweet}/delivery`);
      if (watched !== tweet) return;
      retry.reset();
      show(card, el("h3", {}, `Tweet ${data.tweet_id} on its way`), drawn(data));
      line.textContent = sentence(data);
      if (isReadable(data) && isRecorded(data)) {
        say(sentence(data));
        return;
      }
      // The records are written a moment later; where they never come, the counts are all there is.
      wait = Math.max(LOOK_MS, 3 * (performance.now() - began));
      if (isReadable(data) && Date.now() - Date.parse(data.appended_at) > 10_000) return;
      if (Date.now() - Date.parse(data.appended_at) > 5_000) wait = Math.max(wait, 1_000);
    } catch (problem) {
      if (!problem.passes) {
        // Deleted, or somebody else acts now.
        card.remove();
        line.textContent = "";
        return;
      }
      line.textContent = "On its way; how far it is cannot be seen now.";
      wait = retry.wait();
    }
    if (watched !== tweet || (!line.isConnected && !card.isConnected)) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Shows how far a tweet of one's own has come. */
export async function showDelivery(tweet) {
  const card = el("div", { class: "journey" }, el("p", { class: "loading" }, "Asking…"));
  open(`Tweet ${tweet} on its way`, card);
  try {
    const { data } = await readNow(`/api/tweets/${tweet}/delivery`);
    show(card, drawn(data), el("p", {}, sentence(data)));
  } catch (problem) {
    card.replaceChildren(el("p", { class: "problem" }, problem.words));
  }
}

const isReadable = (data) => data.position >= data.tweet_id && data.feeds >= data.followers;
const isRecorded = (data) => HOPS.every(({ at }) => data[at] !== null);

function sentence(data) {
  if (data.position < data.tweet_id) return "On its way: in the log, and in no feed yet.";
  const after = data.last_after_ms === null ? "" : `, the last after ${milliseconds(data.last_after_ms)}`;
  if (data.followers === 0) return `At position ${data.position} it is in your own feed; nobody follows you yet.`;
  return `At position ${data.position} it is in ${data.feeds.toLocaleString("en")} of ${some(data.followers, "follower’s feed", "followers’ feeds")}${after}.`;
}

function drawn(data) {
  const since = (at) => (at && data[at] !== null ? exact(data[at]) - exact(data.appended_at) : null);
  const end = Math.max(1, ...HOPS.map(({ at }) => since(at) ?? 0));
  const rows = HOPS.map(({ at, what, means, from }) => {
    const [began, ended] = [since(from) ?? 0, since(at)];
    return el("li", { class: ended === null ? "open" : "done" },
      el("span", { class: "hop" }, what, el("span", { class: "quiet" }, ` ${means}`)),
      bar(began / end, (ended ?? began) / end),
      el("span", { class: "took" }, ended === null ? "—" : from ? `+${milliseconds(ended - began)}` : "0 ms"));
  });
  return [
    el("ol", { class: "hops", "aria-label": "Its hops" }, rows),
    !isRecorded(data) && isReadable(data) && el("p", { class: "quiet" }, "Not all of its times are on record."),
  ];
}

/** Microseconds count here, and `Date` has none. */
function exact(text) {
  const micros = text.match(/\.(\d+)/)?.[1] ?? "0";
  return Date.parse(text.replace(/\.\d+/, "")) + Number(`0.${micros}`) * 1_000;
}

function bar(from, to) {
  const width = Math.max(1, (to - from) * 100);
  return svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 3, width: 100, height: 2 }),
    svg("rect", { class: "took", x: Math.min(from * 100, 99), y: 0, width, height: 8, rx: 1 }));
}
