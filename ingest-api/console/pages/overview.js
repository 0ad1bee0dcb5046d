// What goes on now, and went on in the last hour or day.

import { query } from "../api/api.js";
import { hasTenants } from "../api/me.js";
import { useStream } from "../api/stream.js";
import { Chart } from "../parts/chart.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Badge, Empty, Failure, Loading, Table, counted } from "../parts/ui.js";
import { link, stay } from "../route.js";
import { milliseconds, number, percent, seconds, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

const PERIODS = ["hour", "day"];

/** @param {{ params: URLSearchParams }} props */
export function Overview({ params }) {
  const period = params.get("period") === "day" ? "day" : "hour";
  const choose = (/** @type {string} */ next) => stay(query("#/overview", { period: next }));
  const [now, setNow] = useState(/** @type {any} */ (null));
  const [history, setHistory] = useState(/** @type {any} */ (null));
  const [missed, setMissed] = useState(false);
  const problem = useStream(query("/v1/stats", { period }), ({ name, data }) => {
    setMissed(name === "unavailable");
    if (name !== "stats") return;
    setNow(data);
    if (data.history) setHistory({ period, ...data.history });
  });
  return html`<${Heading} title=${t("nav.overview")} />
    ${problem && html`<${Failure} problem=${problem} />`}
    <div role="status">${missed && html`<p class="failure">${t("overview.unavailable")}</p>`}</div>
    ${now ? html`<${Figures} now=${now} />` : !problem && html`<${Loading} />`}
    <div class="buttons" role="group" aria-label=${t("overview.period")}>${PERIODS.map(
      (each) => html`<button type="button" aria-pressed=${each === period} onClick=${() => choose(each)}>
        ${t(`overview.${each}`)}</button>`,
    )}</div>
    ${history?.period === period ? html`<${Charts} history=${history} />` : !problem && html`<${Loading} />`}
    <h2>${t("overview.trouble")}</h2>
    ${now ? html`<${Trouble} endpoints=${now.endpoints.troubled} />` : !problem && html`<${Loading} />`}
    ${hasTenants() && now?.rate_limited_tenants && html`<${Limited} tenants=${now.rate_limited_tenants} />`}`;
}

/** Tenants that the replica which answers has refused for their limits. @param {{ tenants: any[] }} props */
function Limited({ tenants }) {
  return html`<h2>${t("overview.limited")}</h2>
    ${tenants.length === 0
      ? html`<${Empty}>${t("overview.limited.none")}<//>`
      : html`<${Table} label=${t("overview.limited")} heads=${[t("events.tenant"), t("overview.refused")]}
          rows=${tenants.map((each) => [html`<a href=${link("tenants", each.tenant)}>${each.tenant}</a>`, number(each.refused_last_minute)])} />`}`;
}

/** @param {{ now: any }} props */
function Figures({ now }) {
  const { recent, pending, endpoints } = now;
  const done = recent.deliveries === 0 ? null : recent.delivered / recent.deliveries;
  const latency = recent.latency_ms;
  const { total, capped } = now.accepted_last_minute;
  return html`<dl class="tiles">
    <div><dt>${t("overview.accepted")}</dt><dd>${counted(now.accepted_last_minute)}</dd>
      <dd class="quiet">${t("overview.rate", { rate: `${capped ? "≥ " : ""}${number(Math.round(total / 6) / 10)}` })}</dd></div>
    <div><dt>${t("overview.delivered")}</dt>
      <dd>${done === null ? "–" : percent(done)}</dd>
      <dd class="quiet">${t("overview.delivered.hint", { count: number(recent.events) })}</dd></div>
    <div><dt>${t("overview.latency")}</dt>
      <dd>${latency ? milliseconds(latency.p50) : "–"}</dd>
      <dd class="quiet">${latency
        ? `p95 ${milliseconds(latency.p95)} · p99 ${milliseconds(latency.p99)}`
        : t("overview.none")}</dd></div>
    <div><dt>${t("overview.pending")}</dt>
      <dd>${counted(pending)}</dd>
      ${pending.oldest_due_seconds !== null &&
      html`<dd class="quiet">${t("overview.oldest", { time: seconds(pending.oldest_due_seconds) })}</dd>`}</div>
    <div><dt>${t("overview.endpoints")}</dt>
      <dd>${counted(endpoints)}</dd>
      <dd class="quiet">${t("overview.failing", { failing: number(endpoints.failing), disabled: number(endpoints.disabled) })}</dd></div>
  </dl>`;
}

/** @param {{ history: any }} props */
function Charts({ history }) {
  /** @type {any[]} */
  const stretches = history.stretches;
  const most = (/** @type {(stretch: any) => number} */ of) => Math.max(...stretches.map(of), 0);
  const accepted = stretches.map((each) => ({
    from: each.from,
    parts: [{ value: each.accepted, kind: each.estimated ? "rough" : "good" }],
    text: `${each.estimated ? "≈ " : ""}${number(each.accepted)}`,
  }));
  const became = stretches.map((each) => ({
    from: each.from,
    parts: each.deliveries === 0 ? [] : [
      { value: each.delivered / each.deliveries, kind: "good" },
      { value: (each.deliveries - each.delivered - each.dead) / each.deliveries, kind: "wait" },
      { value: each.dead / each.deliveries, kind: "bad" },
    ],
    text: t("chart.became.text", {
      delivered: number(each.delivered), pending: number(each.deliveries - each.delivered - each.dead), dead: number(each.dead),
    }),
  }));
  const latency = stretches.map((each) => ({
    from: each.from,
    parts: [{ value: each.latency_p95_ms ?? 0, kind: "good" }],
    text: each.latency_p95_ms === null ? "–" : milliseconds(each.latency_p95_ms),
  }));
  const length = seconds(history.stretch_seconds);
  return html`<div class="charts">
    <${Chart} title=${t("chart.accepted", { length })} bars=${accepted} top=${number(most((each) => each.accepted))}
      note=${stretches.some((each) => each.estimated) ? t("chart.estimated") : ""} />
    <${Chart} title=${t("chart.became")} note=${t("chart.sample")} bars=${became} most=${1} top="100 %" />
    <${Chart} title=${t("chart.latency")} note=${t("chart.sample")} bars=${latency}
      top=${milliseconds(most((each) => each.latency_p95_ms ?? 0))} />
  </div>`;
}

/** @param {{ endpoints: any[] }} props */
function Trouble({ endpoints }) {
  if (endpoints.length === 0) return html`<${Empty}>${t("overview.calm")}<//>`;
  return html`<ul class="cards">${endpoints.map(
    (endpoint) => html`<li>
      <a href=${link("endpoints", endpoint.id)}>${endpoint.url ?? t("endpoints.fetched")}</a>
      <${Badge} state=${endpoint.status === "disabled" ? "disabled" : "failing"} />
      ${endpoint.disabled_reason && html`<span class="quiet">${endpoint.disabled_reason}</span>`}
    </li>`,
  )}</ul>`;
}
