// For the operator: what goes on in the whole system.

import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Empty, Loaded, Table, Time, counted, useLoad } from "../parts/ui.js";
import { bytes, number, seconds, t } from "../texts.js";

/** How often the figures are asked for. */
const EVERY = 5_000;

export function System() {
  const load = useLoad("/admin/v1/stats", EVERY);
  return html`<${Heading} title=${t("nav.system")} />
    <${Loaded} load=${load}>${(/** @type {any} */ now) => html`
      <dl class="tiles">
        <div><dt>${t("system.replicas")}</dt><dd>${number(now.replicas)}</dd>
          ${now.cut_off && html`<dd class="quiet">${t("system.cut.off")}</dd>`}</div>
        ${now.workers && html`<div><dt>${t("system.workers.count")}</dt><dd>${number(now.workers.length)}</dd></div>`}
        <div><dt>${t("system.failing")}</dt><dd>${counted(now.failing_endpoints)}</dd></div>
      </dl>
      ${now.workers && html`<h2>${t("system.workers")}</h2><${Workers} workers=${now.workers} />`}
      <h2>${t("system.streams")}</h2><${Streams} streams=${now.streams} />
      <h2>${t("pending.title")}</h2><${Pending} pending=${now.pending} />`}<//>`;
}

/** @param {{ workers: any[] }} props */
function Workers({ workers }) {
  if (workers.length === 0) return html`<${Empty}>${t("system.workers.none")}<//>`;
  const heads = [t("system.worker"), t("system.version"), t("system.started"), t("system.seen")];
  return html`<${Table} label=${t("system.workers")} heads=${heads} rows=${workers.map((worker) => [
    html`<code>${worker.id}</code>`,
    worker.version ?? "–",
    html`<${Time} at=${worker.started_at} />`,
    html`<${Time} at=${worker.last_seen_at} />`,
  ])} />`;
}

/** @param {{ streams: any[] }} props */
function Streams({ streams }) {
  if (streams.length === 0) return html`<${Empty}>${t("system.unknown")}<//>`;
  const heads = [t("system.stream"), t("system.frames"), t("system.full"), t("system.oldest")];
  return html`<${Table} label=${t("system.streams")} heads=${heads} rows=${streams.map((stream) => [
    stream.name,
    number(stream.frames),
    stream.max_bytes === null
      ? bytes(stream.bytes)
      : html`<progress max=${stream.max_bytes} value=${stream.bytes} aria-label=${`${t("system.full")}: ${stream.name}`}></progress>
          ${t("system.of", { bytes: bytes(stream.bytes), most: bytes(stream.max_bytes) })}`,
    seconds(stream.oldest_frame_seconds),
  ])} />`;
}

/** @param {{ pending: any[] }} props */
function Pending({ pending }) {
  if (pending.length === 0) return html`<${Empty}>${t("system.unknown")}<//>`;
  const heads = [t("system.kept"), t("dead.count"), t("system.oldest")];
  return html`<${Table} label=${t("pending.title")} heads=${heads} rows=${pending.map((each) => [
    t(`kept.${each.state}`),
    counted(each),
    each.oldest_due_seconds === null ? "–" : seconds(each.oldest_due_seconds),
  ])} />`;
}
