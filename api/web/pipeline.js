// The pipeline at work: one small poll a second for all of it, and none while nobody looks.

import { count, el, say, seconds, some } from "./dom.js";
import { patience, readNow } from "./http.js";
import { byToken, onActing, userId } from "./session.js";
import { drawSpark, rail, spark } from "./drawing.js";
import { journeysIn } from "./journey.js";

const EVERY_MS = 1_000;

/** A minute of samples. */
const SAMPLES = 60;

/** A rate is that of so many seconds. */
const RATE_SAMPLES = 5;

/** The stations in the order of the way: what they are called, what they do, and what of the answer they show. */
const STATIONS = [
  { part: "log", title: "Log", does: "every command, in order", position: (seen) => seen.log.position },
  { part: "relay", title: "Relay", does: "publishes the log", position: (seen) => seen.relay.position, lag: (seen) => seen.relay },
  { part: "broker", title: "RabbitMQ", does: "carries slices of it" },
  { part: "projector", title: "Projector", does: "applies them", position: (seen) => seen.projector.position, lag: (seen) => seen.projector },
  { part: "feeds", title: "Feeds", does: "what readers see" },
];

/** How the service's words for a state are said here, and whether it is well. */
const STATES = {
  working: ["working", "well"],
  connected: ["connected", "well"],
  readable: ["readable", "well"],
  follows_log: ["follows the log", "slow"],
  behind: ["behind", "slow"],
  waiting: ["no one leads", "down"],
  unreachable: ["away", "down"],
  away: ["not running", "down"],
  refused: ["not readable", "down"],
  unknown: ["not known here", "dim"],
};

/** Shows the pipeline in `aside`, for as long as the page is there. */
export function showPipeline(aside) {
  const summary = el("p", { class: "summary", "data-health": "dim" }, "Looking…");
  const troubles = el("div", { class: "troubles" });
  const rebuild = el("div", { class: "place" });
  const journeys = el("div", { class: "place" });
  const stations = new Map(STATIONS.map((station, index) => [station.part, makeStation(station, index === STATIONS.length - 1)]));
  const way = el("ol", { class: "way", "aria-label": "The way of an event" }, [...stations.values()].map(({ row }) => row));
  aside.replaceChildren(el("h2", { id: "pipeline-title" }, "Pipeline"), summary, troubles, rebuild, journeys, way);
  journeysIn(journeys);

  const samples = [];
  const retry = patience();
  let timer = 0;
  let said = "";
  let looking = false;

  async function look() {
    clearTimeout(timer);
    if (document.hidden || looking) return;
    if (byToken && userId() === null) {
      summary.textContent = "Log in to see it, if your token lets you.";
      way.hidden = true;
      return;
    }
    looking = true;
    let wait = EVERY_MS;
    try {
      const { data } = await readNow("/api/pipeline");
      retry.reset();
      way.hidden = false;
      show(data);
    } catch (problem) {
      if (!problem.passes) {
        summary.textContent = problem.words;
        summary.dataset.health = "dim";
        way.hidden = true;
        troubles.replaceChildren();
        looking = false;
        return;
      }
      showAway(problem);
      wait = retry.wait();
    }
    looking = false;
    timer = setTimeout(look, wait);
  }

  function show(seen) {
    samples.push(seen);
    if (samples.length > SAMPLES) samples.shift();
    for (const station of STATIONS) showStation(stations.get(station.part), station, seen, samples);
    troubles.replaceChildren(...seen.troubles.map(card));
    rebuild.replaceChildren(...rebuildCard(seen));
    const words = seen.troubles.map(({ title }) => title).join(", ") || "Everything flows.";
    summary.textContent = words;
    summary.dataset.health = seen.troubles.length > 0 ? "down" : "well";
    mark(seen.troubles.length > 0);
    // Once for each change, not each second.
    if (words !== said && said !== "") {
      say(seen.troubles.length > 0 ? seen.troubles.map((one) => `${one.title}. ${one.waits} ${one.kept}`).join(" ") : "The pipeline works again: everything flows.");
    }
    said = words;
  }

  function showAway(problem) {
    summary.textContent = problem.title;
    summary.dataset.health = "down";
    mark(true);
    troubles.replaceChildren(card({
      title: problem.title,
      works: "This page, and whatever you are writing on it.",
      waits: "What stands here is how it was when it was last seen.",
      kept: "Nothing is lost: whatever was accepted is in the log.",
    }));
    for (const { row } of stations.values()) Object.assign(row.dataset, { health: "dim", flows: "false" });
    said = problem.title;
  }

  document.addEventListener("visibilitychange", look);
  onActing(look);
  look();
}

