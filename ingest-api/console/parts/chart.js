// Charts of stretches of time, drawn as SVG: bars, with their numbers in a table for whoever cannot see them.

import { t, time } from "../texts.js";
import { html } from "./html.js";

const WIDTH = 600;
const HEIGHT = 120;

/**
 * @typedef {object} Bar
 * @property {string} from when its stretch begins
 * @property {{ value: number, kind: string }[]} parts from the bottom up
 * @property {string} text its numbers
 */

/**
 * @param {{ title: string, note?: string, bars: Bar[], most?: number, top: string, at?: (from: string) => string }} props `top`
 *   says how much the height stands for, and `at` writes when a bar begins
 */
export function Chart({ title, note, bars, most, top, at = time }) {
  const sums = bars.map((bar) => bar.parts.reduce((sum, part) => sum + part.value, 0));
  const full = most ?? Math.max(...sums, 1);
  const width = WIDTH / Math.max(bars.length, 1);
  const first = bars[0];
  const last = bars[bars.length - 1];
  if (!first || !last) return null;
  return html`<figure class="chart">
    <figcaption>${title} <span class="quiet">${note}</span></figcaption>
    <div class="quiet">${top}</div>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${title}>
      ${bars.map((bar, index) => html`<g><title>${`${at(bar.from)}: ${bar.text}`}</title>
        <rect class="all" x=${index * width} y="0" width=${width} height=${HEIGHT} />
        ${stacked(bar.parts, full).map(
          ({ kind, y, height }) => html`<rect class=${kind} x=${index * width + width * 0.1} y=${y} width=${width * 0.8} height=${height} />`,
        )}</g>`)}
    </svg>
    <div class="ends quiet"><span>${at(first.from)}</span><span>${at(last.from)}</span></div>
    <details><summary>${t("chart.numbers")}</summary>
      <ul class="numbers" tabindex="0">${bars.map((bar) => html`<li>${at(bar.from)}: ${bar.text}</li>`)}</ul></details>
  </figure>`;
}

/**
 * @param {{ value: number, kind: string }[]} parts
 * @param {number} full
 */
function stacked(parts, full) {
  let below = 0;
  return parts
    .filter(({ value }) => value > 0)
    .map(({ value, kind }) => {
      const height = Math.min(HEIGHT - below, Math.max(1, (value / full) * HEIGHT));
      below += height;
      return { kind, y: HEIGHT - below, height };
    });
}
