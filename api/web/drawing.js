// What is drawn of the pipeline: the rail on which events run, and the pace of the last minute.

import { svg } from "./dom.js";

const SPARK = { width: 120, height: 24 };

/** A station on the rail. The line below it leads to the next, and dots run along it while events do. */
export function rail(isLast) {
  const line = isLast ? [] : [
    svg("line", { class: "line", x1: 12, y1: 22, x2: 12, y2: 400 }),
    svg("line", { class: "flow", x1: 12, y1: 22, x2: 12, y2: 400 }),
  ];
  return svg("svg", { class: "rail", width: 24, "aria-hidden": "true" },
    line,
    svg("circle", { class: "station", cx: 12, cy: 14, r: 8 }));
}

/** An empty line of the pace, to be drawn again by `drawSpark`. */
export function spark() {
  return svg("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "area" }), svg("polyline", { class: "pace" }));
}

/** Draws `values`, oldest first, of which at most `length` are shown. */
export function drawSpark(node, values, length) {
  const top = Math.max(1, ...values);
  const step = SPARK.width / (length - 1);
  const points = values.map((value, index) => {
    const x = SPARK.width - (values.length - 1 - index) * step;
    const y = SPARK.height - 2 - (value / top) * (SPARK.height - 4);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  node.querySelector("polyline").setAttribute("points", points.join(" "));
  const first = points[0]?.split(",")[0] ?? 0;
  node.querySelector("path").setAttribute("d", points.length > 1
    ? `M${first},${SPARK.height} L${points.join(" L")} L${SPARK.width},${SPARK.height} Z` : "");
}
