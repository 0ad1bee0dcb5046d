// The last 24 hours of an endpoint: how many attempts succeeded, and how long they took.

import { Problem, get, part } from "../api/api.js";
import { Chart } from "../parts/chart.js";
import { html } from "../parts/html.js";
import { Empty, Loaded, useLoad } from "../parts/ui.js";
import { milliseconds, number, percent, t } from "../texts.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";

/** How often an endpoint's page asks. */
const EVERY = 60_000;

/** How long what a list has asked for is good enough. */
const FRESH = 300_000;

/** Most requests of lists at once, and in a minute: they count in the session's rate limit. */
const AT_ONCE = 2;
const A_MINUTE = 20;

/** Most endpoints whose figures are remembered. */
const REMEMBERED = 500;

/** @param {string} id */
const pathOf = (id) => `/v1/endpoints/${part(id)}/stats`;

/** @param {number | null | undefined} value */
const took = (value) => (value === null || value === undefined ? "–" : milliseconds(value));

/** @param {number | null | undefined} share */
const ratio = (share) => (share === null || share === undefined ? "–" : percent(share));

/** @param {{ id: string }} props */
export function EndpointStats({ id }) {
  const load = useLoad(pathOf(id), EVERY);
  const isMissing = load.problem instanceof Problem && [403, 404].includes(load.problem.status);
  return html`<h2>${t("stats.title")}</h2>
    ${isMissing
      ? html`<${Empty}>${t("stats.missing")}<//>`
      : html`<${Loaded} load=${load}>${(/** @type {any} */ stats) => html`<${Figures} stats=${stats} />`}<//>`}`;
}

/** @param {{ stats: any }} props */
function Figures({ stats }) {
  const all = stats.last_24_hours;
  if (all.attempts === 0) return html`<${Empty}>${t("stats.none")}<//>`;
  return html`<dl class="tiles">
      <div><dt>${t("stats.ratio")}</dt><dd>${ratio(all.success_ratio)}</dd>
        <dd class="quiet">${t("stats.counts", { succeeded: number(all.succeeded), attempts: number(all.attempts) })}</dd></div>
      <div><dt>${t("stats.latency")}</dt><dd>${took(all.p50_ms)}</dd><dd class="quiet">p95 ${took(all.p95_ms)}</dd></div>
    </dl>
    <${Charts} hours=${stats.hours} />`;
}

/** @param {{ hours: any[] }} props */
function Charts({ hours }) {
  const attempts = hours.map((each) => ({
    from: each.hour,
    parts: [{ value: each.succeeded, kind: "good" }, { value: each.failed, kind: "bad" }],
    text: t("stats.hour", { succeeded: number(each.succeeded), failed: number(each.failed) }),
  }));
  const latencies = hours.map((each) => {
    const p50 = each.p50_ms ?? 0;
    return {
      from: each.hour,
      parts: [{ value: p50, kind: "good" }, { value: Math.max((each.p95_ms ?? 0) - p50, 0), kind: "rough" }],
      text: each.p50_ms === null ? "–" : `p50 ${took(each.p50_ms)}, p95 ${took(each.p95_ms)}`,
    };
  });
  const most = (/** @type {(hour: any) => number} */ of) => Math.max(...hours.map(of), 0);
  return html`<div class="charts small">
    <${Chart} title=${t("stats.attempts")} note=${t("stats.attempts.note")} bars=${attempts}
      top=${number(most((each) => each.succeeded + each.failed))} />
    <${Chart} title=${t("stats.latencies")} note=${t("stats.latencies.note")} bars=${latencies}
      top=${milliseconds(most((each) => each.p95_ms ?? 0))} />
  </div>`;
}

/** What was asked for, by endpoint: null where it cannot be had. @type {Map<string, { at: number, all: Promise<any> }>} */
const known = new Map();

/** When lists have asked in the last minute. @type {number[]} */
let asked = [];

/** Those that ask now, each after the one before. @type {Promise<unknown>[]} */
const lanes = Array.from({ length: AT_ONCE }, () => Promise.resolve());

/** Figures of an endpoint. Null: they cannot be had, or too many were asked for. @param {string} id @returns {Promise<any>} */
function figuresOf(id) {
  const now = Date.now();
  const last = known.get(id);
  if (last && now - last.at < FRESH) return last.all;
  asked = asked.filter((at) => now - at < 60_000);
  if (asked.length >= A_MINUTE) return Promise.resolve(null);
  asked.push(now);
  if (known.size >= REMEMBERED) known.clear();
  const before = lanes.shift() ?? Promise.resolve();
  const all = before.then(() => get(pathOf(id))).then(({ body }) => body.last_24_hours, () => null);
  lanes.push(all);
  known.set(id, { at: now, all });
  return all;
}

/** An endpoint's last day in a row of a list, which asks only while it can be seen. @param {{ id: string }} props */
export function Glance({ id }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  /** Undefined: not known yet. */
  const [all, setAll] = useState(/** @type {any} */ (undefined));
  useEffect(() => {
    let isSeen = false;
    let isOver = false;
    const look = async () => {
      if (!isSeen || document.hidden) return;
      const figures = await figuresOf(id);
      if (!isOver) setAll(figures);
    };
    const observer = new IntersectionObserver((entries) => {
      isSeen = entries.some(({ isIntersecting }) => isIntersecting);
      look();
    });
    if (place.current) observer.observe(place.current);
    const timer = setInterval(look, FRESH);
    return () => {
      isOver = true;
      observer.disconnect();
      clearInterval(timer);
    };
  }, [id]);
  const isKnown = all && all.success_ratio !== null;
  return html`<span ref=${place} class="quiet" title=${all !== undefined && !isKnown ? t("stats.unknown") : ""}>${all === undefined
    ? "…"
    : isKnown
      ? `${ratio(all.success_ratio)} · p95 ${took(all.p95_ms)}`
      : "–"}</span>`;
}
