// Saying who one is: by a user's number, by registering, or by a token.

import { avatar, el, name } from "./dom.js";
import { command, forget, read } from "./http.js";
import { actAs, byToken, onActing, userId } from "./session.js";
import { open } from "./dialog.js";

/** Makes the button at the top say who acts, and open the dialog. */
export function showActing(button) {
  button.addEventListener("click", ask);
  const show = async () => {
    const id = userId();
    if (id === null) {
      button.replaceChildren("Who are you?");
      return;
    }
    button.replaceChildren(avatar(id, "·"), `User ${id}`);
    try {
      const { data } = await read(`/api/users/${id}`);
      if (userId() === id) button.replaceChildren(avatar(id, data.username), el("span", {}, el("span", { class: "unseen" }, "Acting as "), name(data.username)));
    } catch {
      // The number says enough; what is wrong is said where the feed would be.
    }
  };
  onActing(() => {
    forget();
    show();
  });
  show();
}

/** Asks who one is. */
export function ask() {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const fail = (refusal) => {
    problem.textContent = refusal.words;
    problem.hidden = false;
  };
  const close = byToken
    ? open("Who are you?", tokenForm(done, fail), problem)
    : open("Who are you?", numberForm(done, fail), el("hr"), registerForm(done, fail), problem);

  function done(credential) {
    close();
    actAs(credential);
  }
}

function numberForm(done, fail) {
  const input = el("input", { id: "act-as", type: "text", inputmode: "numeric", pattern: "[1-9][0-9]*", required: true, size: "8", value: userId() ?? "" });
  return el("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        await read(`/api/users/${input.value.trim()}`);
        done(input.value.trim());
      } catch (refusal) {
        if (refusal.status === 404 || refusal.status === 422) fail(refusal);
        else done(input.value.trim());
      }
    },
  },
  el("p", { class: "quiet" }, "This is the development login: whoever reaches this page may act as anyone."),
  el("div", { class: "row" }, el("label", { for: "act-as" }, "Act as user number"), input, el("button", { type: "submit" }, "Act")));
}

function registerForm(done, fail) {
  const username = el("input", { id: "new-name", type: "text", required: true, autocomplete: "off" });
  const email = el("input", { id: "new-mail", type: "email", required: true, autocomplete: "off" });
  return el("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      try {
        const { data } = await command("POST", "/api/users/", { username: username.value, email: email.value });
        done(data.id);
      } catch (refusal) {
        fail(refusal);
      }
    },
  },
  el("h3", {}, "Or register"),
  el("div", { class: "field" }, el("label", { for: "new-name" }, "Name"), username),
  el("div", { class: "field" }, el("label", { for: "new-mail" }, "E-mail address"), email),
  el("button", { type: "submit" }, "Register and act"));
}

function tokenForm(done, fail) {
  const input = el("input", { id: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false" });
  return el("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      const before = userId();
      actAs(input.value);
      if (userId() === null) {
        fail({ words: "Not a token: a JWT has three parts with dots between them, and a user id as its sub." });
        return;
      }
      try {
        await read("/api/feed/?limit=1");
        done(input.value);
      } catch (refusal) {
        if (refusal.passes) return done(input.value);
        if (before === null) actAs("");
        fail(refusal);
      }
    },
  },
  el("p", { class: "quiet" }, "Your token stays in this tab and is sent to this service alone."),
  el("div", { class: "field" }, el("label", { for: "token" }, "Bearer token"), input),
  el("div", { class: "row" }, el("button", { type: "submit" }, "Log in"),
    userId() !== null && el("button", { type: "button", class: "plain", onclick: () => done("") }, "Log out")));
}
