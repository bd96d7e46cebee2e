// A small line over time, drawn as SVG. Knows no page.

import { svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 60;

/** `limit`: a line across, where there is one. The largest value touches the top. */
export function plot(values: readonly number[], label: string, limit?: number): SVGElement {
  const most = Math.max(limit ?? 0, ...values, Number.MIN_VALUE);
  const y = (value: number) => (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
  const x = (i: number) => (values.length > 1 ? (i * WIDTH) / (values.length - 1) : WIDTH / 2).toFixed(1);
  const points = values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
  const marks = values.length <= 40 ? values.map((value, i) => svg("circle", { cx: x(i), cy: y(value), r: 2.5 })) : [];
  return svg("svg", { viewBox: `-4 0 ${WIDTH + 8} ${HEIGHT}`, class: "plot", role: "img", "aria-label": label },
    svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 2, y2: HEIGHT - 2, class: "axis" }),
    ...(limit === undefined ? [] : [svg("line", { x1: 0, x2: WIDTH, y1: y(limit), y2: y(limit), class: "limit" })]),
    svg("polyline", { points }), ...marks);
}

/** A share of a limit as a bar. */
export function bar(share: number, label: string): SVGElement {
  const width = Math.max(0.5, Math.min(100, share * 100));
  return svg("svg", { viewBox: "0 0 100 4", class: "bar", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("rect", { width: 100, height: 4, class: "whole" }), svg("rect", { width, height: 4, class: "share" }));
}
