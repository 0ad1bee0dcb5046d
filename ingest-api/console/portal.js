// The portal: for one tenant's people, embedded in the platform's own page. Its token comes in the fragment, which no server
// sees, and then stays in this page's memory. When it is over, the embedding page is asked for another one.

import { Problem, call, onSessionOver, useToken } from "./api.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { Heading, setSite } from "./heading.js";
import { html } from "./html.js";
import { setMe } from "./me.js";
import { render } from "./vendor/preact.js";
import { Shell } from "./shell.js";
import { language, t } from "./texts.js";
import { Failure, Loading } from "./ui.js";

/** The pages that may embed this one, as the server named them. Nobody else is asked or heard. */
const ORIGINS = (document.querySelector("meta[name=portal-origins]")?.getAttribute("content") ?? "").split(" ").filter(Boolean);

/** Takes the token out of the address, so that it is neither shown nor kept in the history. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname);
  return token;
}

/** Asks the embedding page for another token: `{ type: "penstock:renew" }`, answered by `{ type: "penstock:token", token }`. */
function askForToken() {
  if (parent === window) return;
  for (const origin of ORIGINS) parent.postMessage({ type: "penstock:renew" }, origin);
}

/** @param {any} portal */
function dress(portal) {
  const { style } = document.documentElement;
  for (const name of ["primary", "accent", "dark_primary", "dark_accent"]) {
    const color = portal[`${name}_color`];
    if (color) {
      style.setProperty(`--${name.replace("_", "-")}`, color);
      style.setProperty(`--on-${name.replace("_", "-")}`, isLight(color) ? "#000" : "#fff");
    }
  }
  setSite(portal.name || t("portal.title"));
}

/** Whether black can be read on a colour better than white. @param {string} color */
function isLight(color) {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179;
}

function Portal() {
  const [session, setSession] = useState(/** @type {any} */ (null));
  const [isOver, setOver] = useState(false);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const last = useRef(/** @type {string | null} */ (null));
  const begin = async (/** @type {string | null} */ token) => {
    last.current = token;
    setProblem(null);
    if (token === null) return over();
    useToken(token);
    try {
      const { body } = await call("GET", "/v1/portal/session");
      setMe({ kind: "portal", tenant: body.tenant, capabilities: body.capabilities, scopes: [], event_types: body.event_types, mayChange: true });
      dress(body.portal);
      setSession(body);
      setOver(false);
    } catch (error) {
      if (!(error instanceof Problem && error.status === 401)) setProblem(error);
    }
  };
  const over = () => {
    setOver(true);
    askForToken();
  };
  useEffect(() => {
    onSessionOver(over);
    const hear = (/** @type {MessageEvent} */ event) => {
      const { type, token } = event.data ?? {};
      if (event.source === parent && ORIGINS.includes(event.origin) && type === "penstock:token" && typeof token === "string") {
        begin(token);
      }
    };
    addEventListener("message", hear);
    begin(takeToken());
    return () => removeEventListener("message", hear);
  }, []);
  useEffect(() => {
    if (!session || isOver) return;
    const rest = new Date(session.expires_at).getTime() - Date.now();
    // It was valid just now, so the clock here is wrong. The API tells when the session is over.
    if (rest <= 0) return;
    const timer = setTimeout(over, rest);
    return () => clearTimeout(timer);
  }, [session, isOver]);
  if (isOver) return html`<${Over} returnUrl=${session?.return_url} />`;
  if (problem) return html`<main class="alone"><${Failure} problem=${problem} retry=${() => begin(last.current)} /></main>`;
  if (!session) return html`<main class="alone"><${Loading} /></main>`;
  const back = session.return_url && html`<a href=${session.return_url} target="_top">${t("portal.back")}</a>`;
  return html`<${Shell} title=${session.portal.name || t("portal.title")} logo=${session.portal.logo} aside=${back} />`;
}

/** @param {{ returnUrl?: string | null }} props */
function Over({ returnUrl }) {
  const isEmbedded = parent !== window && ORIGINS.length > 0;
  return html`<main class="alone" id="main">
    <${Heading} title=${t("portal.over")} takesFocus />
    <p role="status">${isEmbedded ? t("portal.renewing") : t("portal.reopen")}</p>
    <div class="buttons">
      ${isEmbedded && html`<button type="button" class="main" onClick=${askForToken}>${t("portal.renew")}</button>`}
      ${returnUrl && html`<a href=${returnUrl} target="_top">${t("portal.back")}</a>`}
    </div>
  </main>`;
}

document.documentElement.lang = language;
setSite(t("portal.title"));
const page = document.getElementById("page");
if (page) render(html`<${Portal} />`, page);
