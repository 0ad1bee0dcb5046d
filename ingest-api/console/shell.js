// What stands around every page: the head, the menu, the place for the page, and whose times it shows.

import { Problem } from "./api.js";
import { Dead } from "./dead.js";
import { EndpointPage, Endpoints } from "./endpoints.js";
import { EventPage, Events } from "./events.js";
import { Heading } from "./heading.js";
import { html } from "./html.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { whoAmI } from "./me.js";
import { OrganizationPage, Organizations } from "./organizations.js";
import { Overview } from "./overview.js";
import { PortalSettings } from "./portal-settings.js";
import { link, useRoute } from "./route.js";
import { System } from "./system.js";
import { TenantPage, Tenants } from "./tenants.js";
import { t, zone } from "./texts.js";
import { Failure } from "./ui.js";
import { Usage } from "./usage.js";

/** @typedef {import("./vendor/preact.js").ComponentChildren} Children */

/** The pages that this session has. */
function pages() {
  const { kind, tenant } = whoAmI();
  if (kind === "admin") return ["organizations", "usage", "system"];
  const common = ["overview", "events", "live", "endpoints", "dead"];
  if (kind === "portal") return common;
  return tenant === null ? [...common, "tenants", "usage", "keys", "portal"] : [...common, "usage", "keys"];
}

/** @param {import("./route.js").Route} route */
function pageOf({ parts, query }) {
  const names = pages();
  const [name = names[0], id] = parts[0] ? parts : [names[0]];
  if (!name || !names.includes(name)) {
    return html`<${Heading} title=${t("page.missing")} /><${Failure} problem=${new Problem(404, "")} />`;
  }
  switch (name) {
    case "events":
      return id ? html`<${EventPage} key=${id} id=${id} />` : html`<${Events} params=${query} />`;
    case "endpoints":
      return id ? html`<${EndpointPage} key=${id} id=${id} params=${query} />` : html`<${Endpoints} params=${query} />`;
    case "live":
      return html`<${Live} params=${query} />`;
    case "dead":
      return html`<${Dead} />`;
    case "system":
      return html`<${System} />`;
    case "tenants":
      return id ? html`<${TenantPage} key=${id} uid=${id} />` : html`<${Tenants} params=${query} />`;
    case "usage":
      return html`<${Usage} params=${query} />`;
    case "keys":
      return html`<${Keys} path="/v1/keys" place="#/keys" params=${query} />`;
    case "portal":
      return html`<${PortalSettings} />`;
    case "organizations":
      return id ? html`<${OrganizationPage} key=${id} id=${id} params=${query} />` : html`<${Organizations} params=${query} />`;
    default:
      return html`<${Overview} params=${query} />`;
  }
}

/** @param {{ title: string, logo?: string | null, aside?: Children }} props */
export function Shell({ title, logo, aside }) {
  const route = useRoute();
  const present = route.parts[0] || pages()[0];
  const skip = (/** @type {Event} */ event) => {
    event.preventDefault();
    document.getElementById("main")?.focus();
  };
  return html`<a class="skip" href="#main" onClick=${skip}>${t("skip")}</a>
    <header class="head">
      <span class="brand">${logo && html`<img class="logo" src=${logo} alt="" />`}${title}</span>
      <nav aria-label=${t("nav.label")}>${pages().map(
        (name) => html`<a href=${link(name)} aria-current=${name === present ? "page" : undefined}>${t(`nav.${name}`)}</a>`,
      )}</nav>
      <span class="aside">${aside}</span>
    </header>
    <main id="main" tabindex="-1">${pageOf(route)}</main>
    <footer class="foot quiet">${t("zone", { zone })}</footer>`;
}
