// How far one has read: a line in the list where that was, a number in the title while nobody looks, and the marker that
// the service keeps.

import { count, el } from "./dom.js";
import { command, readNow } from "./http.js";

/** A tweet counts as read when it has been in an open page for this long. */
const READ_AFTER_MS = 1_000;

/**
 * The reader's place in `list`, a list of items by `tweet_id`. `seen` hears what is shown, `arrived` what came in while nobody
 * may be looking; `stop` ends it.
 */
export function marker(list) {
  let title = null;
  let from = null;
  let newest = 0;
  let told = 0;
  let unseen = 0;
  let timer = 0;
  let stopped = false;

  const begun = readNow("/api/feed/unread").then(({ data }) => {
    from = told = data.marker;
    if (!stopped) divide();
  }, () => { /* Without an answer there is no line. */ });

  /** The line goes above the first item that was read before, if something unread is above it. */
  function divide() {
    if (from === null || from === 0 || list.querySelector(".read-before")) return;
    const items = [...list.querySelectorAll("[data-tweet]")];
    const first = items.find((item) => Number(item.dataset.tweet) <= from);
    if (!first || first === items[0]) return;
    first.before(el("p", { class: "read-before" }, "You have read what is below."));
  }

  function seen(id) {
    newest = Math.max(newest, id);
    divide();
    later();
  }

  function entitle(number) {
    if (unseen === 0) title = document.title;
    unseen = number;
    document.title = number === 0 ? title : `(${count(number)}) ${title}`;
  }

  function later() {
    clearTimeout(timer);
    if (stopped || document.hidden || newest === 0) return;
    entitle(0);
    timer = setTimeout(tell, READ_AFTER_MS);
  }

  /** Tells the service. What fails is told with the next: the marker is further then. */
  async function tell() {
    await begun;
    const tweet_id = newest;
    if (stopped || document.hidden || tweet_id <= told) return;
    try {
      told = (await command("PUT", "/api/feed/marker", { tweet_id })).data.tweet_id;
    } catch { /* See above. */ }
  }

  document.addEventListener("visibilitychange", later);
  return {
    seen,
    arrived(id) {
      if (!document.hidden) return seen(id);
      newest = Math.max(newest, id);
      entitle(unseen + 1);
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      entitle(0);
      document.removeEventListener("visibilitychange", later);
    },
  };
}
