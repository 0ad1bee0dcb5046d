// The organisation's own customers, and the way into their portals.

import { Problem, call, part, query } from "../api/api.js";
import { Dangerous, Dialog } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Action, Badge, Copy, Empty, Loaded, Pages, Table, Time, useLoad } from "../parts/ui.js";
import { go, link } from "../route.js";
import { number, t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** @param {{ params: URLSearchParams }} props */
export function Tenants({ params }) {
  const cursor = params.get("cursor");
  const load = useLoad(query("/v1/tenants", { cursor, limit: 50 }));
  const [makes, setMakes] = useState(false);
  const show = (/** @type {string | null} */ next) => go(query("#/tenants", { cursor: next }));
  const done = () => {
    setMakes(false);
    load.reload();
  };
  return html`<header class="with-buttons"><${Heading} title=${t("nav.tenants")} />
      <button type="button" class="main" onClick=${() => setMakes(true)}>${t("tenants.new")}</button></header>
    ${makes && html`<${Dialog} title=${t("tenants.new")} onClose=${() => setMakes(false)}>
      <${TenantForm} onDone=${done} onCancel=${() => setMakes(false)} /><//>`}
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`
      ${page.data.length === 0
        ? html`<${Empty}>${t("tenants.empty")}<//>`
        : html`<${Table} label=${t("nav.tenants")} heads=${[t("tenant.uid"), t("tenant.name"), t("events.status"), t("tenant.created")]}
            rows=${page.data.map((/** @type {any} */ tenant) => [
              html`<a href=${link("tenants", tenant.uid)}>${tenant.uid}</a>`,
              tenant.name,
              html`<${Badge} state=${tenant.status} />`,
              html`<${Time} at=${tenant.created_at} />`,
            ])} />`}
      <${Pages} next=${page.next_cursor} first=${!cursor} onNext=${show} onFirst=${() => show(null)} />`}<//>`;
}

/** @param {{ onDone: () => void, onCancel: () => void }} props */
function TenantForm({ onDone, onCancel }) {
  const [uid, setUid] = useState("");
  const [name, setName] = useState("");
  const [rate, setRate] = useState("");
  const [quota, setQuota] = useState("");
  const [action, setAction] = useState("warn");
  const submit = async () => {
    const limit = rate === "" ? {} : { rate_limit_per_minute: Number(rate) };
    const most = quota === "" ? {} : { events_per_month: Number(quota), quota_action: action };
    try {
      await call("PUT", `/v1/tenants/${part(uid)}`, { name, ...limit, ...most }, { "If-None-Match": "*" });
    } catch (error) {
      if (!(error instanceof Problem && error.status === 412)) throw error;
      throw new Problem(422, t("tenant.exists"), [{ field: "uid", detail: t("tenant.exists") }]);
    }
    onDone();
  };
  return html`<${Form} label=${t("save")} onSubmit=${submit} onCancel=${onCancel}>${(/** @type {any[]} */ errors) => html`
    <${Field} name="uid" label=${t("tenant.uid")} required value=${uid} onInput=${setUid} errors=${errors} />
    <${Field} name="name" label=${t("tenant.name")} value=${name} onInput=${setName} errors=${errors} />
    <${Field} name="rate_limit_per_minute" label=${t("tenant.rate")} type="number" value=${rate} onInput=${setRate} errors=${errors} />
    <${Field} name="events_per_month" label=${t("quota.events")} type="number" value=${quota} onInput=${setQuota} errors=${errors} />
    ${quota !== "" && html`<${Field} name="quota_action" label=${t("quota.action")} value=${action} onInput=${setAction} errors=${errors}
      options=${["warn", "refuse"].map((each) => [each, t(`quota.action.${each}`)])} />`}`}<//>`;
}

/** @param {{ uid: string }} props */
export function TenantPage({ uid }) {
  const path = `/v1/tenants/${part(uid)}`;
  const load = useLoad(path, 5_000);
  const [url, setUrl] = useState(/** @type {string | null} */ (null));
  const change = async (/** @type {object} */ body) => {
    await call("PATCH", path, body);
    load.reload();
  };
  const open = async () => {
    const capabilities = ["view", "manage_endpoints", "view_secrets", "replay"];
    setUrl((await call("POST", `${path}/portal-sessions`, { ttl_seconds: 3_600, capabilities })).body.url);
  };
  const remove = async () => {
    await call("DELETE", path);
    go("#/tenants");
  };
  return html`<${Heading} title=${`${t("events.tenant")} ${uid}`}>${t("events.tenant")} <code>${uid}</code><//>
    <${Loaded} load=${load}>${(/** @type {any} */ tenant) => html`
      <p><${Badge} state=${tenant.status} /> ${tenant.name}
        ${tenant.events_per_month !== null && html` <span class="quiet">${t("quota.set", { count: number(tenant.events_per_month) })}</span>`}
        ${tenant.events_left !== null && html` <span class="quiet">${t("tenant.left", { count: number(tenant.events_left) })}</span>`}</p>
      <ul><li><a href=${query("#/events", { tenant: uid })}>${t("nav.events")}</a></li>
        <li><a href=${query("#/endpoints", { tenant: uid })}>${t("nav.endpoints")}</a></li>
        <li><a href=${query("#/usage", { tenant: uid })}>${t("nav.usage")}</a></li></ul>
      ${tenant.status !== "deleting" && html`<div class="buttons">
        <${Action} kind="main" onClick=${open}>${t("tenant.open")}<//>
        <${Dangerous} label=${t("tenant.end")} title=${t("tenant.end")} lost=${t("tenant.end.lost", { uid })}
          onConfirm=${() => call("DELETE", `${path}/portal-sessions`)} />
        ${tenant.status === "enabled"
          ? html`<${Dangerous} label=${t("endpoint.disable")} title=${t("endpoint.disable")} lost=${t("endpoint.disable.lost")}
              onConfirm=${() => change({ status: "disabled" })} />`
          : html`<${Action} onClick=${() => change({ status: "enabled" })}>${t("endpoint.enable")}<//>`}
        <${Dangerous} label=${t("endpoint.delete")} title=${t("endpoint.delete")} lost=${t("tenant.delete.lost")} word=${uid} onConfirm=${remove} />
      </div>`}`}<//>
    ${url && html`<${Dialog} title=${t("tenant.open")} onClose=${() => setUrl(null)}>
      <p>${t("tenant.open.hint")}</p>
      <div class="buttons"><a class="button main" href=${url} target="_blank" rel="noopener">${t("tenant.open")}</a>
        <${Copy} text=${url} /></div><//>`}`;
}
