// The portal: for one tenant's people, embedded in the platform's own page. Its token comes in the fragment, which no server
// sees, and then stays in this page's memory. When it is over, the embedding page is asked for another one, and what is open stays as
// it is behind a cover. If that is refused, no more are asked for: an embedding page that gives a dead token may have no other.

import { Problem, call, onSessionOver, useToken } from "./api/api.js";
import { setMe } from "./api/me.js";
import { renewed } from "./api/renewal.js";
import { Covered } from "./parts/cover.js";
import { Heading, setSite } from "./parts/heading.js";
import { html } from "./parts/html.js";
import { Failure, Loading } from "./parts/ui.js";
import { Shell } from "./shell.js";
import { language, t } from "./texts.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { render } from "./vendor/preact.js";

/** The pages that may embed this one, as the server named them. Nobody else is asked or heard. */
const ORIGINS = (document.querySelector("meta[name=portal-origins]")?.getAttribute("content") ?? "").split(" ").filter(Boolean);

/** Whether there is a page that may give another token. */
const IS_EMBEDDED = parent !== window && ORIGINS.length > 0;

const SESSION = "/v1/portal/session";

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

/** @typedef {{ token: string | null, isRenewed: boolean }} Given a token, and whether the embedding page gave it */

function Portal() {
  const [session, setSession] = useState(/** @type {any} */ (null));
  const [state, setState] = useState(/** @type {"in" | "over" | "refused"} */ ("in"));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const last = useRef(/** @type {Given} */ ({ token: null, isRenewed: false }));
  const isOver = useRef(false);
  const begin = async (/** @type {Given} */ given) => {
    last.current = given;
    setProblem(null);
    if (given.token === null) return over();
    useToken(given.token);
    try {
      const { body } = await call("GET", SESSION);
      if (last.current !== given) return;
      setMe({ kind: "portal", tenant: body.tenant, capabilities: body.capabilities, scopes: [], event_types: body.event_types, mayChange: true });
      dress(body.portal);
      setSession(body);
      isOver.current = false;
      setState("in");
      renewed();
    } catch (error) {
      if (last.current !== given) return;
      if (!(error instanceof Problem && error.status === 401)) setProblem(error);
      else if (given.isRenewed) setState("refused");
      else over();
    }
  };
  const ask = () => {
    setState("over");
    askForToken();
  };
  // Several requests may find out.
  const over = () => {
    if (isOver.current) return;
    isOver.current = true;
    ask();
  };
  useEffect(() => {
    onSessionOver(over);
    const hear = (/** @type {MessageEvent} */ event) => {
      const { type, token } = event.data ?? {};
      if (event.source === parent && ORIGINS.includes(event.origin) && type === "penstock:token" && typeof token === "string") {
        begin({ token, isRenewed: true });
      }
    };
    addEventListener("message", hear);
    begin({ token: takeToken(), isRenewed: false });
    return () => removeEventListener("message", hear);
  }, []);
  useEffect(() => {
    if (!session || state !== "in") return;
    const rest = new Date(session.expires_at).getTime() - Date.now();
    // It was valid just now, so the clock here is wrong. The API tells when the session is over.
    if (rest <= 0) return;
    const timer = setTimeout(over, rest);
    return () => clearTimeout(timer);
  }, [session, state]);
  /** What stands in the place of the pages; null when nothing does. */
  const cover = problem
    ? html`<main class="alone"><${Failure} problem=${problem} retry=${() => begin(last.current)} /></main>`
    : state !== "in"
      ? html`<${Over} isRefused=${state === "refused"} onAsk=${ask} returnUrl=${session?.return_url} />`
      : session
        ? null
        : html`<main class="alone"><${Loading} /></main>`;
  const isKept = session && (cover === null || IS_EMBEDDED);
  return html`${isKept && html`<${Covered} key=${session.tenant} isCovered=${cover !== null}><${Pages} session=${session} /><//>`}
    ${cover}`;
}

/** The pages of a session. @param {{ session: any }} props */
function Pages({ session }) {
  const back = session.return_url && html`<a href=${session.return_url} target="_top">${t("portal.back")}</a>`;
  return html`<${Shell} title=${session.portal.name || t("portal.title")} logo=${session.portal.logo} aside=${back} />`;
}

/** @param {{ isRefused: boolean, onAsk: () => void, returnUrl?: string | null }} props */
function Over({ isRefused, onAsk, returnUrl }) {
  const advice = isRefused ? "portal.refused" : IS_EMBEDDED ? "portal.renewing" : "portal.reopen";
  return html`<main class="alone">
    <${Heading} title=${t("portal.over")} takesFocus />
    <p role="status">${t(advice)}</p>
    <div class="buttons">
      ${IS_EMBEDDED && html`<button type="button" class="main" onClick=${onAsk}>${t("portal.renew")}</button>`}
      ${returnUrl && html`<a href=${returnUrl} target="_top">${t("portal.back")}</a>`}
    </div>
  </main>`;
}

document.documentElement.lang = language;
setSite(t("portal.title"));
const page = document.getElementById("page");
if (page) render(html`<${Portal} />`, page);
