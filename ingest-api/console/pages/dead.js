// Dead deliveries by endpoint and cause, and delivering those of many endpoints again.

import { call, part } from "../api/api.js";
import { may } from "../api/me.js";
import { Dangerous } from "../parts/dialog.js";
import { Field } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Empty, Failure, Loaded, Table, Time, useLoad } from "../parts/ui.js";
import { link } from "../route.js";
import { number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** How often the groups are asked for. */
const EVERY = 5_000;

/** @param {{ groups: any[] }} props */
const endpointsOf = ({ groups }) => {
  /** @type {Map<string, any>} */
  const endpoints = new Map();
  for (const group of groups) {
    const known = endpoints.get(group.endpoint_id) ?? { id: group.endpoint_id, url: group.url, oldest: group.oldest_accepted_at, groups: [] };
    known.groups.push(group);
    if (group.oldest_accepted_at < known.oldest) known.oldest = group.oldest_accepted_at;
    endpoints.set(group.endpoint_id, known);
  }
  return [...endpoints.values()];
};

export function Dead() {
  const load = useLoad("/v1/dead-deliveries", EVERY);
  return html`<${Heading} title=${t("dead.title")} />
    <${Loaded} load=${load}>${(/** @type {any} */ dead) => html`<${Groups} endpoints=${endpointsOf(dead)} onChange=${load.reload} />`}<//>`;
}

/** @param {{ endpoints: any[], onChange: () => void }} props */
function Groups({ endpoints, onChange }) {
  const [chosen, setChosen] = useState(/** @type {string[]} */ ([]));
  const [pace, setPace] = useState("100");
  const [done, setDone] = useState(/** @type {{ id: string, problem: unknown }[]} */ ([]));
  const there = endpoints.filter(({ id }) => chosen.includes(id));
  const toggle = (/** @type {string} */ id) =>
    setChosen(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);
  const recover = async () => {
    const results = [];
    for (const { id, oldest } of there) {
      try {
        await call("POST", `/v1/endpoints/${part(id)}/recover`, { since: oldest, per_second: Number(pace) });
        results.push({ id, problem: null });
      } catch (problem) {
        results.push({ id, problem });
      }
    }
    setDone(results);
    setChosen([]);
    onChange();
  };
  const rows = endpoints.map((endpoint) => [
    may("replay")
      ? html`<label><input type="checkbox" checked=${chosen.includes(endpoint.id)} onChange=${() => toggle(endpoint.id)}
          aria-label=${t("dead.choose", { endpoint: endpoint.url ?? endpoint.id })} /></label>`
      : "",
    html`<a href=${link("endpoints", endpoint.id)}>${endpoint.url ?? t("endpoints.fetched")}</a>`,
    endpoint.groups.map((/** @type {any} */ group) => html`<div>${group.capped ? "≥ " : ""}${number(group.deliveries)} ${group.outcome ?? t("dead.untried")}</div>`),
    html`<${Time} at=${endpoint.oldest} />`,
  ]);
  const heads = ["", t("endpoint.title"), t("dead.causes"), t("dead.oldest")];
  const all = endpoints.map(({ id }) => id);
  return html`${all.length === 0 ? html`<${Empty}>${t("dead.calm")}<//>` : html`<${Table} label=${t("dead.title")} heads=${heads} rows=${rows} keys=${all} />`}
    ${all.length > 0 && may("replay") && html`<div class="buttons">
      <button type="button" onClick=${() => setChosen(there.length === all.length ? [] : all)}>${t("dead.all")}</button>
      <${Field} label=${t("recover.pace")} type="number" value=${pace} onInput=${setPace} />
      ${there.length > 0 && html`<${Dangerous} label=${t("dead.recover", { count: number(there.length) })} title=${t("recover.title")}
        lost=${t("dead.recover.lost")} onConfirm=${recover} />`}
    </div>`}
    <div role="status">${done.map(({ id, problem }) =>
      problem
        ? html`<p><a href=${link("endpoints", id)}>${id}</a></p><${Failure} problem=${problem} />`
        : html`<p>${t("dead.started")} <a href=${link("endpoints", id)}>${id}</a></p>`)}</div>`;
}
