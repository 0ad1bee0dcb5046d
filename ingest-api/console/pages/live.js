// The live tail: events and attempts as they happen.

import { query } from "../api/api.js";
import { hasTenants } from "../api/me.js";
import { useStream } from "../api/stream.js";
import { Field } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Badge, Empty, Failure, Time } from "../parts/ui.js";
import { go, link } from "../route.js";
import { milliseconds, number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** Most lines that are shown. */
const LINES = 200;

const FILTERS = ["type", "tenant", "endpoint", "status"];

let lines = 0;

/** @param {{ params: URLSearchParams }} props */
export function Live({ params }) {
  const values = Object.fromEntries(FILTERS.map((name) => [name, params.get(name)]));
  const [paused, setPaused] = useState(false);
  const show = (/** @type {Record<string, string>} */ next) => go(query("#/live", next));
  return html`<header class="with-buttons"><${Heading} title=${t("nav.live")} />
      <button type="button" aria-pressed=${paused} onClick=${() => setPaused(!paused)}>${t("live.pause")}</button></header>
    <${Filters} key=${params.toString()} values=${values} onChange=${show} />
    <${Lines} key=${`lines ${params}`} path=${query("/v1/tail", values)} paused=${paused} />`;
}

/** @param {{ values: Record<string, string | null>, onChange: (values: Record<string, string>) => void }} props */
function Filters({ values, onChange }) {
  const [typed, setTyped] = useState(() => Object.fromEntries(FILTERS.map((name) => [name, values[name] ?? ""])));
  const field = (/** @type {string} */ name, more = {}) => html`<${Field} label=${t(`live.${name}`)} value=${typed[name]}
    onInput=${(/** @type {string} */ value) => setTyped({ ...typed, [name]: value })} ...${more} />`;
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    onChange(typed);
  };
  const states = ["pending", "delivered", "dead"].map((state) => [state, t(`state.${state}`)]);
  return html`<form class="search" onSubmit=${submit}>
    ${field("type", { placeholder: "order.*" })} ${hasTenants() && field("tenant")} ${field("endpoint")}
    ${field("status", { options: [["", t("events.any")], ...states] })}
    <button class="main">${t("live.apply")}</button>
  </form>`;
}

/** @param {{ path: string, paused: boolean }} props */
function Lines({ path, paused }) {
  const [told, setTold] = useState(/** @type {any[]} */ ([]));
  const hear = (/** @type {import("../api/stream.js").Message} */ { name, data }) => {
    const line = { name, data, at: new Date().toISOString(), key: (lines += 1) };
    setTold((/** @type {any[]} */ old) => [line, ...old].slice(0, LINES));
  };
  const last = useStream(paused ? null : path, hear, true);
  const problem = paused ? null : last;
  return html`${problem && html`<${Failure} problem=${problem} />`}
    <p class="quiet" role="status">${paused ? t("live.paused") : !problem && t("live.on")}</p>
    ${told.length === 0 && !problem && html`<${Empty}>${t("live.empty")}<//>`}
    <ol class="tail" aria-label=${t("nav.live")}>${told.map((line) => html`<${Line} key=${line.key} line=${line} />`)}</ol>`;
}

/** @param {{ line: any }} props */
function Line({ line }) {
  const { name, data, at } = line;
  if (name === "skipped") {
    return html`<li class="skipped">${data.count === null ? t("live.skipped.unknown") : t("live.skipped", { count: number(data.count) })}</li>`;
  }
  const tenant = hasTenants() && data.tenant && html` <span class="quiet">${data.tenant}</span>`;
  if (name === "event") {
    return html`<li><${Time} at=${data.accepted_at} /> <${Badge} state="event" /> <a href=${link("events", data.id)}>${data.type}</a>${tenant}</li>`;
  }
  const good = data.outcome === "delivered";
  return html`<li><${Time} at=${data.started_at ?? at} /> <${Badge} state=${good ? "delivered" : "dead"} label=${data.outcome ?? "–"} />
    ${" "}<a href=${link("events", data.event_id)}>${data.type}</a>${tenant}
    ${" → "}<a href=${link("endpoints", data.endpoint_id)}>${data.endpoint_id.slice(0, 8)}…</a>
    ${data.response_status !== null && html` <code>${data.response_status}</code>`}
    <span class="quiet"> ${t("event.attempt", { number: data.number })}${data.duration_ms !== null && ` · ${milliseconds(data.duration_ms)}`}
      ${!good && data.status === "dead" && ` · ${t("state.dead")}`}</span></li>`;
}
