// Endpoints: their health, and all that is done to one.

import { call, part, query } from "../api/api.js";
import { hasTenants, may } from "../api/me.js";
import { Dangerous, Dialog, Secret } from "../parts/dialog.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Action, Badge, Empty, Loaded, Pages, Table, Time, counted, useLoad } from "../parts/ui.js";
import { go, link, stay } from "../route.js";
import { number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";
import { isFetched } from "./endpoint-fields.js";
import { EndpointForm } from "./endpoint-form.js";
import { EndpointStats, Glance } from "./endpoint-stats.js";
import { PublicKey } from "./public-key.js";
import { Recovery } from "./recovery.js";

/** How often the health of endpoints is asked for. */
const EVERY = 3_000;

/** @param {{ params: URLSearchParams }} props */
export function Endpoints({ params }) {
  const cursor = params.get("cursor");
  const tenant = params.get("tenant");
  const load = useLoad(query("/v1/endpoints", { cursor, tenant, limit: 50 }), EVERY);
  const [makes, setMakes] = useState(false);
  const [secret, setSecret] = useState(/** @type {string | null} */ (null));
  const made = (/** @type {any} */ endpoint) => {
    setMakes(false);
    setSecret(endpoint.secret ?? null);
    load.reload();
  };
  const show = (/** @type {string | null} */ next) => go(query("#/endpoints", { tenant, cursor: next }));
  return html`<header class="with-buttons"><${Heading} title=${t("nav.endpoints")} />
      ${may("manage_endpoints") && html`<button type="button" class="main" onClick=${() => setMakes(true)}>${t("endpoints.new")}</button>`}
    </header>
    ${makes && html`<${Dialog} title=${t("endpoints.new")} onClose=${() => setMakes(false)}>
      <${EndpointForm} tenant=${tenant} onDone=${made} onCancel=${() => setMakes(false)} /><//>`}
    ${secret && html`<${Secret} label=${t("endpoint.secret")} text=${secret} onClose=${() => setSecret(null)} />`}
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`
      ${page.data.length === 0 ? html`<${Empty}>${t("endpoints.empty")}<//>` : html`<${List} endpoints=${page.data} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} onNext=${show} onFirst=${() => show(null)} />`}<//>`;
}

/** @param {{ endpoints: any[] }} props */
function List({ endpoints }) {
  const heads = [t("endpoints.url"), t("endpoints.health"), t("endpoints.day"), t("endpoints.types")];
  if (hasTenants()) heads.push(t("events.tenant"));
  const rows = endpoints.map((endpoint) => {
    const types = endpoint.event_types.join(", ") || t("endpoints.every");
    const cells = [
      html`<a href=${link("endpoints", endpoint.id)}>${endpoint.url ?? t("endpoints.fetched")}</a>
        ${endpoint.description && html`<div class="quiet">${endpoint.description}</div>`}`,
      html`<${Health} endpoint=${endpoint} />`,
      html`<${Glance} key=${endpoint.id} id=${endpoint.id} />`,
      types,
    ];
    if (hasTenants()) cells.push(endpoint.all_tenants ? "*" : (endpoint.tenant ?? html`<span class="quiet">–</span>`));
    return cells;
  });
  return html`<${Table} label=${t("nav.endpoints")} heads=${heads} rows=${rows} keys=${endpoints.map(({ id }) => id)} />`;
}

/** @param {{ endpoint: any }} props */
function Health({ endpoint }) {
  if (endpoint.status === "disabled") return html`<${Badge} state="disabled" />`;
  return html`<${Badge} state=${endpoint.health.state} />`;
}

/** @param {{ id: string, params: URLSearchParams }} props */
export function EndpointPage({ id, params }) {
  const load = useLoad(`/v1/endpoints/${part(id)}`, EVERY);
  return html`<${Heading} title=${`${t("endpoint.title")} ${load.data?.url ?? id}`}>${t("endpoint.title")}<//>
    <${Loaded} load=${load}>${(/** @type {any} */ endpoint) => html`<${Detail} endpoint=${endpoint}
      etag=${load.answer?.etag ?? null} params=${params} reload=${load.reload} />`}<//>`;
}

/** A scheme that webhooks are signed with. @param {any} scheme */
function schemeText(scheme) {
  const name = scheme.scheme === "hmac" ? `${scheme.header} (HMAC-${scheme.hash.toUpperCase()})` : scheme.scheme;
  return html`<div>${name}${scheme.until && html` <span class="quiet">${t("endpoint.until")} <${Time} at=${scheme.until} /></span>`}</div>`;
}

/** @param {any} auth */
function authText(auth) {
  return html`${t(`auth.${auth.kind}`)}${auth.token_url && html`<div class="quiet">${auth.client_id} · ${auth.token_url}</div>`}
    ${auth.certificate_expires_at && html`<div class="quiet">${t("key.expires")} <${Time} at=${auth.certificate_expires_at} /></div>`}`;
}

/** The policy's own parts. @param {any} retry */
function retryText(retry) {
  const parts = Object.entries(retry).filter(([, value]) => value !== null && value !== undefined);
  return parts.length === 0 ? null : parts.map(([name, value]) => `${t(`retry.${name}`)} ${number(Number(value))}`).join(" · ");
}

/** @param {any} endpoint */
function settingsOf(endpoint) {
  return [
    [t("endpoint.method"), endpoint.method],
    [t("endpoint.format"), endpoint.has_template ? t("endpoint.template") : t(`format.${endpoint.format}`)],
    [t("endpoint.signatures"), endpoint.signatures?.map(schemeText)],
    [t("endpoint.auth"), endpoint.auth && authText(endpoint.auth)],
    [t("endpoint.headers"), endpoint.header_names?.join(", ")],
    [t("endpoint.retry"), retryText(endpoint.retry)],
    [t("endpoint.timeout"), endpoint.timeout_ms && number(endpoint.timeout_ms)],
    [t(isFetched(endpoint.kind) ? "endpoint.max.leased" : "endpoint.max.in.flight"), endpoint.max_in_flight],
    [t("endpoint.rate"), endpoint.rate_limit_per_second],
    [t("endpoint.ordered"), endpoint.ordered && t(`exhausted.${endpoint.on_exhausted}`)],
    [t("endpoint.previous"), endpoint.previous_secret_expires_at && html`<${Time} at=${endpoint.previous_secret_expires_at} />`],
  ];
}

/** @param {{ endpoint: any, etag: string | null, params: URLSearchParams, reload: () => void }} props */
function Detail({ endpoint, etag, params, reload }) {
  const { health } = endpoint;
  const facts = [
    [t("endpoints.url"), endpoint.url ?? t("endpoints.fetched")],
    [t("endpoint.description"), endpoint.description],
    [t("endpoints.health"), html`<${Health} endpoint=${endpoint} /> ${health.consecutive_failures > 0
      ? html`<span class="quiet">${t("endpoint.failures", { count: number(health.consecutive_failures) })}</span>` : null}`],
    [t("endpoint.circuit"), health.circuit_open_until && html`<${Time} at=${health.circuit_open_until} />`],
    [t("endpoint.waiting"), health.waiting_until && html`<${Time} at=${health.waiting_until} />`],
    [t("endpoint.reason"), endpoint.disabled_reason],
    [t("endpoints.types"), endpoint.event_types.join(", ") || t("endpoints.every")],
    [t("endpoint.filter"), endpoint.filter && html`<code>${JSON.stringify(endpoint.filter)}</code>`],
    [t("events.tenant"), hasTenants() && (endpoint.all_tenants ? "*" : endpoint.tenant)],
    ...settingsOf(endpoint),
  ];
  return html`<dl class="facts">${facts
      .filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
      .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${endpoint.template && html`<details class="card"><summary>${t("endpoint.template")}</summary>
      <p class="quiet">${endpoint.template.content_type}</p><pre tabindex="0">${endpoint.template.body}</pre></details>`}
    ${endpoint.signatures?.some((/** @type {any} */ each) => each.scheme === "ed25519") && html`<${PublicKey} id=${endpoint.id} />`}
    ${may("manage_endpoints") && html`<${Buttons} endpoint=${endpoint} etag=${etag} reload=${reload} />`}
    <${EndpointStats} id=${endpoint.id} />
    <${Backlog} id=${endpoint.id} params=${params} />`;
}

/** @param {{ endpoint: any, etag: string | null, reload: () => void }} props */
function Buttons({ endpoint, etag, reload }) {
  const path = `/v1/endpoints/${part(endpoint.id)}`;
  const [edits, setEdits] = useState(false);
  const [secret, setSecret] = useState(/** @type {string | null} */ (null));
  const [tested, setTested] = useState(/** @type {string | null} */ (null));
  const summary = useLoad(`${path}/deliveries/summary`);
  const change = async (/** @type {object} */ body) => {
    await call("PATCH", path, body);
    reload();
  };
  const test = async () => setTested((await call("POST", `${path}/test`)).body.id);
  const rotate = async () => setSecret((await call("POST", `${path}/rotate-secret`)).body.secret);
  const remove = async () => {
    await call("DELETE", path);
    go("#/endpoints");
  };
  const pending = summary.data ? counted(summary.data.pending) : "…";
  return html`<div class="buttons">
      <button type="button" onClick=${() => setEdits(true)}>${t("endpoint.edit")}</button>
      ${endpoint.status === "enabled" && html`<${Action} onClick=${test}>${t("endpoint.test")}<//>`}
      ${!isFetched(endpoint.kind) && may("view_secrets") && html`<${Dangerous} label=${t("endpoint.rotate")}
        title=${t("endpoint.rotate")} lost=${t("endpoint.rotate.lost")} onConfirm=${rotate} />`}
      ${endpoint.status === "enabled"
        ? html`<${Dangerous} label=${t("endpoint.disable")} title=${t("endpoint.disable")} lost=${t("endpoint.disable.lost")}
            onConfirm=${() => change({ status: "disabled" })} />`
        : html`<${Action} kind="main" onClick=${() => change({ status: "enabled" })}>${t("endpoint.enable")}<//>`}
      <${Dangerous} label=${t("endpoint.delete")} title=${t("endpoint.delete")} lost=${t("endpoint.delete.lost", { count: pending })}
        onConfirm=${remove} />
    </div>
    <div role="status">${tested && html`<p>${t("endpoint.test.sent")} <a href=${link("events", tested)}>${tested}</a></p>`}</div>
    ${secret && html`<${Secret} label=${t("endpoint.secret")} text=${secret} onClose=${() => setSecret(null)} />`}
    ${edits && html`<${Dialog} title=${t("endpoint.edit")} onClose=${() => setEdits(false)}>
      <${EndpointForm} endpoint=${endpoint} etag=${etag} onCancel=${() => setEdits(false)} onDone=${() => {
        setEdits(false);
        reload();
      }} /><//>`}`;
}

/** @typedef {{ status: string, outcome: string | null, cursor: string | null }} Shown a page of deliveries that ended, or wait, alike */

/** The deliveries that an address shows. @param {URLSearchParams} params @returns {Shown | null} */
function shownBy(params) {
  const status = params.get("status");
  if (status !== "pending" && status !== "dead") return null;
  return { status, outcome: params.get("outcome"), cursor: params.get("cursor") };
}

/** What waits and what is dead, by cause. @param {{ id: string, params: URLSearchParams }} props */
function Backlog({ id, params }) {
  const path = `/v1/endpoints/${part(id)}/deliveries`;
  const shown = shownBy(params);
  const show = (/** @type {Partial<Shown>} */ next) => stay(query(link("endpoints", id), next));
  const load = useLoad(`${path}/summary`, EVERY);
  const part_ = (/** @type {string} */ status, /** @type {any} */ counts) => html`
    <h2>${t(`${status}.title`)}: ${counted(counts)}</h2>
    ${counts.outcomes.length > 0 && html`<${Table} label=${t(`${status}.title`)}
      heads=${[t("dead.outcome"), t("dead.count"), ""]}
      rows=${counts.outcomes.map((/** @type {any} */ cause) => [
        cause.outcome ?? t("event.no.attempt"),
        number(cause.count),
        html`<button type="button" onClick=${() => show({ status, outcome: cause.outcome })}>${t("dead.show")}</button>`,
      ])} />`}`;
  return html`<${Loaded} load=${load}>${(/** @type {any} */ summary) => html`
      ${part_("pending", summary.pending)} ${part_("dead", summary.dead)}
      <${Recovery} id=${id} dead=${summary.dead.total} onChange=${load.reload} />`}<//>
    ${shown && html`<${Dialog} title=${`${t(`${shown.status}.title`)}: ${shown.outcome ?? t("event.no.attempt")}`}
      onClose=${() => show({})}><${Deliveries} path=${path} shown=${shown} onShow=${show} /><//>`}`;
}

/** @param {{ path: string, shown: Shown, onShow: (next: Shown) => void }} props no outcome stands for deliveries without an attempt */
function Deliveries({ path, shown, onShow }) {
  const { status, outcome, cursor } = shown;
  const turn = (/** @type {string | null} */ next) => onShow({ ...shown, cursor: next });
  const load = useLoad(query(path, { status, outcome, cursor }));
  // The API cannot be asked for those without an attempt alone.
  const rowsOf = (/** @type {any[]} */ deliveries) => deliveries.filter(({ last_outcome }) => last_outcome === outcome).map((delivery) => [
    html`<a href=${link("events", delivery.event_id)}>${delivery.event_type}</a>`,
    html`<${Time} at=${delivery.accepted_at} />`,
    delivery.last_outcome ?? "–",
  ]);
  return html`<${Loaded} load=${load}>${(/** @type {any} */ page) => {
    const rows = rowsOf(page.data);
    const heads = [t("events.type"), t("events.accepted"), t("dead.outcome")];
    return html`${rows.length === 0
        ? html`<${Empty}>${t(page.next_cursor ? "deliveries.further" : "dead.none")}<//>`
        : html`<${Table} label=${t(`${status}.title`)} heads=${heads} rows=${rows} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} byAge=${status !== "pending"} onNext=${turn} onFirst=${() => turn(null)} />`;
  }}<//>`;
}
