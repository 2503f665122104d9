// Who is acting: a user id that is believed, where the service runs for development, or a token that proves it.

/** Whether callers prove who they are. The service says so in the page itself. */
export const byToken = document.documentElement.dataset.login === "token";

const KEY = byToken ? "rookery.token" : "rookery.user";

// A token is a secret: it goes with the tab.
const store = byToken ? sessionStorage : localStorage;

const listeners = new Set();

let credential = store.getItem(KEY) ?? "";

/** The id of whoever acts; null while nobody does. */
export function userId() {
  const id = byToken ? subject(credential) : Number(credential);
  return Number.isSafeInteger(id) && id > 0 ? id : null;
}

/** Whom a token names. The service decides whether it holds; here it only tells whose page this is. */
function subject(token) {
  try {
    const claims = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return Number(JSON.parse(atob(claims)).sub);
  } catch {
    return NaN;
  }
}

/** The headers that name the caller. */
export function credentials() {
  if (userId() === null) return {};
  return byToken ? { Authorization: `Bearer ${credential}` } : { "X-User-ID": credential };
}

/** Acts as somebody else from now on; with nothing as nobody. */
export function actAs(next) {
  credential = String(next ?? "").trim();
  if (credential) store.setItem(KEY, credential);
  else store.removeItem(KEY);
  for (const listener of listeners) listener(userId());
}

/** Calls `listener` with the user id each time that somebody else acts. */
export function onActing(listener) {
  listeners.add(listener);
}
