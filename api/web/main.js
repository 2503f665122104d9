// The page: who acts, which view is shown, and the pipeline beside it.

import { ask, showActing } from "./acting.js";
import { el, say } from "./dom.js";
import { home } from "./home.js";
import { onReach } from "./http.js";
import { past } from "./past.js";
import { people } from "./people.js";
import { showPipeline } from "./pipeline.js";
import { profile } from "./profile.js";
import { byToken, onActing, userId } from "./session.js";

const main = document.getElementById("main");
const links = [...document.querySelectorAll("nav a")];

let end = () => {};

/** The view that the address names; what needs somebody who acts asks for them first. */
function show() {
  const address = location.hash || "#/";
  // A jump within the page is no view.
  if (!address.startsWith("#/")) return;
  end();
  end = () => {};
  for (const link of links) {
    if (link.hash === address) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = address.split("/")[1] || "home";
  const user = address.match(/^#\/user\/([1-9]\d*)$/);
  if (userId() === null && (byToken || address === "#/" || address === "#/past")) end = nobody();
  else if (user) end = profile(main, Number(user[1]));
  else if (address === "#/people") end = people(main);
  else if (address === "#/past") end = past(main);
  else if (address === "#/pipeline") main.replaceChildren(el("h1", { class: "unseen" }, "Pipeline"));
  else if (address === "#/") end = home(main);
  else main.replaceChildren(el("h1", {}, "Not here"), el("p", {}, "This page has no ", el("code", {}, address), "."));
  const title = links.find((link) => link.hash === address)?.textContent;
  document.title = title && title !== "Home" ? `${title} · Rookery` : "Rookery";
}

function nobody() {
  main.replaceChildren(el("div", { class: "welcome" },
    el("h1", {}, "A home timeline, and how it comes about"),
    el("p", {}, "Post as one user, and watch the event on its way into the feeds of those who follow."),
    el("p", {}, el("button", { type: "button", onclick: ask }, byToken ? "Log in with a token" : "Choose who you are")),
    !byToken && el("p", { class: "quiet" }, "Or look at ", el("a", { href: "#/people" }, "who is here"), ".")));
  return () => {};
}

function tellReach(isReached) {
  const line = document.getElementById("offline");
  line.hidden = isReached;
  line.textContent = isReached ? "" : "Rookery cannot be reached. It is tried again by itself; what you write stays here.";
  if (isReached) say("Rookery can be reached again.");
}

showActing(document.getElementById("me"));
showPipeline(document.getElementById("pipeline"));
onReach(tellReach);
onActing(show);
addEventListener("hashchange", () => {
  show();
  if (location.hash.startsWith("#/")) {
    scrollTo({ top: 0 });
    main.focus({ preventScroll: true });
  }
});
show();
