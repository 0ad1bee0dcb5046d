// For the operator: organisations and their keys.

import { call, part, query } from "../api/api.js";
import { mayChange } from "../api/me.js";
import { Dialog } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Empty, Loaded, Pages, Table, Time, useLoad } from "../parts/ui.js";
import { go, link } from "../route.js";
import { number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";
import { Keys } from "./keys.js";

const PATH = "/admin/v1/organizations";

const TIERS = ["free", "pro", "business", "enterprise"];

/** @param {{ params: URLSearchParams }} props */
export function Organizations({ params }) {
  const cursor = params.get("cursor");
  const load = useLoad(query(PATH, { cursor, limit: 50 }));
  const [makes, setMakes] = useState(false);
  const show = (/** @type {string | null} */ next) => go(query("#/organizations", { cursor: next }));
  const done = () => {
    setMakes(false);
    load.reload();
  };
  return html`<header class="with-buttons"><${Heading} title=${t("nav.organizations")} />
      ${mayChange() && html`<button type="button" class="main" onClick=${() => setMakes(true)}>${t("orgs.new")}</button>`}</header>
    ${makes && html`<${Dialog} title=${t("orgs.new")} onClose=${() => setMakes(false)}>
      <${OrganizationForm} onDone=${done} onCancel=${() => setMakes(false)} /><//>`}
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`
      ${page.data.length === 0
        ? html`<${Empty}>${t("orgs.empty")}<//>`
        : html`<${Table} label=${t("nav.organizations")} heads=${[t("org.name"), t("org.tier"), t("tenant.rate"), t("tenant.created")]}
            rows=${page.data.map((/** @type {any} */ organization) => [
              html`<a href=${link("organizations", organization.id)}>${organization.name}</a>`,
              organization.tier,
              organization.rate_limit_per_minute === null ? "–" : number(organization.rate_limit_per_minute),
              html`<${Time} at=${organization.created_at} />`,
            ])} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} onNext=${show} onFirst=${() => show(null)} />`}<//>`;
}

/** Fields that are numbers, or not set. */
const NUMBERS = ["rate_limit_per_minute", "payload_retention_days", "events_per_month"];

/** What stands in the form. @param {any} organization @returns {Record<string, string>} */
const written = (organization) => ({
  name: organization?.name ?? "",
  tier: organization?.tier ?? "free",
  quota_action: organization?.quota_action ?? "warn",
  ...Object.fromEntries(NUMBERS.map((name) => [name, String(organization?.[name] ?? "")])),
});

/** @param {Record<string, string>} typed */
const fieldsOf = (typed) => ({
  ...typed,
  ...Object.fromEntries(NUMBERS.map((name) => [name, typed[name] === "" ? null : Number(typed[name])])),
});

/** @param {{ organization?: any, onDone: () => void, onCancel?: () => void }} props */
function OrganizationForm({ organization, onDone, onCancel }) {
  const [typed, setTyped] = useState(() => written(organization));
  const [isSaved, setSaved] = useState(false);
  const submit = async () => {
    if (organization) await call("PATCH", `${PATH}/${part(organization.id)}`, fieldsOf(typed));
    else await call("POST", PATH, fieldsOf(typed));
    setSaved(true);
    onDone();
  };
  const type = (/** @type {Record<string, string>} */ change) => {
    setSaved(false);
    setTyped((old) => ({ ...old, ...change }));
  };
  return html`<${Form} label=${t("save")} onSubmit=${submit} onCancel=${onCancel}>${(/** @type {any[]} */ errors) => {
    const field = (/** @type {string} */ name, /** @type {string} */ label, more = {}) => html`<${Field} name=${name} label=${label}
      value=${typed[name]} errors=${errors} onInput=${(/** @type {string} */ value) => type({ [name]: value })} ...${more} />`;
    return html`
      ${field("name", t("org.name"), { required: true })}
      ${field("tier", t("org.tier"), { options: TIERS.map((each) => [each, each]) })}
      ${field("rate_limit_per_minute", t("org.rate"), { type: "number" })}
      ${field("payload_retention_days", t("org.retention"), { type: "number" })}
      ${field("events_per_month", t("quota.events"), { type: "number" })}
      ${field("quota_action", t("quota.action"), { options: ["warn", "refuse"].map((each) => [each, t(`quota.action.${each}`)]) })}
      <div role="status">${isSaved && html`<p>${t("saved")}</p>`}</div>`;
  }}<//>`;
}

/** What a token that may only read shows. @param {{ organization: any }} props */
function Facts({ organization }) {
  const facts = [
    [t("org.tier"), organization.tier],
    [t("org.rate"), organization.rate_limit_per_minute],
    [t("org.retention"), organization.payload_retention_days],
    [t("quota.events"), organization.events_per_month && number(organization.events_per_month)],
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value ?? "–"}</dd></div>`)}</dl>`;
}

/** @param {{ id: string, params: URLSearchParams }} props */
export function OrganizationPage({ id, params }) {
  const load = useLoad(`${PATH}/${part(id)}`);
  return html`<${Heading} title=${load.data?.name ?? id} /><p class="quiet"><code>${id}</code></p>
    <${Loaded} load=${load}>${(/** @type {any} */ organization) => mayChange()
      ? html`<${OrganizationForm} organization=${organization} onDone=${load.reload} />`
      : html`<${Facts} organization=${organization} />`}<//>
    <p><a href=${query("#/usage", { organization: id })}>${t("nav.usage")}</a></p>
    <${Keys} path=${`${PATH}/${part(id)}/keys`} place=${link("organizations", id)} params=${params} isPart />`;
}
