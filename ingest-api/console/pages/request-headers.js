// The headers that an attempt's request had. They are not kept: they follow from the event, the attempt and the endpoint. The names
// and their order are those of delivery-worker/src/send (headers.rs, credentials.rs, client/request.rs).

import { Problem, part } from "../api/api.js";
import { html } from "../parts/html.js";
import { Loaded, useLoad } from "../parts/ui.js";
import { t, unixSeconds } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** Outcomes of requests that may have gone out in part. With others, and no status, none did, or the delivery was pulled. */
const UNANSWERED = ["timeout", "network", "response"];

/** @type {Record<string, string>} */
const MEDIA_TYPES = { standard: "application/json", cloudevents: "application/cloudevents+json" };

/** Credentials that stand in a header. */
const IN_HEADER = ["basic", "bearer", "oauth2_client_credentials"];

/** Names in small letters, as they are sent, with values. @typedef {Map<string, string>} Headers */

/** What every webhook has, whatever its endpoint. @param {any} event @param {string} timestamp @returns {Headers} */
const certain = (event, timestamp) => new Map([["webhook-id", event.id], ["webhook-timestamp", timestamp]]);

/**
 * The time of the signature: the attempt's start, or when its template was rendered.
 * @param {any} attempt
 * @param {boolean} isExact whether there is no template
 */
function timestampOf(attempt, isExact) {
  const seconds = String(unixSeconds(attempt.started_at));
  return isExact ? seconds : `${seconds} ${t("sent.or.later")}`;
}

/** @param {any} event @param {any} endpoint */
function mediaType(event, endpoint) {
  if (endpoint.has_template) return endpoint.template?.content_type ?? t("sent.hidden");
  return MEDIA_TYPES[endpoint.format] ?? event.content_type;
}

/** @param {any} event @param {any} attempt @param {any} endpoint @returns {Headers} */
function headersOf(event, attempt, endpoint) {
  const timestamp = timestampOf(attempt, !endpoint.has_template);
  const headers = certain(event, timestamp);
  const set = (/** @type {string} */ name, /** @type {string} */ value) => headers.set(name.toLowerCase(), value);
  const setOnce = (/** @type {string} */ name, /** @type {string} */ value) => headers.has(name) || set(name, value);
  for (const name of endpoint.header_names ?? []) set(name, t("sent.hidden"));
  const isUsed = (/** @type {any} */ scheme) => !scheme.until || new Date(scheme.until).getTime() > unixSeconds(attempt.started_at) * 1_000;
  for (const { scheme, header, timestamp_header } of (endpoint.signatures ?? []).filter(isUsed)) {
    set(scheme === "hmac" ? header : "webhook-signature", t("sent.not.kept"));
    if (timestamp_header) set(timestamp_header, timestamp);
  }
  set("content-type", mediaType(event, endpoint));
  if (IN_HEADER.includes(endpoint.auth?.kind)) set("authorization", t("sent.hidden"));
  setOnce("accept", "*/*");
  setOnce("user-agent", `Penstock/${t("sent.version")}`);
  return headers;
}

/** @param {{ headers: Headers, note: string, attempt: any }} props */
function List({ headers, note, attempt }) {
  const lines = Array.from(headers, ([name, value]) => `${name}: ${value}`);
  return html`<p class="quiet">${note}${attempt.response_status === null && ` ${t("sent.unanswered")}`}</p>
    <pre tabindex="0" class="headers">${lines.join("\n")}</pre>`;
}

/** @param {{ event: any, attempt: any, endpoint: string }} props */
export function RequestHeaders({ event, attempt, endpoint: id }) {
  const [wasOpened, setOpened] = useState(false);
  const load = useLoad(wasOpened ? `/v1/endpoints/${part(id)}` : null);
  if (attempt.response_status === null && !UNANSWERED.includes(attempt.outcome)) return null;
  const isUnknown = load.problem instanceof Problem && [403, 404].includes(load.problem.status);
  const known = (/** @type {any} */ endpoint) => html`<${List} headers=${headersOf(event, attempt, endpoint)} note=${t("sent.now")}
    attempt=${attempt} />`;
  return html`<details onToggle=${() => setOpened(true)}><summary>${t("sent.title")}</summary>
    ${wasOpened && (isUnknown
      ? html`<${List} headers=${certain(event, timestampOf(attempt, false))} note=${t("sent.unknown")} attempt=${attempt} />`
      : html`<${Loaded} load=${load}>${known}<//>`)}
  </details>`;
}
