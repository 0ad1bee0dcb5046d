// What receivers verify `v1a` signatures with.

import { call, part } from "../api/api.js";
import { may } from "../api/me.js";
import { Dangerous } from "../parts/dialog.js";
import { html } from "../parts/html.js";
import { Copy, Loaded, Time, useLoad } from "../parts/ui.js";
import { t } from "../texts.js";

/** @param {{ id: string }} props of an endpoint that signs with `ed25519` */
export function PublicKey({ id }) {
  const path = `/v1/endpoints/${part(id)}`;
  const load = useLoad(`${path}/public-key`);
  const rotate = async () => {
    await call("POST", `${path}/rotate-key`);
    await load.reload();
  };
  return html`<section class="card"><h2>${t("endpoint.public.key")}</h2>
    <${Loaded} load=${load}>${(/** @type {any} */ key) => html`
      <div><code>${key.public_key}</code> <${Copy} text=${key.public_key} /></div>
      ${key.previous_public_key && html`<p class="quiet">${t("endpoint.public.key.before")} <${Time} at=${key.previous_expires_at} />:
        <code>${key.previous_public_key}</code></p>`}`}<//>
    ${may("manage_endpoints") && html`<${Dangerous} label=${t("endpoint.rotate.key")} title=${t("endpoint.rotate.key")}
      lost=${t("endpoint.rotate.key.lost")} onConfirm=${rotate} />`}
  </section>`;
}
