// Why a tweet is in one's feed, or why not: the log's own answer.

import { ago, count, el, show } from "./dom.js";
import { read } from "./http.js";
import { open } from "./dialog.js";

/** Explains `tweet` as of the position `at`, or as of now. */
export function explain(tweet, at) {
  const answer = el("div", { class: "explanation", "aria-live": "polite" }, el("p", { class: "loading" }, "Asking the log…"));
  open("Why is this here?", answer);
  fill(answer, tweet, at);
}

/** Asks for a tweet, and explains why that is in the feed or not. */
export function explainAny(at) {
  const answer = el("div", { class: "explanation", "aria-live": "polite" });
  const input = el("input", { type: "text", inputmode: "numeric", pattern: "[0-9]+", required: true, id: "explain-tweet", size: "10" });
  const form = el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      fill(answer, input.value.trim(), at);
    },
  },
  el("label", { for: "explain-tweet" }, "Tweet number"), input, el("button", { type: "submit" }, "Ask"));
  open("Why is that tweet not here?", el("p", { class: "quiet" }, "A tweet's number is its position in the log; it stands below each tweet."), form, answer);
  input.focus();
}

async function fill(answer, tweet, at) {
  try {
    const past = at === null ? "" : `&at=${at}`;
    const { data } = await read(`/api/feed/explain?tweet=${encodeURIComponent(tweet)}${past}`);
    show(answer,
      el("p", { class: data.present ? "verdict there" : "verdict" }, data.verdict),
      data.steps.length > 0 && el("p", { class: "quiet" }, "The events behind it:"),
      el("ol", { class: "steps" }, data.steps.map((step) =>
        el("li", {},
          el("span", { class: "number" }, `#${count(step.position)}`),
          el("span", {}, step.sentence, " ", ago(step.recorded_at))))),
      data.earlier_left_out > 0 && el("p", { class: "quiet" }, `${count(data.earlier_left_out)} earlier follows and unfollows are left out.`),
    );
  } catch (problem) {
    answer.replaceChildren(el("p", { class: "problem" }, problem.words));
  }
}
