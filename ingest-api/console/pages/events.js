// Events: the list that grows by itself, and one event with all that became of it.

import { call, part, query } from "../api/api.js";
import { hasTenants, may } from "../api/me.js";
import { Dangerous } from "../parts/dialog.js";
import { Field } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { member, pretty } from "../parts/raw.js";
import { Action, Badge, Copy, Empty, Loaded, Pages, Table, Time, useLoad } from "../parts/ui.js";
import { go, link } from "../route.js";
import { milliseconds, t, toLocal, toUtc } from "../texts.js";
import { useState } from "../vendor/hooks.js";
import { RequestHeaders } from "./request-headers.js";
import { SignatureCheck } from "./signature.js";

/** How often the newest page, and an event whose deliveries wait, are asked for. */
const EVERY = 2_000;

/** How often an event is asked for that waits for nothing: someone may deliver it again. */
const SELDOM = 30_000;

const FILTERS = ["type", "tenant", "status", "from", "to", "endpoint", "idempotency_key"];

/** A search by idempotency key goes by nothing else but the tenant. */
const NOTHING = { type: "", status: "", from: "", to: "", endpoint: "", cursor: null };

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @param {{ params: URLSearchParams }} props */
export function Events({ params }) {
  const cursor = params.get("cursor");
  const values = Object.fromEntries(FILTERS.map((name) => [name, params.get(name)]));
  const load = useLoad(query("/v1/events", { ...values, cursor, limit: 50 }), cursor ? undefined : EVERY);
  const show = (/** @type {Record<string, string | null>} */ next) => go(query("#/events", { ...values, ...next }));
  return html`<${Heading} title=${t("nav.events")} />
    <${Search} key=${params.toString()} values=${values} onSearch=${show} />
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`
      ${page.data.length === 0 ? html`<${Empty}>${t("events.empty")}<//>` : html`<${List} events=${page.data} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} onNext=${(/** @type {string} */ next) => show({ cursor: next })}
        onFirst=${() => show({ cursor: null })} />`}<//>`;
}

/** @param {{ events: any[] }} props */
function List({ events }) {
  const heads = [t("events.type"), t("events.accepted"), t("events.deliveries")];
  if (hasTenants()) heads.splice(1, 0, t("events.tenant"));
  const rows = events.map((event) => {
    const cells = [
      html`<a href=${link("events", event.id)}>${event.type}</a>`,
      html`<${Time} at=${event.accepted_at} />`,
      html`<${States} event=${event} />`,
    ];
    if (hasTenants()) cells.splice(1, 0, event.tenant ?? html`<span class="quiet">–</span>`);
    return cells;
  });
  return html`<${Table} label=${t("nav.events")} heads=${heads} rows=${rows} keys=${events.map(({ id }) => id)} />`;
}

/** @param {{ event: any }} props */
function States({ event }) {
  if (event.deliveries.length === 0) return html`<span class="quiet">${t("events.nobody")}</span>`;
  const states = ["delivered", "pending", "dead"].map((state) => ({
    state,
    count: event.deliveries.filter((/** @type {any} */ delivery) => delivery.status === state).length,
  }));
  return states
    .filter(({ count }) => count > 0)
    .map(({ state, count }) => html`<${Badge} state=${state} label=${`${count > 1 ? `${count} ` : ""}${t(`state.${state}`)}`} /> `);
}

