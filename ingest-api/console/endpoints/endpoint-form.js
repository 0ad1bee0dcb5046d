// The form that makes or changes an endpoint. A change names only what was changed.

import { Problem, call, part } from "../api/api.js";
import { hasTenants, may, whoAmI } from "../api/me.js";
import { Form } from "../parts/form.js";
import { html } from "../parts/html.js";
import { t } from "../texts.js";
import { useState } from "../vendor/hooks.js";
import { AuthFields, authOf, writtenAuth } from "./auth-fields.js";
import {
  KINDS, LimitFields, OwnerFields, PULL_RETRIES, RETRIES, RequestFields, RetryFields, fieldOf, isFetched, templateOf,
} from "./endpoint-fields.js";
import { HeaderFields, headersOf, writtenHeaders } from "./header-fields.js";
import { FilterPreview } from "./preview.js";
import { SignatureFields, signaturesOf, writtenSchemes } from "./signature-fields.js";

/** @typedef {import("./endpoint-fields.js").Typed} Typed */

/**
 * What stands in the form.
 * @typedef {object} Written
 * @property {Typed} typed
 * @property {import("./header-fields.js").Header[]} headers
 * @property {import("./signature-fields.js").Scheme[]} schemes
 * @property {Typed} auth
 */

/** @param {string} text */
const lines = (text) => text.split("\n").map((line) => line.trim()).filter((line) => line !== "");

/** @param {string} text */
const number = (text) => (text.trim() === "" ? null : Number(text));

/** @param {string} text */
function filterOf(text) {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(422, t("endpoint.filter.wrong"), [{ field: "filter", detail: t("endpoint.filter.wrong") }]);
  }
}

/** What an endpoint's form begins with, or a new one's. @param {any} endpoint @param {string | null | undefined} tenant @returns {Written} */
function written(endpoint, tenant) {
  const hidden = endpoint?.has_template ? "keep" : "";
  const retries = RETRIES.map((name) => [`retry.${name}`, String(endpoint?.retry?.[name] ?? "")]);
  const typed = {
    kind: endpoint?.kind ?? "push",
    url: endpoint?.url ?? "",
    all_tenants: tenant ? "tenant" : "own",
    tenant: tenant ?? "",
    create_tenant: "false",
    description: endpoint?.description ?? "",
    event_types: (endpoint?.event_types ?? []).join("\n"),
    filter: endpoint?.filter ? JSON.stringify(endpoint.filter, null, 2) : "",
    rate_limit_per_second: String(endpoint?.rate_limit_per_second ?? ""),
    timeout_ms: String(endpoint?.timeout_ms ?? ""),
    max_in_flight: String(endpoint?.max_in_flight ?? ""),
    method: endpoint?.method ?? "POST",
    format: endpoint?.format ?? "standard",
    ordered: String(endpoint?.ordered ?? false),
    on_exhausted: endpoint?.on_exhausted ?? "skip",
    template: endpoint?.template ? "own" : hidden,
    "template.body": endpoint?.template?.body ?? "",
    "template.content_type": endpoint?.template?.content_type ?? "",
    secret: "",
    ...Object.fromEntries(retries),
  };
  return { typed, headers: writtenHeaders(endpoint), schemes: writtenSchemes(endpoint), auth: writtenAuth(endpoint) };
}

/** All fields that can be changed. @param {Written} form @param {any} endpoint @param {boolean} isPulled @returns {Record<string, unknown>} */
function fieldsOf({ typed, headers, schemes, auth }, endpoint, isPulled) {
  const { description, url, method, on_exhausted, format } = typed;
  const retries = (isPulled ? PULL_RETRIES : RETRIES).map((name) => [name, number(typed[`retry.${name}`] ?? "")]);
  const common = {
    description,
    event_types: lines(typed.event_types ?? ""),
    filter: filterOf(typed.filter ?? ""),
    rate_limit_per_second: number(typed.rate_limit_per_second ?? ""),
    max_in_flight: number(typed.max_in_flight ?? ""),
    retry: Object.fromEntries(retries),
    format,
  };
  if (isPulled) return common;
  return {
    ...common,
    url,
    timeout_ms: number(typed.timeout_ms ?? ""),
    method,
    // A template stands in its place.
    format: typed.template === "" ? format : "standard",
    ordered: typed.ordered === "true",
    on_exhausted,
    template: templateOf(typed),
    headers: headersOf(headers),
    signatures: signaturesOf(schemes),
    auth: authOf(auth, endpoint),
  };
}

