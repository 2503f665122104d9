// Writing a tweet.

import { el, say } from "./dom.js";
import { command } from "./http.js";
import { watch } from "./journey.js";

/** As many characters as the service takes, counted as it counts: Unicode characters, after trimming. */
export const CONTENT_MAX = 280;

/** From so few on the rest is said, too. */
const NEAR = 20;

/** What the service would keep of `text`. JavaScript's own `trim` takes other characters for blanks. */
export const trimmed = (text) => text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");

/** How many characters the service would count. */
export const length = (text) => [...trimmed(text)].length;

/** A form that posts; `onPosted` gets the tweet and its position. */
export function composer(onPosted) {
  const left = el("span", { class: "left", id: "left" }, String(CONTENT_MAX));
  const text = el("textarea", { id: "compose", rows: "3", placeholder: "What is going on?", "aria-describedby": "left", dir: "auto" });
  const post = el("button", { type: "submit", disabled: true }, "Post");
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const delivered = el("p", { class: "quiet delivered" });
  let key = crypto.randomUUID();
  let said = CONTENT_MAX;

  function counted() {
    const used = length(text.value);
    const rest = CONTENT_MAX - used;
    left.textContent = rest >= 0 ? String(rest) : `${-rest} too many`;
    left.classList.toggle("near", rest <= NEAR && rest >= 0);
    left.classList.toggle("over", rest < 0);
    text.setAttribute("aria-invalid", String(rest < 0));
    post.disabled = used === 0 || rest < 0;
    if ((rest <= NEAR) !== (said <= NEAR) || (rest < 0) !== (said < 0)) {
      if (rest < 0) say(`${-rest} characters too many.`);
      else if (rest <= NEAR) say(`${rest} characters left.`);
      said = rest;
    }
  }

  async function send() {
    if (post.disabled) return;
    const content = text.value;
    post.disabled = true;
    problem.hidden = true;
    try {
      const { data } = await command("POST", "/api/tweets/", { content }, key);
      key = crypto.randomUUID();
      text.value = "";
      say("Posted.");
      onPosted(data);
      watch(data.id, delivered);
    } catch (refusal) {
      // The text and its key stay: if it was accepted all the same, sending it again posts it once.
      problem.textContent = refusal.passes
        ? `${refusal.words} Your text stays here; posting it again posts it once.`
        : refusal.words;
      problem.hidden = false;
      if (!refusal.passes) key = crypto.randomUUID();
    } finally {
      counted();
    }
  }

  text.addEventListener("input", () => {
    key = crypto.randomUUID();
    counted();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  return el("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); send(); } },
    el("label", { for: "compose", class: "unseen" }, "Write a tweet"),
    text,
    el("div", { class: "row" },
      el("span", { class: "quiet" }, "Ctrl + Enter posts"),
      el("span", { class: "unseen" }, "Characters left:"), left, post),
    problem, delivered);
}
