// The flow of bytes over the last five minutes, drawn as SVG: received above the line, sent below.

import { rate } from "./units.js";

export const WINDOW = 300; // seconds

/** Rates each way, from counters that only grow. */
export class History {
  #points = [];
  #last = null;

  /** @param time seconds, of a clock that nobody sets. */
  add(time, received, sent) {
    const last = this.#last;
    this.#last = { time, received, sent };
    if (last === null || time <= last.time) return;
    const seconds = time - last.time;
    const point = {
      time,
      seconds,
      received: Math.max(0, (received - last.received) / seconds),
      sent: Math.max(0, (sent - last.sent) / seconds),
    };
    this.#points.push(point);
    while (this.#points[0].time < time - WINDOW) this.#points.shift();
  }

  /** The latest rates; null each while they are not known. */
  get now() {
    return this.#points.at(-1) ?? { received: null, sent: null };
  }

  get points() {
    return this.#points;
  }

  /** The highest rates that are in view. */
  get peaks() {
    const peak = (name) => this.#points.reduce((most, point) => Math.max(most, point[name]), 0);
    return { received: peak("received"), sent: peak("sent") };
  }

  /** The highest one of them. */
  get peak() {
    return Math.max(...Object.values(this.peaks));
  }
}

/** The next round number of bytes, for a scale: 1, 2 or 5 times a power of ten, KiB-wise. */
export function scale(peak) {
  let unit = 1;
  while (peak >= unit * 1024) unit *= 1024;
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024];
  return Math.max(1024, unit * steps.find((step) => peak <= unit * step));
}

/**
 * Draw into an SVG that has paths of the classes `received`, `sent` and `middle`. With `fit` the
 * line lies where both directions use all of the height, as there is no scale.
 */
export function draw(svg, history, fit) {
  const { width, height } = svg.viewBox.baseVal;
  const points = history.points;
  const end = points.at(-1)?.time ?? 0;
  const { middle, unit } = fit ? fitted(history.peaks, height) : scaled(history.peak, height);
  const x = (time) => (width * (1 - (end - time) / WINDOW)).toFixed(1);
  for (const [name, sign] of [["received", -1], ["sent", 1]]) {
    const y = (value) => (middle + sign * value * unit).toFixed(1);
    svg.querySelector(`.${name}`).setAttribute("d", area(points, name, x, y, middle));
  }
  svg.querySelector(".middle").setAttribute("d", `M0 ${middle}H${width}`);
  const { received, sent } = history.now;
  const text = `Last five minutes: received ${rate(received)}, sent ${rate(sent)}, ` +
    `at most ${rate(history.peak)}`;
  svg.setAttribute("aria-label", text);
}

/** Where the line lies, and how high a byte a second is. */
function scaled(peak, height) {
  return { middle: height / 2, unit: (height / 2 - 1) / scale(peak) };
}

function fitted({ received, sent }, height) {
  const both = received + sent;
  if (!both) return { middle: height / 2, unit: 0 };
  const unit = (height - 2) / both;
  return { middle: Number((1 + received * unit).toFixed(1)), unit };
}

function area(points, name, x, y, middle) {
  if (!points.length) return "";
  let path = `M${x(points[0].time - points[0].seconds)} ${middle}`;
  points.forEach((point, i) => {
    // After a time without news only the mean of that time is known.
    if (i === 0 || point.seconds > 5) path += `L${x(point.time - point.seconds)} ${y(point[name])}`;
    path += `L${x(point.time)} ${y(point[name])}`;
  });
  return `${path}V${middle}Z`;
}
