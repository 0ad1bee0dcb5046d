// What a filter or a template would make of recent events, before it is saved.

import { call, get, part } from "../api/api.js";
import { whoAmI } from "../api/me.js";
import { html } from "../parts/html.js";
import { Action, Badge, Empty, Table, Time } from "../parts/ui.js";
import { link } from "../route.js";
import { number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** The newest event, as something to try out on; a made-up one where there is none. */
async function sample() {
  const { body } = await get("/v1/events?limit=1");
  const [event] = body.data;
  if (!event || event.data === undefined) return { type: "order.created", data: {} };
  return { type: event.type, data: event.data, ...(event.tenant && { tenant: event.tenant }) };
}

/** An event's type. What is in the form stays, so its link opens a page of its own, for which a portal has no session. @param {any} event */
const titleOf = ({ id, type }) =>
  id && whoAmI().kind !== "portal" ? html`<a href=${link("events", id)} target="_blank" rel="noopener">${type}</a>` : type;

/** @param {{ id: string | null, filter: () => unknown }} props `id` is that of an endpoint whose events are looked at */
export function FilterPreview({ id, filter }) {
  const [seen, setSeen] = useState(/** @type {any} */ (null));
  const look = async () => {
    const wanted = filter();
    if (id) {
      const body = wanted === null ? {} : { filter: wanted };
      setSeen((await call("POST", `/v1/endpoints/${part(id)}/filter/preview`, body)).body);
    } else if (wanted !== null) {
      const event = await sample();
      const verdict = (await call("POST", "/v1/filters/test", { filter: wanted, event })).body;
      setSeen({ events: [{ ...event, ...verdict }], looked_at: 1 });
    }
  };
  return html`<div class="preview"><${Action} onClick=${look}>${t("preview.filter")}<//>
    ${seen && html`<p class="quiet">${t("preview.looked", { count: number(seen.looked_at) })}</p>
      ${seen.events.length === 0
        ? html`<${Empty}>${t("preview.none")}<//>`
        : html`<${Table} label=${t("preview.filter")} heads=${[t("events.type"), t("preview.passes"), t("preview.decided")]}
            rows=${seen.events.map((/** @type {any} */ event) => [
              html`${titleOf(event)} ${event.accepted_at && html`<${Time} at=${event.accepted_at} />`}`,
              html`<${Badge} state=${event.passes ? "delivered" : "disabled"} label=${t(event.passes ? "preview.yes" : "preview.no")} />`,
              event.decided_by === null ? "–" : html`<code>${event.decided_by || "/"}</code>`,
            ])} />`}`}</div>`;
}

/** @param {{ template: () => object | null }} props */
export function TemplatePreview({ template }) {
  const [seen, setSeen] = useState(/** @type {any} */ (null));
  const look = async () => {
    const wanted = template();
    if (wanted === null) return;
    setSeen((await call("POST", "/v1/templates/test", { template: wanted, event: await sample() })).body);
  };
  return html`<div class="preview"><${Action} onClick=${look}>${t("preview.template")}<//>
    ${seen && html`<p class="quiet">${seen.content_type}</p><pre tabindex="0">${seen.body}</pre>`}</div>`;
}
