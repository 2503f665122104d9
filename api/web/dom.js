// Making elements. Text is always text: nothing here takes markup.

/** An element. `on…` are listeners, `true` is an attribute without a value, and what is missing is left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return put(node, ...children);
}

/** Adds `children` to `node`, without those that are none: so that one can be left out by a condition. */
function put(node, ...children) {
  node.append(...children.flat(2).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** The same in the place of all that `node` has. */
export function show(node, ...children) {
  node.replaceChildren();
  return put(node, ...children);
}

const numbers = new Intl.NumberFormat("en");

/** A whole number as people read it. */
export const count = (value) => numbers.format(value);

/** "1 follower", "2 followers". */
export const some = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** So many milliseconds, with as many digits as tell something. */
export function milliseconds(value) {
  if (value < 10) return `${Math.max(0, value).toFixed(1)} ms`;
  if (value < 10_000) return `${count(Math.round(value))} ms`;
  return seconds(value / 1_000);
}

/** So many seconds. */
export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7_200) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3_600)} h`;
}

const day = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const whole = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "medium" });

/** A moment, said as how long ago it was. */
export function ago(text) {
  const then = new Date(text);
  const passed = (Date.now() - then) / 1_000;
  let said = day.format(then);
  if (passed < 5) said = "now";
  else if (passed < 86_400) said = `${seconds(passed).replace(/\..*(?= s)/, "")} ago`;
  return el("time", { datetime: text, title: whole.format(then) }, said);
}

/** Someone's mark: the first letter on a colour of their own. */
export function avatar(id, name) {
  const node = el("span", { class: "avatar", "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "?");
  node.style.setProperty("--hue", String((id * 137) % 360));
  return node;
}

/** A name, which may be written in any direction and must not turn what stands beside it. */
export const name = (text) => el("bdi", {}, text);

let last = 0;

/** Tells those who do not see the page, politely; of what comes at once only the last. */
export function say(text) {
  clearTimeout(last);
  last = setTimeout(() => {
    document.getElementById("say").textContent = text;
  }, 150);
}
