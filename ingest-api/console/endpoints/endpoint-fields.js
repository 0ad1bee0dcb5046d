// Parts of the form of an endpoint: whose events, what requests look like, limits and retries. The names of the fields are those
// of the API, so that what it says of one is told there.

import { may } from "../api/me.js";
import { Check, Faults, Field, areWrong } from "../parts/form.js";
import { html } from "../parts/html.js";
import { t } from "../texts.js";
import { TemplatePreview } from "./preview.js";

/** @typedef {import("../parts/form.js").Wrong[]} Errors */
/** @typedef {Record<string, string>} Typed what stands in the form, by field; yes and no are `true` and `false` */
/** @typedef {{ typed: Typed, isPulled: boolean, errors: Errors, onChange: (change: Typed) => void }} Props */

/** The kinds of endpoints. */
export const KINDS = ["push", "pull"];

/** Whether the deliveries of a kind are fetched. Otherwise they are sent. @param {string | undefined} kind */
export const isFetched = (kind) => kind !== "push";

export const RETRIES = ["attempts", "initial_seconds", "factor", "max_seconds", "max_age_seconds"];

/** Those that mean something where deliveries are fetched. */
export const PULL_RETRIES = ["attempts", "max_age_seconds"];

const PRESETS = ["slack", "teams", "discord", "pagerduty"];

const NUMBER = { type: "number" };

/** Makes a field of the form. @param {Props} props */
export const fieldOf = ({ typed, errors, onChange }) => (/** @type {string} */ name, /** @type {string} */ label, more = {}) =>
  html`<${Field} name=${name} label=${label} value=${typed[name]} errors=${errors}
    onInput=${(/** @type {string} */ value) => onChange({ [name]: value })} ...${more} />`;

/** @param {string[]} names @param {string} kind */
const options = (names, kind) => names.map((name) => [name, t(`${kind}.${name}`)]);

/** Whose events a new endpoint gets. @param {Props} props */
export function OwnerFields(props) {
  const { typed, errors, onChange } = props;
  const field = fieldOf(props);
  return html`${field("all_tenants", t("endpoint.owner"), { options: options(["own", "tenant", "all"], "owner") })}
    ${typed.all_tenants === "tenant" && html`${field("tenant", t("events.tenant"), { required: true })}
      <${Check} name="create_tenant" label=${t("endpoint.create.tenant")} errors=${errors} checked=${typed.create_tenant === "true"}
        onChange=${(/** @type {boolean} */ checked) => onChange({ create_tenant: String(checked) })} />`}`;
}

/** The field `template` of the request; undefined leaves what is there. @param {Typed} typed */
export function templateOf(typed) {
  const { template = "", "template.body": body = "", "template.content_type": content_type = "" } = typed;
  if (template === "keep") return undefined;
  if (template === "") return null;
  if (template !== "own") return { preset: template };
  return content_type === "" ? { body } : { body, content_type };
}

/**
 * What its requests look like.
 * @param {Props & { hasHidden: boolean, children?: import("../parts/ui.js").Children }} props `hasHidden`: there is a template that this
 *   session may not see
 */
export function RequestFields(props) {
  const { typed, isPulled, errors, hasHidden, children } = props;
  const field = fieldOf(props);
  const format = field("format", t("endpoint.format"), {
    options: options(isPulled ? ["standard", "cloudevents"] : ["standard", "cloudevents", "raw"], "format"),
  });
  if (isPulled) return format;
  const kept = hasHidden ? [["keep", t("template.keep")]] : [];
  const templates = [...kept, ["", t("template.none")], ["own", t("template.own")], ...options(PRESETS, "template")];
  const isOwn = typed.template === "own";
  const names = ["method", "format", "template", "headers"];
  return html`<details class="card" open=${areWrong(errors, ...names)}><summary>${t("endpoint.body")}</summary>
    ${field("method", t("endpoint.method"), { options: ["POST", "PUT"].map((name) => [name, name]) })}
    ${field("template", t("endpoint.template"), { options: templates })}
    <${Faults} name="template.preset" errors=${errors} />
    ${typed.template === "" && format}
    ${isOwn && field("template.body", t("template.body"), { lines: 8, hint: t("template.hint") })}
    ${isOwn && field("template.content_type", t("event.content"), { placeholder: "application/json" })}
    ${typed.template !== "" && typed.template !== "keep" && may("view") && html`<${TemplatePreview} template=${() => templateOf(typed) ?? null} />`}
    ${children}
  </details>`;
}

/** @param {Props} props */
export function LimitFields(props) {
  const { typed, isPulled, errors } = props;
  const field = fieldOf(props);
  const names = ["rate_limit_per_second", "max_in_flight", "timeout_ms", "ordered", "on_exhausted"];
  return html`<details class="card" open=${areWrong(errors, ...names)}><summary>${t("endpoint.limits")}</summary>
    ${field("rate_limit_per_second", t("endpoint.rate"), { ...NUMBER, hint: t("endpoint.rate.hint") })}
    ${field("max_in_flight", t(isPulled ? "endpoint.max.leased" : "endpoint.max.in.flight"), NUMBER)}
    ${!isPulled && field("timeout_ms", t("endpoint.timeout"), NUMBER)}
    ${!isPulled && field("ordered", t("endpoint.ordered"), { options: [["false", t("no")], ["true", t("yes")]] })}
    ${!isPulled && typed.ordered === "true" && field("on_exhausted", t("endpoint.exhausted"), { options: options(["skip", "block"], "exhausted") })}
  </details>`;
}

/** @param {Props} props */
export function RetryFields(props) {
  const { isPulled, errors } = props;
  const field = fieldOf(props);
  return html`<details class="card" open=${areWrong(errors, "retry")}><summary>${t("retries")}</summary>
    <p class="hint">${t(isPulled ? "retries.pull.hint" : "retries.hint")}</p>
    ${(isPulled ? PULL_RETRIES : RETRIES).map((name) => field(`retry.${name}`, t(`retries.${name}`), NUMBER))}
  </details>`;
}
