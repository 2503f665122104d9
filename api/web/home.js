// The home timeline: the feed as it is, and as it grows.

import { count, el, say, some } from "./dom.js";
import { read } from "./http.js";
import { composer } from "./composer.js";
import { explainAny } from "./explain.js";
import { live } from "./live.js";
import { marker } from "./marker.js";
import { paged } from "./paged.js";
import { userId } from "./session.js";
import { ofFeed, tweet } from "./tweet.js";

const FIRST = "/api/feed/?limit=20";

/** Of so many items the list is made anew when a follow brings in older ones. */
const REREAD_MAX = 200;

/** From this far down new tweets wait to be asked for. */
const TOP_PX = 120;

/** Shows the home of whoever acts in `main`; returns what ends it. */
export function home(main) {
  const reader = userId();
  const as = el("p", { class: "quiet as-of" });
  const news = el("button", { type: "button", class: "news", hidden: true, onclick: showNews });
  let waiting = [];
  let stream = null;
  let rereading = null;
  let ended = false;

  const feed = paged({
    path: FIRST,
    label: "Your home timeline",
    key: (item) => item.tweet_id,
    render: (item) => tweet(ofFeed(item), { why: () => null, onDeleted: gone }),
    empty: () => [
      el("p", {}, "Nothing here yet."),
      el("p", { class: "quiet" }, "Write something, or ", el("a", { href: "#/people" }, "follow somebody"), ": what they wrote comes in at once."),
    ],
    onPage: (answer) => {
      at(answer);
      if (answer.data.length > 0) place.seen(answer.data[0].tweet_id);
      // From the first page on the stream has everything that follows.
      stream ??= ended ? null : live(answer.position, { item: arrived, removed, followed: reread, reset: reread, at: reached });
    },
  });

  const place = marker(feed.node);

  function at({ position, behind }) {
    as.textContent = behind
      ? `As of position ${count(position)}. What you did last is not in it yet; it will be.`
      : `As of position ${count(position)}`;
  }

  const reached = (position) => at({ position, behind: false });

  function arrived(item) {
    if (feed.has(item.tweet_id) || waiting.some(({ tweet_id }) => tweet_id === item.tweet_id)) return;
    const own = item.author_id === reader;
    if (own || scrollY < TOP_PX) {
      feed.prepend(item);
      place.arrived(item.tweet_id);
      if (!own) say(`New tweet by ${item.author_username}.`);
    } else {
      waiting.unshift(item);
      announce();
    }
  }

  function announce() {
    news.hidden = waiting.length === 0;
    news.textContent = `${count(waiting.length)} new`;
    if (waiting.length > 0) say(`${some(waiting.length, "new tweet")}.`);
  }

  function showNews() {
    for (const item of [...waiting].reverse()) {
      feed.prepend(item);
      place.seen(item.tweet_id);
    }
    waiting = [];
    announce();
    scrollTo({ top: 0 });
    document.getElementById("main").focus({ preventScroll: true });
  }

  function gone(id) {
    removed({ tweet_id: id });
  }

  function removed({ tweet_id, author_id }) {
    const matches = (item) => item.tweet_id === tweet_id || item.author_id === author_id;
    waiting = waiting.filter((item) => !matches(item));
    feed.remove(matches);
    announce();
  }

  /** Reads what is shown again: a follow brings items in between. One reading at a time, and one more after. */
  async function reread() {
    if (rereading) {
      rereading = "again";
      return;
    }
    rereading = "now";
    try {
      const wanted = Math.min(Math.max(feed.size(), 20), REREAD_MAX);
      let items = [];
      let next = `/api/feed/?limit=${Math.min(wanted, 100)}`;
      while (next !== null && items.length < wanted) {
        const answer = await read(next);
        items = items.concat(answer.data);
        next = answer.next;
        at(answer);
      }
      if (!ended) {
        waiting = [];
        announce();
        feed.replace(items, next);
      }
    } catch (problem) {
      say(problem.words);
    } finally {
      const again = rereading === "again";
      rereading = null;
      if (again && !ended) reread();
    }
  }

  main.replaceChildren(
    el("h1", { class: "unseen" }, "Home"),
    composer((posted) => arrived({
      tweet_id: posted.id,
      content: posted.content,
      author_id: posted.author_id,
      author_username: posted.author.username,
      created_at: posted.created_at,
    })),
    el("div", { class: "row between" }, as,
      el("button", { type: "button", class: "plain", onclick: () => explainAny(null) }, "Why is a tweet not here?")),
    news, feed.node);
  feed.start();
  return () => {
    ended = true;
    stream?.close();
    place.stop();
    feed.stop();
  };
}
