// What an event's webhook is signed over, and whether a pasted signature is right. The secret stays in the browser.

import { Field } from "../parts/form.js";
import { html } from "../parts/html.js";
import { member } from "../parts/raw.js";
import { Action, Copy } from "../parts/ui.js";
import { t, unixSeconds } from "../texts.js";
import { useEffect, useState } from "../vendor/hooks.js";

/**
 * The body in the form `standard`, as endpoints get it.
 * @param {any} event
 * @param {string} text the answer in which the event came
 */
function bodyOf(event, text) {
  const head = JSON.stringify({ id: event.id, type: event.type, timestamp: event.accepted_at });
  const data =
    event.data_base64 === undefined
      ? `"data":${member(text, "data") ?? "null"}`
      : `"content_type":${JSON.stringify(event.content_type)},"data_base64":${JSON.stringify(event.data_base64)}`;
  return `${head.slice(0, -1)},${data}}`;
}

/** @param {string} text in base64 */
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/**
 * @param {string} base what was signed
 * @param {string} secret `whsec_…`, or the public key `whpk_…`
 * @param {string} signature an entry such as `v1,…`
 * @returns {Promise<boolean>}
 */
async function isRight(base, secret, signature) {
  const [version = "", sent = ""] = signature.split(",");
  const signed = new TextEncoder().encode(base);
  if (version === "v1" && secret.startsWith("whsec_")) {
    const key = await crypto.subtle.importKey("raw", bytes(secret.slice(6)), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    return crypto.subtle.verify("HMAC", key, bytes(sent), signed);
  }
  if (version === "v1a" && secret.startsWith("whpk_")) {
    const key = await crypto.subtle.importKey("raw", bytes(secret.slice(5)), "Ed25519", false, ["verify"]);
    return crypto.subtle.verify("Ed25519", key, bytes(sent), signed);
  }
  return false;
}

/** @param {{ event: any, text: string }} props */
export function SignatureCheck({ event, text }) {
  const first = event.deliveries.flatMap((/** @type {any} */ delivery) => delivery.attempt_log ?? [])[0];
  const [body, setBody] = useState(() => bodyOf(event, text));
  const [timestamp, setTimestamp] = useState("");
  const [secret, setSecret] = useState("");
  const [signature, setSignature] = useState("");
  const [result, setResult] = useState(/** @type {"right" | "wrong" | null} */ (null));
  // The first attempt may come while the page is open. What was typed stays.
  useEffect(() => {
    if (first) setTimestamp((now) => now || String(unixSeconds(first.started_at)));
  }, [first?.started_at]);
  const base = `${event.id}.${timestamp}.${body}`;
  const changed = (/** @type {(value: string) => void} */ set) => (/** @type {string} */ value) => {
    set(value);
    setResult(null);
  };
  const check = async () => {
    const entries = signature.trim().split(/\s+/);
    const right = await Promise.all(entries.map((entry) => isRight(base, secret.trim(), entry).catch(() => false)));
    setResult(right.includes(true) ? "right" : "wrong");
  };
  return html`<details class="card"><summary>${t("signature.title")}</summary>
    <p class="quiet">${t("signature.hint")}</p>
    <${Field} label="webhook-timestamp" value=${timestamp} onInput=${changed(setTimestamp)} />
    <${Field} label=${t("signature.body")} lines=${4} value=${body} onInput=${changed(setBody)} />
    <h3>${t("signature.base")}</h3>
    <pre tabindex="0" class="base">${base}</pre>
    <div class="buttons"><${Copy} text=${base} /></div>
    <${Field} label=${t("signature.secret")} type="password" value=${secret} onInput=${changed(setSecret)} placeholder="whsec_…" />
    <${Field} label="webhook-signature" value=${signature} onInput=${changed(setSignature)} placeholder="v1,…" />
    <${Action} kind="main" disabled=${!secret || !signature || !timestamp} onClick=${check}>${t("signature.check")}<//>
    <div role="status">${result && html`<p class=${result === "right" ? "right" : "wrong"}>${t(`signature.${result}`)}</p>`}</div>
  </details>`;
}
