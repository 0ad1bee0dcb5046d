// What stands around every page: the head, the menu, the place for the page, and whose times it shows.

import { Problem } from "./api/api.js";
import { whoAmI } from "./api/me.js";
import { EndpointPage, Endpoints } from "./endpoints/endpoints.js";
import { Dead } from "./pages/dead.js";
import { EventPage, Events } from "./pages/events.js";
import { Keys } from "./pages/keys.js";
import { Live } from "./pages/live.js";
import { OrganizationPage, Organizations } from "./pages/organizations.js";
import { Overview } from "./pages/overview.js";
import { PortalSettings } from "./pages/portal-settings.js";
import { System } from "./pages/system.js";
import { TenantPage, Tenants } from "./pages/tenants.js";
import { Usage } from "./pages/usage.js";
import { Heading } from "./parts/heading.js";
import { html } from "./parts/html.js";
import { Failure } from "./parts/ui.js";
import { link, useRoute } from "./route.js";
import { t, zone } from "./texts.js";

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