/** @param {{ values: Record<string, string | null>, onSearch: (values: Record<string, string | null>) => void }} props */
function Search({ values, onSearch }) {
  const [typed, setTyped] = useState(/** @type {Record<string, string>} */ ({
    id: "",
    type: values.type ?? "",
    tenant: values.tenant ?? "",
    idempotency_key: values.idempotency_key ?? "",
    status: values.status ?? "",
    from: toLocal(values.from ?? null),
    to: toLocal(values.to ?? null),
  }));
  const field = (/** @type {string} */ name, more = {}) => html`<${Field} label=${t(`events.${name}`)} value=${typed[name]}
    onInput=${(/** @type {string} */ value) => setTyped({ ...typed, [name]: value })} ...${more} />`;
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const { id = "", from = "", to = "", ...rest } = typed;
    if (ID.test(id.trim())) go(link("events", id.trim().toLowerCase()));
    else if (rest.idempotency_key) onSearch({ ...NOTHING, tenant: rest.tenant ?? "", idempotency_key: rest.idempotency_key });
    else onSearch({ ...rest, from: toUtc(from), to: toUtc(to), cursor: null });
  };
  const states = ["pending", "delivered", "dead"].map((state) => [state, t(`state.${state}`)]);
  return html`<form class="search" role="search" onSubmit=${submit}>
    ${field("id")} ${field("type", { placeholder: "order.created" })}
    ${hasTenants() && field("tenant")} ${field("idempotency_key")}
    ${field("status", { options: [["", t("events.any")], ...states] })}
    ${field("from", { type: "datetime-local" })} ${field("to", { type: "datetime-local" })}
    <button class="main">${t("events.search")}</button>
  </form>`;
}

/** Whether all deliveries have ended, with their attempts. @param {any} event */
const isSettled = (event) =>
  event.deliveries.every((/** @type {any} */ { status, attempt_log }) => status !== "pending" && attempt_log?.length > 0);

/** @param {{ id: string }} props */
export function EventPage({ id }) {
  const load = useLoad(`/v1/events/${part(id)}`, (event) => (event && isSettled(event) ? SELDOM : EVERY));
  return html`<${Heading} title=${`${t("event.title")} ${id}`}>${t("event.title")} <code>${id}</code><//>
    <${Loaded} load=${load}>${(/** @type {any} */ event) => html`<${Detail} event=${event} text=${load.answer?.text ?? ""}
      reload=${load.reload} />`}<//>`;
}

/** @param {{ event: any, text: string, reload: () => void }} props */
function Detail({ event, text, reload }) {
  const facts = [
    [t("events.type"), event.type],
    [t("events.accepted"), html`<${Time} at=${event.accepted_at} />`],
    [t("event.content"), event.content_type],
    [t("events.tenant"), hasTenants() ? event.tenant : null],
    [t("event.ordering"), event.ordering_key],
    [t("event.idempotency"), event.idempotency_key],
  ];
  const replay = async () => {
    await call("POST", `/v1/events/${part(event.id)}/replay`, {});
    reload();
  };
  return html`<dl class="facts">${facts
      .filter(([, value]) => value)
      .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${Payload} event=${event} text=${text} />
    <div class="buttons">
      ${may("replay") && event.deliveries.length > 0 && html`<${Dangerous} label=${t("event.replay")} title=${t("event.replay")}
        lost=${t("event.replay.lost")} onConfirm=${replay} />`}
    </div>
    ${!event.expunged_at && html`<${SignatureCheck} event=${event} text=${text} />`}
    <h2>${t("events.deliveries")}</h2>
    ${event.deliveries.length === 0 && html`<${Empty}>${t("events.nobody")}<//>`}
    ${event.deliveries.map((/** @type {any} */ delivery) => html`<${Delivery} key=${delivery.endpoint_id} event=${event}
      delivery=${delivery} reload=${reload} />`)}`;
}

/** @param {{ event: any, text: string }} props */
function Payload({ event, text }) {
  const [raw, setRaw] = useState(false);
  if (event.expunged_at) return html`<${Empty}>${t("event.gone")}<//>`;
  const data = event.data_base64 ?? member(text, "data") ?? "null";
  return html`<section>
    <h2>${t("event.payload")}</h2>
    <div class="buttons">
      <button type="button" aria-pressed=${!raw} onClick=${() => setRaw(false)}>${t("event.pretty")}</button>
      <button type="button" aria-pressed=${raw} onClick=${() => setRaw(true)}>${t("event.raw")}</button>
      <${Copy} text=${curl(event, data)} label=${t("event.curl")} />
    </div>
    <pre tabindex="0" class="payload">${raw || event.data_base64 ? data : pretty(data)}</pre>
  </section>`;
}

