// The console: for the platform's own people, with an API key or an admin token.

import { Problem, call, onSessionOver } from "./api/api.js";
import { setMe } from "./api/me.js";
import { Field, Form } from "./parts/form.js";
import { Heading, setSite } from "./parts/heading.js";
import { html } from "./parts/html.js";
import { Action, Failure, Loading } from "./parts/ui.js";
import { Shell } from "./shell.js";
import { language, t } from "./texts.js";
import { useEffect, useState } from "./vendor/hooks.js";
import { render } from "./vendor/preact.js";

const SESSION = "/console/session";

const SITE = "Penstock";

/** Names of this machine. */
const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

/**
 * The credential of a link that signs in, which works on this machine only: elsewhere a link could sign someone in as
 * somebody else.
 */
function takeCredential() {
  const credential = new URLSearchParams(location.hash.slice(1)).get("sign-in");
  if (credential === null) return null;
  history.replaceState(null, "", location.pathname);
  return LOOPBACK.includes(location.hostname) ? credential : null;
}

/** @param {any} session */
function enter(session) {
  setMe({
    kind: session.kind,
    tenant: session.tenant ?? null,
    scopes: session.scopes ?? [],
    capabilities: [],
    event_types: [],
    mayChange: session.may_change ?? true,
  });
}

function Console() {
  const [state, setState] = useState(/** @type {"unknown" | "out" | "over" | "in"} */ ("unknown"));
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const look = async () => {
    setProblem(null);
    const credential = takeCredential();
    try {
      const { body } = credential ? await call("POST", SESSION, { credential }) : await call("GET", SESSION);
      enter(body);
      setState("in");
    } catch (error) {
      if (error instanceof Problem && error.status === 401) setState("out");
      else setProblem(error);
    }
  };
  useEffect(() => {
    // Whoever has signed out knows: a request that was on its way then has nothing to add.
    onSessionOver(() => setState((now) => (now === "in" ? "over" : now)));
    look();
  }, []);
  const leave = async () => {
    await call("DELETE", SESSION);
    setState("out");
  };
  const signedIn = (/** @type {any} */ session) => {
    enter(session);
    setState("in");
  };
  if (problem) return html`<main class="alone"><${Failure} problem=${problem} retry=${look} /></main>`;
  if (state === "unknown") return html`<main class="alone"><${Loading} /></main>`;
  if (state !== "in") return html`<${SignIn} isOver=${state === "over"} onDone=${signedIn} />`;
  return html`<${Shell} title=${SITE} aside=${html`<${Action} kind="plain" onClick=${leave}>${t("sign.out")}<//>`} />`;
}

/** @param {{ isOver: boolean, onDone: (session: any) => void }} props */
function SignIn({ isOver, onDone }) {
  const [credential, setCredential] = useState("");
  const submit = async () => {
    try {
      onDone((await call("POST", SESSION, { credential })).body);
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        throw new Problem(422, t("sign.wrong"), [{ field: "credential", detail: t("sign.wrong") }]);
      }
      throw error;
    }
  };
  return html`<main class="alone" id="main">
    <${Heading} title=${t("sign.in")} takesFocus>${t("sign.title")}<//>
    ${isOver && html`<p role="status">${t("sign.over")}</p>`}
    ${!isSecureContext && html`<p class="failure" role="alert">${t("sign.insecure")}</p>`}
    <${Form} label=${t("sign.in")} onSubmit=${submit}>${(/** @type {any[]} */ errors) => html`
      <${Field} name="credential" label=${t("sign.credential")} type="password" required value=${credential} onInput=${setCredential}
        hint=${t("sign.hint")} errors=${errors} />`}<//>
  </main>`;
}

document.documentElement.lang = language;
setSite(SITE);
const page = document.getElementById("page");
if (page) render(html`<${Console} />`, page);
