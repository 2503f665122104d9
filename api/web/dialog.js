// One dialog at a time: the browser keeps the focus in it, and gives it back.

import { el } from "./dom.js";

/** Opens a dialog with `title` and `content`; returns what closes it. */
export function open(title, ...content) {
  document.querySelector("dialog")?.close();
  const dialog = el("dialog", { "aria-labelledby": "dialog-title" },
    el("header", {},
      el("h2", { id: "dialog-title" }, title),
      el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    ...content);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  // A click beside it closes it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return () => dialog.close();
}