/** A word of a shell, whatever stands in it. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Those that are set, as members of a JSON object, each with a comma behind it. @param {Record<string, unknown>} values */
const members = (values) =>
  Object.entries(values)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)},`)
    .join("");

/**
 * The same event in Penstock's own form, as a word of a shell.
 * @param {any} event
 * @param {string} data
 */
const own = ({ type, ordering_key, tenant }, data) => quoted(`{${members({ type, ordering_key, tenant })}"data":${data}}`);

/**
 * The same CloudEvent, as a word of a shell, which makes an id: with the one that it had it would be a repeat.
 * @param {any} event
 * @param {string} data
 */
function cloudEvent(event, data) {
  const isBinary = event.data_base64 !== undefined;
  const attributes = { ...event.cloudevent, id: null, partitionkey: event.ordering_key, tenant: event.tenant };
  if (isBinary) attributes.datacontenttype = event.content_type;
  const payload = isBinary ? `"data_base64":${JSON.stringify(data)}` : `"data":${data}`;
  return `${quoted(`{"id":"`)}"$(date +%s)-$RANDOM"${quoted(`",${members(attributes)}${payload}}`)}`;
}

/**
 * The command that sends the same event anew. Only CloudEvents have payloads that are not JSON.
 * @param {any} event
 * @param {string} data
 */
function curl(event, data) {
  const [type, body] = event.cloudevent
    ? ["application/cloudevents+json", cloudEvent(event, data)]
    : ["application/json", own(event, data)];
  return [
    `curl ${quoted(`${location.origin}/v1/events`)}`,
    `-H "Authorization: Bearer $KEY"`,
    `-H 'Content-Type: ${type}'`,
    `-d ${body}`,
  ].join(" \\\n  ");
}

/** @param {{ event: any, delivery: any, reload: () => void }} props */
function Delivery({ event, delivery, reload }) {
  const retry = async () => {
    await call("POST", `/v1/events/${part(event.id)}/deliveries/${part(delivery.endpoint_id)}/retry`);
    reload();
  };
  const attempts = delivery.attempt_log ?? [];
  return html`<section class="card">
    <h3><a href=${link("endpoints", delivery.endpoint_id)}>${delivery.endpoint_id}</a> <${Badge} state=${delivery.status} /></h3>
    ${delivery.next_attempt_at && html`<p class="quiet">${t("event.next")}: <${Time} at=${delivery.next_attempt_at} /></p>`}
    ${attempts.length === 0 && html`<p class="quiet">${t("event.no.attempt")} ${delivery.last_outcome ?? ""}</p>`}
    <ol class="timeline">${attempts.map((/** @type {any} */ attempt) => html`<${Attempt} key=${attempt.number} event=${event}
      endpoint=${delivery.endpoint_id} attempt=${attempt} />`)}</ol>
    ${may("replay") && html`<${Action} onClick=${retry}>${t("event.retry")}<//>`}
  </section>`;
}

/** @param {{ event: any, endpoint: string, attempt: any }} props */
function Attempt({ event, endpoint, attempt }) {
  const good = attempt.outcome === "delivered";
  return html`<li class=${good ? "good" : "bad"}>
    <p><strong>${t("event.attempt", { number: attempt.number })}</strong>
      ${" "}<${Badge} state=${good ? "delivered" : "dead"} label=${attempt.outcome} />
      ${attempt.response_status !== null && html` <code>${attempt.response_status}</code>`}
      <span class="quiet"> <${Time} at=${attempt.started_at} /> · ${milliseconds(attempt.duration_ms)}</span></p>
    ${attempt.error && html`<p>${attempt.error}</p>`}
    <${RequestHeaders} event=${event} endpoint=${endpoint} attempt=${attempt} />
    ${attempt.response_body && html`<details><summary>${t("event.answer")}</summary><pre tabindex="0">${attempt.response_body}</pre></details>`}
  </li>`;
}
