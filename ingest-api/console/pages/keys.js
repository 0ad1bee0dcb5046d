// API keys: of the organisation, or, for the operator, of any.

import { call, part, query } from "../api/api.js";
import { hasTenants, mayChange } from "../api/me.js";
import { Dangerous, Dialog, Secret } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Badge, Empty, Loaded, Pages, Table, Time, useLoad } from "../parts/ui.js";
import { go, stay } from "../route.js";
import { t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** @param {any} key */
function stateOf(key) {
  if (key.revoked_at) return "revoked";
  return key.expires_at && new Date(key.expires_at).getTime() <= Date.now() ? "expired" : "valid";
}

/**
 * @param {{ path: string, place: string, params: URLSearchParams, isPart?: boolean }} props `place` is the address of the page, and
 *   `isPart` is true where they are a part of another one
 */
export function Keys({ path, place, params, isPart = false }) {
  const cursor = params.get("cursor");
  const show = (/** @type {string | null} */ next) => (isPart ? stay : go)(query(place, { cursor: next }));
  const load = useLoad(query(path, { cursor, limit: 50 }));
  const [makes, setMakes] = useState(false);
  const [made, setMade] = useState(/** @type {string | null} */ (null));
  const done = (/** @type {string} */ key) => {
    setMakes(false);
    setMade(key);
    load.reload();
  };
  const revoke = async (/** @type {any} */ key) => {
    await call("DELETE", `${path}/${part(key.id)}`);
    load.reload();
  };
  const row = (/** @type {any} */ key) => [
    html`${key.name}<div class="quiet"><code>${key.id}</code>${key.tenant && html` ${t("events.tenant")} ${key.tenant}`}</div>`,
    key.scopes.map((/** @type {string} */ scope) => t(`key.scope.${scope}`)).join(", "),
    html`<${Badge} state=${stateOf(key)} />`,
    html`<${Time} at=${key.last_used_at} />`,
    html`<${Time} at=${key.expires_at} />`,
    mayChange() && stateOf(key) === "valid" &&
      html`<${Dangerous} label=${t("key.revoke")} title=${t("key.revoke")} lost=${t("key.revoke.lost", { name: key.name })}
        onConfirm=${() => revoke(key)} />`,
  ];
  const heads = [t("key.name"), t("key.scopes"), t("events.status"), t("key.used"), t("key.expires"), ""];
  return html`<header class="with-buttons">${isPart ? html`<h2>${t("nav.keys")}</h2>` : html`<${Heading} title=${t("nav.keys")} />`}
      ${mayChange() && html`<button type="button" class="main" onClick=${() => setMakes(true)}>${t("keys.new")}</button>`}</header>
    ${makes && html`<${Dialog} title=${t("keys.new")} onClose=${() => setMakes(false)}>
      <${KeyForm} path=${path} onDone=${done} onCancel=${() => setMakes(false)} /><//>`}
    ${made && html`<${Secret} label=${t("key.made")} text=${made} onClose=${() => setMade(null)} />`}
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`
      ${page.data.length === 0
        ? html`<${Empty}>${t("keys.empty")}<//>`
        : html`<${Table} label=${t("nav.keys")} heads=${heads} rows=${page.data.map(row)} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} onNext=${show} onFirst=${() => show(null)} />`}<//>`;
}

/** @param {{ path: string, onDone: (key: string) => void, onCancel: () => void }} props */
function KeyForm({ path, onDone, onCancel }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(/** @type {string[]} */ (["ingest"]));
  const [tenant, setTenant] = useState("");
  const [expires, setExpires] = useState("");
  const submit = async () => {
    /** @type {Record<string, unknown>} */
    const body = { name, scopes };
    if (tenant) body.tenant = tenant;
    if (expires) body.expires_at = new Date(expires).toISOString();
    onDone((await call("POST", path, body)).body.key);
  };
  const toggle = (/** @type {string} */ scope) =>
    setScopes(scopes.includes(scope) ? scopes.filter((other) => other !== scope) : [...scopes, scope]);
  return html`<${Form} label=${t("save")} onSubmit=${submit} onCancel=${onCancel}>${(/** @type {any[]} */ errors) => html`
    <${Field} name="name" label=${t("key.name")} required value=${name} onInput=${setName} errors=${errors} />
    <fieldset><legend>${t("key.scopes")}</legend>${["ingest", "manage"].map(
      (scope) => html`<label><input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => toggle(scope)} /> ${t(`key.scope.${scope}`)}</label>`,
    )}</fieldset>
    ${hasTenants() && html`<${Field} name="tenant" label=${t("key.tenant")} value=${tenant} onInput=${setTenant} errors=${errors} />`}
    <${Field} name="expires_at" label=${t("key.expires")} type="datetime-local" value=${expires} onInput=${setExpires} errors=${errors} />`}<//>`;
}
