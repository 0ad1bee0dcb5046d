// The schemes that an endpoint's webhooks are signed with, in its form.

import { Faults, Field, areWrong } from "../parts/form.js";
import { html } from "../parts/html.js";
import { t, toLocal, toUtc } from "../texts.js";

/** Most schemes of an endpoint. */
const MOST = 3;

const NAMES = ["standard", "ed25519", "github", "stripe", "shopify", "slack", "hmac"];

/** What the API calls by a name of its own, and shows as the `hmac` that it stands for. @type {Record<string, Record<string, string>>} */
const PRESETS = {
  github: { header: "X-Hub-Signature-256", encoding: "hex", prefix: "sha256=", signed: "{body}", timestamp_header: "" },
  stripe: { header: "Stripe-Signature", encoding: "hex", prefix: "t={timestamp},v1=", signed: "{timestamp}.{body}", timestamp_header: "" },
  shopify: { header: "X-Shopify-Hmac-Sha256", encoding: "base64", prefix: "", signed: "{body}", timestamp_header: "" },
  slack: {
    header: "X-Slack-Signature",
    encoding: "hex",
    prefix: "v0=",
    signed: "v0:{timestamp}:{body}",
    timestamp_header: "X-Slack-Request-Timestamp",
  },
};

/**
 * What was typed of a scheme. For the header `known` the API has a secret, and `known_until` is the end, as the API wrote it.
 * @typedef {Record<string, string>} Scheme
 */

const NEW = {
  scheme: "standard", until: "", header: "", hash: "sha256", encoding: "hex", prefix: "", signed: "{body}", timestamp_header: "",
  secret: "", secret_form: "text", known: "", known_until: "",
};

let keys = 0;

/** @param {Scheme} values @returns {Scheme} */
const scheme = (values) => ({ ...NEW, key: String((keys += 1)), ...values });

/** The name by which a scheme is chosen. @param {any} shown */
function nameOf(shown) {
  if (shown.scheme !== "hmac" || shown.hash !== "sha256") return shown.scheme;
  const preset = Object.entries(PRESETS).find(([, fields]) =>
    Object.entries(fields).every(([name, value]) => (shown[name] ?? "") === value),
  );
  return preset ? preset[0] : "hmac";
}

/** What stands in the form. @param {any} endpoint @returns {Scheme[]} */
export function writtenSchemes(endpoint) {
  const shown = endpoint?.signatures ?? [{ scheme: "standard" }];
  return shown.map((/** @type {any} */ each) => scheme({
    scheme: nameOf(each),
    until: toLocal(each.until),
    known_until: each.until ?? "",
    ...(each.scheme === "hmac" && {
      known: each.header, header: each.header, hash: each.hash, encoding: each.encoding, prefix: each.prefix, signed: each.signed,
      timestamp_header: each.timestamp_header ?? "",
    }),
  }));
}

/** When a scheme ends, which stays to the second unless it was changed. @param {Scheme} typed */
function endOf({ until = "", known_until = "" }) {
  if (until === "") return {};
  return { until: until === toLocal(known_until) ? known_until : toUtc(until) };
}

/** The field of the request. @param {Scheme[]} schemes */
export const signaturesOf = (schemes) => schemes.map((typed) => {
  const { scheme: name, header, hash, encoding, prefix, signed, timestamp_header, secret } = typed;
  const common = { scheme: name, ...endOf(typed) };
  if (name === "standard" || name === "ed25519") return common;
  const key = secret === "" ? {} : { [typed.secret_form === "base64" ? "secret_base64" : "secret"]: secret };
  if (name !== "hmac") return { ...common, ...key };
  return { ...common, header, hash, encoding, prefix, signed, ...(timestamp_header !== "" && { timestamp_header }), ...key };
});

/**
 * @param {{ schemes: Scheme[], onChange: (schemes: Scheme[]) => void, errors: import("../parts/form.js").Wrong[] }} props
 */
export function SignatureFields({ schemes, onChange, errors }) {
  const change = (/** @type {Scheme} */ changed) => onChange(schemes.map((each) => (each.key === changed.key ? changed : each)));
  const remove = (/** @type {Scheme} */ removed) => onChange(schemes.filter((each) => each.key !== removed.key));
  // Both fields of the API are one here.
  const merged = errors.map(({ field, detail }) => ({ field: field.replace(/secret_base64$/, "secret"), detail }));
  return html`<details class="card" open=${areWrong(errors, "signatures")}><summary>${t("endpoint.signatures")}</summary>
    <p class="hint">${t("scheme.hint")}</p>
    <${Faults} name="signatures" errors=${errors} />
    ${schemes.map((each, index) => html`<${SchemeFields} key=${each.key} typed=${each} place=${index} errors=${merged} onChange=${change}
      onRemove=${schemes.length > 1 ? () => remove(each) : null} />`)}
    ${schemes.length < MOST && html`<button type="button" onClick=${() => onChange([...schemes, scheme({ scheme: "ed25519" })])}>
      ${t("scheme.add")}</button>`}
  </details>`;
}

/**
 * @param {{ typed: Scheme, place: number, errors: import("../parts/form.js").Wrong[], onChange: (scheme: Scheme) => void,
 *   onRemove: (() => void) | null }} props
 */
function SchemeFields({ typed, place, errors, onChange, onRemove }) {
  const label = t("scheme.number", { number: place + 1 });
  const field = (/** @type {string} */ name, more = {}) => html`<${Field} name=${`signatures[${place}].${name}`} label=${t(`scheme.${name}`)}
    value=${typed[name]} errors=${errors} onInput=${(/** @type {string} */ value) => onChange({ ...typed, [name]: value })} ...${more} />`;
  const isHmac = typed.scheme === "hmac";
  const header = PRESETS[typed.scheme ?? ""]?.header ?? typed.header;
  const isKnown = Boolean(typed.known) && header?.toLowerCase() === typed.known?.toLowerCase();
  const hasSecret = typed.scheme !== "standard" && typed.scheme !== "ed25519";
  return html`<fieldset><legend>${label}</legend>
    ${field("scheme", {
      options: NAMES.map((name) => [name, t(`scheme.${name}`)]),
      hint: typed.scheme === "ed25519" ? t("scheme.ed25519.hint") : "",
    })}
    ${isHmac && html`${field("header", { placeholder: "X-Signature" })}
      ${field("hash", { options: ["sha256", "sha512", "sha1"].map((name) => [name, name]) })}
      ${field("encoding", { options: ["hex", "base64"].map((name) => [name, name]) })}
      ${field("prefix", { hint: t("scheme.prefix.hint") })}
      ${field("signed", { hint: t("scheme.signed.hint") })}
      ${field("timestamp_header")}`}
    ${hasSecret && html`${field("secret", { type: "password", hint: isKnown ? t("scheme.secret.kept") : "" })}
      <${Field} label=${t("scheme.secret.form")} value=${typed.secret_form}
        options=${["text", "base64"].map((name) => [name, t(`scheme.secret.${name}`)])}
        onInput=${(/** @type {string} */ secret_form) => onChange({ ...typed, secret_form })} />`}
    ${field("until", { type: "datetime-local" })}
    ${onRemove && html`<button type="button" aria-label=${t("remove.which", { which: label })} onClick=${onRemove}>${t("remove")}</button>`}
  </fieldset>`;
}