/** What a new endpoint has besides. @param {Typed} typed */
function fixedOf({ kind, secret, all_tenants, tenant, create_tenant }) {
  const isOfTenant = all_tenants === "tenant";
  return {
    kind,
    ...(!isFetched(kind) && secret && { secret }),
    ...(isOfTenant && { tenant }),
    ...(isOfTenant && create_tenant === "true" && { create_tenant: true }),
    ...(all_tenants === "all" && { all_tenants: true }),
  };
}

/** @param {Record<string, unknown>} body */
async function make(body) {
  try {
    return (await call("POST", "/v1/endpoints", body)).body;
  } catch (error) {
    if (!(error instanceof Problem && error.status === 404)) throw error;
    throw new Problem(422, t("endpoint.no.tenant"), [{ field: "tenant", detail: t("endpoint.no.tenant") }]);
  }
}

/** The fields that are other than before. @param {Record<string, unknown>} before @param {Record<string, unknown>} now */
const changes = (before, now) =>
  Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));

/**
 * @param {{ endpoint?: any, etag?: string | null, tenant?: string | null, onDone: (endpoint: any) => void,
 *   onCancel: () => void }} props
 */
export function EndpointForm({ endpoint: given, etag, tenant, onDone, onCancel }) {
  // As it was when the form was opened: whoever changed it since is not overruled.
  const [{ endpoint, version }] = useState({ endpoint: given, version: etag });
  const [form, setForm] = useState(() => written(endpoint, tenant));
  const { typed, headers, schemes, auth } = form;
  const isPulled = isFetched(typed.kind);
  const set = (/** @type {Partial<Written>} */ change) => setForm((/** @type {Written} */ old) => ({ ...old, ...change }));
  const submit = async () => {
    const fields = fieldsOf(form, endpoint, isPulled);
    if (endpoint) {
      const changed = changes(fieldsOf(written(endpoint, tenant), endpoint, isPulled), fields);
      /** @type {Record<string, string>} */
      const match = version ? { "If-Match": version } : {};
      onDone((await call("PATCH", `/v1/endpoints/${part(endpoint.id)}`, changed, match)).body);
    } else {
      onDone(await make({ ...fields, ...fixedOf(typed) }));
    }
  };
  const allowed = whoAmI().event_types;
  const types = allowed.length > 0 ? t("endpoint.types.choose", { types: allowed.join(", ") }) : t("endpoint.types.hint");
  return html`<${Form} label=${t("save")} onSubmit=${submit} onCancel=${onCancel}>${(/** @type {any[]} */ errors) => {
    const props = {
      typed, isPulled, errors,
      onChange: (/** @type {Typed} */ change) => setForm((/** @type {Written} */ old) => ({ ...old, typed: { ...old.typed, ...change } })),
    };
    const field = fieldOf(props);
    const kinds = KINDS.map((name) => [name, t(`kind.${name}`)]);
    return html`
      ${!endpoint && field("kind", t("endpoint.kind"), { options: kinds })}
      ${!isPulled && field("url", t("endpoints.url"), { type: "url", required: true, placeholder: "https://…" })}
      ${!endpoint && hasTenants() && html`<${OwnerFields} ...${props} />`}
      ${field("event_types", t("endpoints.types"), { lines: 3, hint: types })}
      ${field("description", t("endpoint.description"))}
      ${field("filter", t("endpoint.filter"), { lines: 4, hint: t("endpoint.filter.hint") })}
      ${may("view") && html`<${FilterPreview} id=${endpoint?.id ?? null} filter=${() => filterOf(typed.filter ?? "")} />`}
      <${RequestFields} ...${props} hasHidden=${Boolean(endpoint?.has_template && !endpoint.template)}>
        <${HeaderFields} headers=${headers} errors=${errors} onChange=${(/** @type {Written["headers"]} */ next) => set({ headers: next })} /><//>
      ${!isPulled && html`<${SignatureFields} schemes=${schemes} errors=${errors}
          onChange=${(/** @type {Written["schemes"]} */ next) => set({ schemes: next })} />
        ${!endpoint && field("secret", t("endpoint.secret.own"), { type: "password", hint: t("endpoint.secret.hint") })}
        <${AuthFields} endpoint=${endpoint} typed=${auth} errors=${errors} onChange=${(/** @type {Typed} */ next) => set({ auth: next })} />`}
      <${LimitFields} ...${props} />
      <${RetryFields} ...${props} />`;
  }}<//>`;
}