/** Where there is room for one view only, the way to this one says when it is worth a look. */
function mark(isTrouble) {
  const link = document.querySelector("nav a[href='#/pipeline']");
  link.dataset.trouble = String(isTrouble);
  link.setAttribute("aria-label", isTrouble ? "Pipeline: there is trouble" : "Pipeline");
}

function makeStation(station, isLast) {
  const state = el("span", { class: "state" });
  const figures = el("dl", { class: "figures" });
  const pace = spark();
  const row = el("li", { "data-health": "dim", "data-part": station.part },
    rail(isLast),
    el("div", { class: "body" },
      el("h3", {}, station.title, el("span", { class: "quiet" }, ` ${station.does}`), state),
      figures, pace));
  return { row, state, figures, pace };
}

function showStation({ row, state, figures, pace }, station, seen, samples) {
  const [words, health] = STATES[seen[station.part].state] ?? [seen[station.part].state, "dim"];
  state.textContent = words;
  row.dataset.health = health;
  const rates = ratesOf(station, samples);
  const rate = rates.at(-1) ?? 0;
  // What the relay publishes runs through RabbitMQ.
  const runs = station.part === "broker" ? ratesOf(STATIONS[1], samples).at(-1) ?? 0 : rate;
  row.dataset.flows = String(runs > 0 && health === "well");
  figures.replaceChildren(...figuresOf(station, seen, rate).map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
  pace.toggleAttribute("hidden", station.part === "broker");
  drawSpark(pace, rates, SAMPLES);
}

/** Events a second at each sample; for the feeds rows. */
function ratesOf(station, samples) {
  if (station.part === "feeds") return samples.map((seen) => seen.feeds.deliveries_per_second ?? 0);
  if (!station.position) return [];
  return samples.map((seen, index) => {
    const before = samples[Math.max(0, index - RATE_SAMPLES)];
    const passed = (Date.parse(seen.at) - Date.parse(before.at)) / 1_000;
    const [from, to] = [station.position(before), station.position(seen)];
    return passed > 0 && from !== null && to !== null ? Math.max(0, (to - from) / passed) : 0;
  });
}

function figuresOf({ part, position, lag }, seen, rate) {
  const shown = [];
  if (position) shown.push(["position", known(position(seen))], ["rate", `${perSecond(rate)}/s`]);
  if (lag) {
    const { lag_events: events, lag_seconds: since } = lag(seen);
    shown.push(["lag", events === null ? "not known" : events === 0 ? "none" : `${some(events, "event")}, ${seconds(since)}`]);
  }
  if (part === "broker") {
    shown.push(["waiting", seen.broker.messages === null ? "not known" : some(seen.broker.messages, "message")],
      ["projectors", known(seen.broker.consumers)]);
  }
  if (part === "feeds") {
    shown.push(["generation", known(seen.feeds.generation)], ["rate", `${perSecond(rate)} rows/s`]);
  }
  return shown;
}

const known = (value) => (value === null ? "not known" : count(value));

const perSecond = (rate) => (rate > 0 && rate < 10 ? rate.toFixed(1) : count(Math.round(rate)));

function card({ title, works, waits, kept }) {
  return el("section", { class: "card trouble" },
    el("h3", {}, title),
    el("dl", {},
      el("dt", {}, "Works"), el("dd", {}, works),
      el("dt", {}, "Waits"), el("dd", {}, waits),
      el("dt", {}, "Kept"), el("dd", {}, kept)));
}

/** A rebuild that has not told anything for so long was left unfinished. */
const REBUILD_SILENT_MS = 10_000;

function rebuildCard({ rebuild, at }) {
  if (rebuild === null) return [];
  const isLeft = Date.parse(at) - Date.parse(rebuild.stored_at) > REBUILD_SILENT_MS;
  const words = isLeft
    ? `Left unfinished at ${rebuild.phase}; the next projector rebuild removes it.`
    : `${rebuild.phase}: ${count(rebuild.done)} of ${count(rebuild.total)} ${rebuild.unit}, ${count(rebuild.feed_rows)} feed rows`;
  return [el("section", { class: "card rebuild" },
    el("h3", {}, "A new generation is being built"),
    el("progress", { "aria-label": "Rebuild", max: Math.max(1, rebuild.total), value: Math.min(rebuild.done, rebuild.total) }),
    el("p", {}, words),
    el("p", { class: "quiet" }, "Readers go on with the one that is live."))];
}
