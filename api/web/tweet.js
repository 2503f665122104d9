// A tweet, wherever one is shown.

import { ago, avatar, el, name, say } from "./dom.js";
import { command } from "./http.js";
import { userId } from "./session.js";
import { explain } from "./explain.js";
import { showDelivery } from "./journey.js";

/**
 * The element of `{ id, content, authorId, author, createdAt }`. `why()` says at which position to explain it:
 * a number, or null for now; without it the tweet is shown as part of no feed. `onDeleted` hears when it was.
 */
export function tweet({ id, content, authorId, author, createdAt }, { why, onDeleted } = {}) {
  const own = authorId === userId();
  const profile = `#/user/${authorId}`;
  const title = `tweet-${id}`;
  const problem = el("p", { class: "problem", role: "alert", hidden: true });

  async function remove(event) {
    const button = event.currentTarget;
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      button.textContent = "Delete for good?";
      button.addEventListener("blur", () => { delete button.dataset.sure; button.textContent = "Delete"; }, { once: true });
      return;
    }
    button.disabled = true;
    try {
      await command("DELETE", `/api/tweets/${id}`);
      say("Your tweet is deleted.");
      onDeleted?.(id);
    } catch (refusal) {
      button.disabled = false;
      problem.textContent = refusal.words;
      problem.hidden = false;
    }
  }

  return el("article", { class: "tweet", "data-tweet": id, "aria-labelledby": title },
    avatar(authorId, author),
    el("div", { class: "body" },
      el("header", { id: title }, el("a", { href: profile, class: "author" }, name(author)), ago(createdAt)),
      el("p", { class: "content", dir: "auto" }, content),
      el("footer", {},
        el("span", { class: "number", title: "Its id is its position in the log" }, `#${id}`),
        why && el("button", { type: "button", class: "plain", onclick: () => explain(id, why()) }, "Why is this here?"),
        own && el("button", { type: "button", class: "plain", onclick: () => showDelivery(id) }, "Delivery"),
        own && el("button", { type: "button", class: "plain danger", onclick: remove }, "Delete")),
      problem));
}

/** What a feed's item has, by the names that `tweet` takes. */
export const ofFeed = (item) => ({
  id: item.tweet_id,
  content: item.content,
  authorId: item.author_id,
  author: item.author_username,
  createdAt: item.created_at,
});

/** What a tweet by itself has. */
export const ofTweet = (item) => ({
  id: item.id,
  content: item.content,
  authorId: item.author_id,
  author: item.author.username,
  createdAt: item.created_at,
});
