// Who is there, and whom one follows.

import { ago, avatar, el, name, say } from "./dom.js";
import { command, read } from "./http.js";
import { paged } from "./paged.js";
import { userId } from "./session.js";

/** Whom of the users from `first` to `last`, at most a hundred, whoever acts follows. */
async function followedAmong(first, last) {
  const me = userId();
  if (me === null) return new Set();
  const { data } = await read(`/api/subscriptions/${me}/following?after=${first - 1}&limit=100`);
  return new Set(data.map(({ id }) => id).filter((id) => id <= last));
}

/** A button that follows `user`, or no longer; `onDone` hears when it has. */
export function followButton(user, follows, onDone = () => {}) {
  const button = el("button", { type: "button", class: "follow", "aria-pressed": String(follows), onclick: toggle });
  show();

  function show() {
    button.setAttribute("aria-pressed", String(follows));
    button.replaceChildren(follows ? "Following" : "Follow", el("span", { class: "unseen" }, " ", user.username));
  }

  async function toggle() {
    button.disabled = true;
    try {
      if (follows) await command("DELETE", `/api/subscriptions/unfollow/${user.id}`);
      else await command("POST", "/api/subscriptions/follow", { followed_id: user.id });
      follows = !follows;
      say(follows ? `You follow ${user.username}.` : `You no longer follow ${user.username}.`);
      onDone();
    } catch (problem) {
      // Somebody else's window was first.
      if (problem.status === 409) follows = true;
      else if (problem.type === "urn:rookery:problem:not-following") follows = false;
      else say(problem.words);
    }
    button.disabled = false;
    show();
  }
  return button;
}

/** A list of users, by the service's own pages. */
export function listOfUsers(path, label, empty) {
  const places = new Map();
  const list = paged({
    path,
    label,
    key: (user) => user.id,
    empty,
    render: (user) => {
      const place = el("span", { class: "place" });
      places.set(user.id, place);
      return el("div", { class: "user" }, avatar(user.id, user.username),
        el("span", { class: "grow" }, el("a", { href: `#/user/${user.id}`, class: "author" }, name(user.username)),
          el("span", { class: "quiet" }, ` ${user.id}, joined `, ago(user.created_at))),
        place);
    },
    onPage: ({ data }) => data.length > 0 && addButtons(data),
  });

  async function addButtons(users) {
    if (userId() === null) return;
    const ids = users.map(({ id }) => id);
    let followed;
    try {
      followed = await followedAmong(Math.min(...ids), Math.max(...ids));
    } catch {
      // Without it nobody knows which button it would be.
      return;
    }
    for (const user of users) {
      if (user.id !== userId()) places.get(user.id)?.replaceChildren(followButton(user, followed.has(user.id)));
    }
  }
  return list;
}

/** Shows everyone; returns what ends it. */
export function people(main) {
  const number = el("input", { id: "go-to", type: "text", inputmode: "numeric", pattern: "[1-9][0-9]*", required: true, size: "8" });
  const list = listOfUsers("/api/users/?limit=50", "Everyone", () => [
    el("p", {}, "Nobody is here yet."),
    el("p", { class: "quiet" }, "The button at the top registers the first."),
  ]);
  main.replaceChildren(
    el("div", { class: "row between" },
      el("h1", {}, "People"),
      el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); location.hash = `#/user/${number.value.trim()}`; } },
        el("label", { for: "go-to" }, "Go to user number"), number, el("button", { type: "submit" }, "Go"))),
    list.node);
  list.start();
  return list.stop;
}
