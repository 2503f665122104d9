// A list that goes on as far as one scrolls: page after page by the service's own links.

import { el, say } from "./dom.js";
import { patience, read } from "./http.js";

/**
 * A list of what `path` answers. `render` makes an item's element, `key` tells items apart, `empty` is shown
 * where there are none, `label` names the list. `onPage` hears of each answer.
 */
export function paged({ path, render, key, empty, label, onPage = () => {} }) {
  const list = el("ol", { class: "items", "aria-label": label });
  const foot = el("div", { class: "foot" });
  const node = el("div", { class: "paged" }, list, foot);
  const shown = new Map();
  const retry = patience();
  let next = path;
  let busy = false;
  let timer = 0;
  let stopped = false;

  const observer = new IntersectionObserver(
    (entries) => entries.some((entry) => entry.isIntersecting) && more(),
    { rootMargin: "600px" },
  );

  function add(item, place) {
    if (shown.has(key(item))) return false;
    const row = el("li", {}, render(item));
    shown.set(key(item), { item, row });
    if (place === "first") list.prepend(row);
    else list.append(row);
    return true;
  }

  async function more() {
    if (busy || stopped || next === null) return;
    busy = true;
    clearTimeout(timer);
    observer.disconnect();
    foot.replaceChildren(el("p", { class: "loading" }, shown.size ? "Loading more…" : "Loading…"));
    list.setAttribute("aria-busy", "true");
    try {
      const answer = await read(next);
      if (stopped) return;
      retry.reset();
      for (const item of answer.data) add(item, "last");
      next = answer.next;
      onPage(answer);
      atEnd();
    } catch (problem) {
      if (!stopped) failed(problem);
    } finally {
      busy = false;
      list.removeAttribute("aria-busy");
    }
    // The foot may be in view still.
    if (next !== null && !timer && !stopped) observer.observe(foot);
  }

  function atEnd() {
    timer = 0;
    if (next !== null) {
      foot.replaceChildren(el("button", { type: "button", class: "plain", onclick: more }, "Load more"));
    } else if (shown.size === 0) {
      foot.replaceChildren(el("div", { class: "empty" }, empty()));
    } else {
      foot.replaceChildren(el("p", { class: "end" }, "That is all."));
    }
  }

  function failed(problem) {
    const pause = problem.passes ? retry.wait() : null;
    if (pause !== null) timer = setTimeout(() => { timer = 0; more(); }, pause);
    const again = () => { clearTimeout(timer); timer = 0; more(); };
    foot.replaceChildren(
      el("div", { class: "problem", role: "group", "aria-label": problem.title },
        el("p", {}, problem.words),
        el("p", { class: "quiet" }, pause === null ? "" : "Trying again by itself."),
        el("button", { type: "button", onclick: again }, "Try now")),
    );
    say(problem.words);
  }

  return {
    node,
    start: more,
    stop() {
      stopped = true;
      clearTimeout(timer);
      observer.disconnect();
    },
    /** Puts an item in front; false if it is there already. */
    prepend(item) {
      const added = add(item, "first");
      if (added && next === null) atEnd();
      return added;
    },
    has: (id) => shown.has(id),
    size: () => shown.size,
    /** Takes out what `matches`. */
    remove(matches) {
      for (const [id, { item, row }] of shown) {
        if (!matches(item)) continue;
        const focused = row.contains(document.activeElement);
        const beside = row.nextElementSibling ?? row.previousElementSibling;
        row.remove();
        shown.delete(id);
        if (focused) (beside?.querySelector("a, button") ?? document.getElementById("main")).focus();
      }
      if (next === null) atEnd();
    },
    /** Puts `items` in the place of all that is shown; what was there keeps its element. */
    replace(items, following) {
      const rows = items.map((item) => {
        const known = shown.get(key(item));
        return [key(item), known ?? { item, row: el("li", {}, render(item)) }];
      });
      shown.clear();
      for (const [id, entry] of rows) shown.set(id, entry);
      list.replaceChildren(...rows.map(([, { row }]) => row));
      next = following;
      atEnd();
      observer.disconnect();
      if (next !== null) observer.observe(foot);
    },
  };
}
