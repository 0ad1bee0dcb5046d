// What an endpoint's requests show besides their signature, in its form. The API does not tell what is secret in it: what is there
// stays, or is replaced, or removed.

import { Field, areWrong } from "../parts/form.js";
import { html } from "../parts/html.js";
import { t } from "../texts.js";

/** @typedef {Record<string, string>} Typed */

/** The fields of each kind, and how they are put in. @type {Record<string, [string, object][]>} */
const KINDS = {
  basic: [["username", {}], ["password", { type: "password" }]],
  bearer: [["token", { type: "password" }]],
  oauth2_client_credentials: [
    ["token_url", { placeholder: "https://…" }], ["client_id", {}], ["client_secret", { type: "password" }], ["scope", {}],
    ["audience", {}], ["client_auth", {}],
  ],
  mtls: [["certificate", { lines: 4 }], ["key", { lines: 4 }], ["ca", { lines: 3 }]],
};

/** Fields that are left out when they are empty. */
const OPTIONAL = ["scope", "audience", "ca"];

/** What stands in the form. @param {any} endpoint @returns {Typed} */
export function writtenAuth(endpoint) {
  const { token_url = "", client_id = "", scope = "", audience = "", client_auth = "basic" } = endpoint?.auth ?? {};
  return { choice: endpoint?.auth ? "keep" : "none", token_url, client_id, scope, audience, client_auth };
}

/** The field of the request; undefined leaves what is there. @param {Typed} typed @param {any} endpoint */
export function authOf(typed, endpoint) {
  const { choice = "keep" } = typed;
  if (choice === "keep") return undefined;
  if (choice === "none") return endpoint?.auth ? null : undefined;
  const fields = (KINDS[choice] ?? []).map(([name]) => [name, typed[name] ?? ""]);
  return { kind: choice, ...Object.fromEntries(fields.filter(([name = "", value]) => value !== "" || !OPTIONAL.includes(name))) };
}

/**
 * @param {{ endpoint: any, typed: Typed, onChange: (typed: Typed) => void, errors: import("../parts/form.js").Wrong[] }} props
 */
export function AuthFields({ endpoint, typed, onChange, errors }) {
  const { choice = "keep" } = typed;
  const places = ["basic", "body"].map((place) => [place, t(`client_auth.${place}`)]);
  const field = (/** @type {string} */ name, /** @type {object} */ more) => html`<${Field} key=${name} name=${`auth.${name}`}
    label=${t(`auth.${name}`)} value=${typed[name] ?? ""} errors=${errors}
    onInput=${(/** @type {string} */ value) => onChange({ ...typed, [name]: value })} ...${name === "client_auth" ? { options: places } : more} />`;
  const kept = endpoint?.auth ? [["keep", t("auth.keep", { kind: t(`auth.${endpoint.auth.kind}`) })]] : [];
  // What is wrong with all of it is told at the choice.
  const ofChoice = errors.map(({ field, detail }) => ({ field: field === "auth" ? "auth.kind" : field, detail }));
  return html`<details class="card" open=${areWrong(errors, "auth")}><summary>${t("endpoint.auth")}</summary>
    <${Field} name="auth.kind" label=${t("auth.choice")} value=${choice} errors=${ofChoice} hint=${hintOf(choice, endpoint)}
      options=${[...kept, ["none", t("auth.none")], ...Object.keys(KINDS).map((kind) => [kind, t(`auth.${kind}`)])]}
      onInput=${(/** @type {string} */ next) => onChange({ ...typed, choice: next })} />
    ${(KINDS[choice] ?? []).map(([name, more]) => field(name, more))}
  </details>`;
}

/** @param {string} choice @param {any} endpoint */
function hintOf(choice, endpoint) {
  if (!endpoint?.auth) return "";
  return t(choice === "none" ? "auth.removed" : "auth.hint");
}
