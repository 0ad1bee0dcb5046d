// What the organisation's portal looks like, and which pages may embed it.

import { call } from "../api/api.js";
import { Field, Form } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Loaded, useLoad } from "../parts/ui.js";
import { t } from "../texts.js";
import { useState } from "../vendor/hooks.js";

const COLORS = ["primary_color", "accent_color", "dark_primary_color", "dark_accent_color"];

export function PortalSettings() {
  const load = useLoad("/v1/portal");
  return html`<${Heading} title=${t("nav.portal")} />
    <${Loaded} load=${load}>${(/** @type {any} */ settings) => html`<${SettingsForm} settings=${settings} />`}<//>`;
}

/** @param {File} file @returns {Promise<string>} */
const read = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

/** @param {{ settings: any }} props */
function SettingsForm({ settings }) {
  const [typed, setTyped] = useState({ ...settings, origins: settings.origins.join("\n") });
  const [saved, setSaved] = useState(false);
  const set = (/** @type {object} */ change) => {
    setSaved(false);
    setTyped((/** @type {any} */ old) => ({ ...old, ...change }));
  };
  const submit = async () => {
    const origins = typed.origins.split("\n").map((/** @type {string} */ line) => line.trim()).filter(Boolean);
    const colors = Object.fromEntries(COLORS.map((name) => [name, typed[name] || null]));
    await call("PUT", "/v1/portal", { ...typed, ...colors, origins });
    setSaved(true);
  };
  const choose = async (/** @type {any} */ event) => {
    const [file] = event.currentTarget.files;
    if (file) set({ logo: await read(file) });
  };
  return html`<${Form} label=${t("save")} onSubmit=${submit}>${(/** @type {any[]} */ errors) => html`
    <${Field} name="name" label=${t("portal.name")} value=${typed.name} onInput=${(/** @type {string} */ name) => set({ name })} errors=${errors} />
    <${Field} name="origins" label=${t("portal.origins")} lines=${3} placeholder="https://app.example.com" value=${typed.origins}
      onInput=${(/** @type {string} */ origins) => set({ origins })} errors=${errors} />
    <div class="field"><label for="logo">${t("portal.logo")}</label>
      <input id="logo" type="file" accept="image/svg+xml,image/png" onChange=${choose} />
      ${typed.logo && html`<img class="logo" src=${typed.logo} alt="" />
        <button type="button" onClick=${() => set({ logo: null })}>${t("portal.logo.remove")}</button>`}
      ${errors.filter(({ field }) => field === "logo").map(({ detail }) => html`<p class="wrong">${detail}</p>`)}</div>
    ${COLORS.map((name) => html`<${Field} name=${name} label=${t(`portal.${name}`)} placeholder="#1f6feb" value=${typed[name] ?? ""}
      onInput=${(/** @type {string} */ color) => set({ [name]: color })} errors=${errors} />`)}
    <div role="status">${saved && html`<p>${t("portal.saved")}</p>`}</div>`}<//>`;
}
