// For the operator: organisations and their keys.

import { call, part, query } from "./api.js";
import { Dialog } from "./dialog.js";
import { Field, Form } from "./form.js";
import { useState } from "./vendor/hooks.js";
import { Heading } from "./heading.js";
import { html } from "./html.js";
import { Keys } from "./keys.js";
import { mayChange } from "./me.js";
import { go, link } from "./route.js";
import { number, t } from "./texts.js";
import { Empty, Loaded, Pages, Table, Time, useLoad } from "./ui.js";

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

/** @param {string} text */
const whole = (text) => (text === "" ? null : Number(text));

/** @param {{ organization?: any, onDone: () => void, onCancel?: () => void }} props */
function OrganizationForm({ organization, onDone, onCancel }) {
  const [name, setName] = useState(organization?.name ?? "");
  const [tier, setTier] = useState(organization?.tier ?? "free");
  const [rate, setRate] = useState(String(organization?.rate_limit_per_minute ?? ""));
  const [days, setDays] = useState(String(organization?.payload_retention_days ?? ""));
  const [quota, setQuota] = useState(String(organization?.events_per_month ?? ""));
  const [action, setAction] = useState(organization?.quota_action ?? "warn");
  const submit = async () => {
    const body = {
      name, tier, rate_limit_per_minute: whole(rate), payload_retention_days: whole(days), events_per_month: whole(quota), quota_action: action,
    };
    if (organization) await call("PATCH", `${PATH}/${part(organization.id)}`, body);
    else await call("POST", PATH, body);
    onDone();
  };
  return html`<${Form} label=${t("save")} onSubmit=${submit} onCancel=${onCancel}>${(/** @type {any[]} */ errors) => html`
    <${Field} name="name" label=${t("org.name")} required value=${name} onInput=${setName} errors=${errors} />
    <${Field} name="tier" label=${t("org.tier")} value=${tier} onInput=${setTier} errors=${errors} options=${TIERS.map((each) => [each, each])} />
    <${Field} name="rate_limit_per_minute" label=${t("org.rate")} type="number" value=${rate} onInput=${setRate} errors=${errors} />
    <${Field} name="payload_retention_days" label=${t("org.retention")} type="number" value=${days} onInput=${setDays} errors=${errors} />
    <${Field} name="events_per_month" label=${t("quota.events")} type="number" value=${quota} onInput=${setQuota} errors=${errors} />
    <${Field} name="quota_action" label=${t("quota.action")} value=${action} onInput=${setAction} errors=${errors}
      options=${["warn", "refuse"].map((each) => [each, t(`quota.action.${each}`)])} />`}<//>`;
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

/** @param {{ id: string }} props */
export function OrganizationPage({ id }) {
  const load = useLoad(`${PATH}/${part(id)}`);
  return html`<${Heading} title=${load.data?.name ?? id} /><p class="quiet"><code>${id}</code></p>
    <${Loaded} load=${load}>${(/** @type {any} */ organization) => mayChange()
      ? html`<${OrganizationForm} organization=${organization} onDone=${load.reload} />`
      : html`<${Facts} organization=${organization} />`}<//>
    <p><a href=${query("#/usage", { organization: id })}>${t("nav.usage")}</a></p>
    <${Keys} path=${`${PATH}/${part(id)}/keys`} isPart />`;
}
