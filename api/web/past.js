// Time travel: the feed as it was at any position of the log, or at any time.

import { count, el, say } from "./dom.js";
import { read } from "./http.js";
import { explainAny } from "./explain.js";
import { paged } from "./paged.js";
import { ofFeed, tweet } from "./tweet.js";

/** The slider asks when it rests for so long. */
const REST_MS = 150;

/** Shows the past in `main`; returns what ends it. */
export function past(main) {
  const slider = el("input", { id: "position", type: "range", min: "0", max: "0", step: "1", disabled: true });
  const number = el("input", { id: "position-number", type: "text", inputmode: "numeric", pattern: "[0-9]+", size: "9" });
  const time = el("input", { id: "time", type: "datetime-local", step: "1" });
  const says = el("p", { class: "as-of", role: "status" });
  const place = el("div");
  let list = null;
  let timer = 0;
  let ended = false;
  /** The position that the list is exact at. */
  let shown = 0;

  function show(at) {
    list?.stop();
    list = paged({
      path: `/api/feed/?at=${encodeURIComponent(at)}&limit=20`,
      label: "Your home timeline as it was",
      key: (item) => item.tweet_id,
      render: (item) => tweet(ofFeed(item), { why: () => shown }),
      empty: () => el("p", {}, "Your feed was empty then."),
      onPage: ({ position }) => {
        shown = position;
        slider.value = String(position);
        number.value = String(position);
        slider.setAttribute("aria-valuetext", `position ${count(position)} of ${count(Number(slider.max))}`);
        says.textContent = `Your feed as it was at position ${count(position)} of ${count(Number(slider.max))}, with what has been deleted since.`;
      },
    });
    place.replaceChildren(list.node);
    list.start();
  }

  const chosen = () => show(slider.value);

  slider.addEventListener("input", () => {
    number.value = slider.value;
    clearTimeout(timer);
    timer = setTimeout(chosen, REST_MS);
  });

  async function start() {
    try {
      // The newest position that a page can be exact at.
      const { position } = await read("/api/feed/?limit=1");
      if (ended) return;
      slider.max = String(position);
      slider.value = String(position);
      slider.disabled = false;
      chosen();
    } catch (problem) {
      if (ended) return;
      place.replaceChildren(el("div", { class: "problem" }, el("p", {}, problem.words),
        el("button", { type: "button", onclick: start }, "Try now")));
      say(problem.words);
    }
  }

  main.replaceChildren(
    el("div", { class: "row between" }, el("h1", {}, "Past"),
      el("button", { type: "button", class: "plain", onclick: () => explainAny(shown) }, "Why is a tweet not here?")),
    el("div", { class: "travel" },
      el("label", { for: "position" }, "Position in the log"), slider,
      el("div", { class: "row" },
        el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); slider.value = number.value; chosen(); } },
          el("label", { for: "position-number" }, "At position"), number, el("button", { type: "submit" }, "Go")),
        el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); if (time.value) show(new Date(time.value).toISOString()); } },
          el("label", { for: "time" }, "At time"), time, el("button", { type: "submit" }, "Go to time")),
        el("button", { type: "button", class: "plain", onclick: start }, "Now"))),
    says, place);
  start();
  return () => {
    ended = true;
    clearTimeout(timer);
    list?.stop();
  };
}
