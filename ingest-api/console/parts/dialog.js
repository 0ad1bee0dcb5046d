// Dialogs: of anything, of what cannot be taken back, and of a secret.

import { t } from "../texts.js";
import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { isPutAway } from "./cover.js";
import { Field } from "./form.js";
import { html } from "./html.js";
import { Action, Copy } from "./ui.js";

/** @typedef {import("./ui.js").Children} Children */

/**
 * A dialog. It has the focus until it is gone, and Escape closes it.
 * @param {{ title: string, onClose: () => void, children?: Children }} props
 */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const isGone = useRef(false);
  useEffect(() => dialog.current?.showModal(), []);
  // If it were removed while it is open, nothing would have the focus afterwards.
  useLayoutEffect(() => () => {
    isGone.current = true;
    dialog.current?.close();
  }, []);
  // Nobody has closed what was removed, or put away for a while.
  const closed = () => {
    if (!isGone.current && !isPutAway(dialog.current)) onClose();
  };
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${closed}>
    <header><h2 id="dialog-title">${title}</h2>
      <button type="button" class="plain" aria-label=${t("close")} onClick=${() => dialog.current?.close()}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

/**
 * A button whose work cannot be taken back: it asks first, and says what is lost.
 * @param {{ label: string, title: string, lost: string, word?: string, onConfirm: () => Promise<unknown> }} props
 */
export function Dangerous({ label, title, lost, word, onConfirm }) {
  const [asks, setAsks] = useState(false);
  const [typed, setTyped] = useState("");
  const close = () => {
    setAsks(false);
    setTyped("");
  };
  const confirm = async () => {
    await onConfirm();
    close();
  };
  return html`<button type="button" class="danger" onClick=${() => setAsks(true)}>${label}</button>
    ${asks &&
    html`<${Dialog} title=${title} onClose=${close}>
      <p>${lost}</p>
      ${word && html`<${Field} label=${t("type.to.confirm", { word })} value=${typed} onInput=${setTyped} />`}
      <div class="buttons">
        <${Action} kind="danger" disabled=${Boolean(word) && typed !== word} onClick=${confirm}>${label}<//>
        <button type="button" onClick=${close}>${t("cancel")}</button>
      </div>
    <//>`}`;
}

/**
 * A secret that is shown this once.
 * @param {{ label: string, text: string, onClose: () => void }} props
 */
export function Secret({ label, text, onClose }) {
  return html`<${Dialog} title=${label} onClose=${onClose}>
    <p>${t("shown.once")}</p>
    <p><code class="secret">${text}</code></p>
    <${Copy} text=${text} />
  <//>`;
}
