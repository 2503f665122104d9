// A user: what they wrote, who follows them, whom they follow.

import { ago, avatar, el, name, show } from "./dom.js";
import { read } from "./http.js";
import { paged } from "./paged.js";
import { followButton, listOfUsers } from "./people.js";
import { userId } from "./session.js";
import { ofTweet, tweet } from "./tweet.js";

const TABS = ["Tweets", "Followers", "Following"];

/** Shows user `id` in `main`; returns what ends it. */
export function profile(main, id) {
  const head = el("header", { class: "profile" }, el("p", { class: "loading" }, "Loading…"));
  const panel = el("div", { id: "panel", role: "tabpanel", tabindex: "0" });
  const tabs = TABS.map((title, index) =>
    el("button", { type: "button", role: "tab", id: `tab-${index}`, "aria-controls": "panel", onclick: () => choose(index) }, title));
  const bar = el("div", { role: "tablist", "aria-label": "What of this user", class: "tabs", onkeydown: byArrows }, tabs);
  let list = null;
  let ended = false;

  function choose(index) {
    list?.stop();
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${index}`);
    list = [tweets, followers, following][index]();
    panel.replaceChildren(list.node);
    list.start();
  }

  function byArrows(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const index = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    tabs[index].focus();
    choose(index);
  }

  const tweets = () => {
    const written = paged({
      path: `/api/tweets/user/${id}?limit=20`,
      label: "Tweets",
      key: (item) => item.id,
      render: (item) => tweet(ofTweet(item), { onDeleted: (gone) => written.remove((other) => other.id === gone) }),
      empty: () => el("p", {}, "They have written nothing yet."),
    });
    return written;
  };
  const followers = () => listOfUsers(`/api/subscriptions/${id}/followers?limit=50`, "Followers", () => el("p", {}, "Nobody follows them yet."));
  const following = () => listOfUsers(`/api/subscriptions/${id}/following?limit=50`, "Following", () => el("p", {}, "They follow nobody yet."));

  const counts = el("p", { class: "quiet counts" });

  async function showCounts() {
    try {
      const { data } = await read(`/api/users/${id}/counts`);
      const words = (number, one, many) => `${number.toLocaleString()} ${number === 1 ? one : many}`;
      counts.textContent = [words(data.tweets, "tweet", "tweets"), words(data.followers, "follower", "followers"),
        `${data.following.toLocaleString()} following`].join(" · ");
    } catch {
      // They come by a way of their own; the profile is whole without them.
      counts.textContent = "";
    }
  }

  async function showHead() {
    try {
      const { data } = await read(`/api/users/${id}`);
      const me = userId();
      let follow = null;
      if (me !== null && me !== data.id) {
        const held = await read(`/api/subscriptions/${me}/following?after=${data.id - 1}&limit=1`);
        follow = followButton(data, held.data[0]?.id === data.id, showCounts);
      }
      if (ended) return;
      show(head, avatar(data.id, data.username),
        el("div", { class: "grow" }, el("h1", {}, name(data.username)),
          el("p", { class: "quiet" }, `User ${data.id}, joined `, ago(data.created_at), data.email && ` · ${data.email}`), counts),
        follow);
      choose(0);
      showCounts();
    } catch (problem) {
      if (ended) return;
      show(head, el("h1", {}, problem.title), el("p", {}, problem.message),
        problem.passes ? el("button", { type: "button", onclick: showHead }, "Try now") : null);
    }
  }

  main.replaceChildren(head, bar, panel);
  showHead();
  return () => {
    ended = true;
    list?.stop();
  };
}
