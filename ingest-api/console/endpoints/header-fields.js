// Further headers of an endpoint's requests, in its form. The API tells their names only: a value stays unless another is typed.

import { Problem } from "../api/api.js";
import { Faults, Field } from "../parts/form.js";
import { html } from "../parts/html.js";
import { t } from "../texts.js";

/** @typedef {{ key: number, name: string, value: string, isKnown: boolean, isRemoved: boolean }} Header */

/** Most headers of an endpoint. */
const MOST = 20;

let keys = 0;

/** @param {string} name @param {boolean} isKnown @returns {Header} */
const header = (name, isKnown) => ({ key: (keys += 1), name, value: "", isKnown, isRemoved: false });

/** What stands in the form. @param {any} endpoint @returns {Header[]} */
export const writtenHeaders = (endpoint) => (endpoint?.header_names ?? []).map((/** @type {string} */ name) => header(name, true));

/** The field of the request: only what changes. @param {Header[]} headers */
export function headersOf(headers) {
  const changed = headers.filter(({ name, value, isKnown, isRemoved }) => (isKnown ? isRemoved || value !== "" : name !== "" || value !== ""));
  if (changed.length === 0) return undefined;
  const changes = changed.map(({ name, value, isRemoved }) => [name.trim(), isRemoved ? null : value]);
  const names = new Set();
  for (const [name = ""] of changes) {
    const lower = name?.toLowerCase();
    if (names.has(lower)) {
      const detail = t("headers.repeated", { name: JSON.stringify(name) });
      throw new Problem(422, detail, [{ field: "headers", detail }]);
    }
    names.add(lower);
  }
  return Object.fromEntries(changes);
}

/**
 * @param {{ headers: Header[], onChange: (headers: Header[]) => void, errors: import("../parts/form.js").Wrong[] }} props
 */
export function HeaderFields({ headers, onChange, errors }) {
  const change = (/** @type {Header} */ changed) => onChange(headers.map((each) => (each.key === changed.key ? changed : each)));
  const remove = (/** @type {Header} */ removed) => onChange(headers.filter((each) => each.key !== removed.key));
  // The API says of all headers which one is wrong.
  const errorsOf = (/** @type {Header} */ each) => errors.filter(
    ({ field, detail }) => field === "headers" && detail.includes(JSON.stringify(each.name.trim())),
  );
  const told = headers.flatMap(errorsOf);
  return html`<fieldset><legend>${t("endpoint.headers")}</legend>
    <p class="hint">${t("headers.hint")}</p>
    <${Faults} name="headers" errors=${errors.filter((error) => !told.includes(error))} />
    ${headers.map((each) => html`<${HeaderField} key=${each.key} header=${each} errors=${errorsOf(each)} onChange=${change}
      onRemove=${() => (each.isKnown ? change({ ...each, value: "", isRemoved: true }) : remove(each))} />`)}
    ${headers.length < MOST && html`<button type="button" onClick=${() => onChange([...headers, header("", false)])}>${t("headers.add")}</button>`}
  </fieldset>`;
}

/**
 * @param {{ header: Header, errors: import("../parts/form.js").Wrong[], onChange: (header: Header) => void, onRemove: () => void }} props
 */
function HeaderField({ header, errors, onChange, onRemove }) {
  const { name, value, isKnown, isRemoved } = header;
  if (isRemoved) {
    return html`<p>${t("headers.removed", { name })}
      <button type="button" onClick=${() => onChange({ ...header, isRemoved: false })}>${t("headers.keep", { name })}</button></p>`;
  }
  return html`<div class="row">
    ${!isKnown && html`<${Field} name="headers" label=${t("headers.name")} value=${name} errors=${errors} placeholder="X-Shop"
      onInput=${(/** @type {string} */ next) => onChange({ ...header, name: next })} />`}
    <${Field} name="headers" label=${isKnown ? t("headers.value.of", { name }) : t("headers.value")} value=${value}
      errors=${isKnown ? errors : []} onInput=${(/** @type {string} */ next) => onChange({ ...header, value: next })} />
    <button type="button" aria-label=${t("remove.which", { which: name || t("headers.name") })} onClick=${onRemove}>${t("remove")}</button>
  </div>`;
}
