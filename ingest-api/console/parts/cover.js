// What hides a page for a while and leaves it as it is, with all that was typed.

import { useLayoutEffect, useRef } from "../vendor/hooks.js";
import { html } from "./html.js";

/** @typedef {import("./ui.js").Children} Children */

/**
 * Its children, hidden while they are covered. Open dialogs are put away meanwhile, because nothing else could be used.
 * @param {{ isCovered: boolean, children?: Children }} props
 */
export function Covered({ isCovered, children }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const away = useRef(/** @type {HTMLDialogElement[]} */ ([]));
  const focused = useRef(/** @type {HTMLElement | null} */ (null));
  const bringBack = () => {
    const there = away.current.filter((dialog) => dialog.isConnected);
    away.current = [];
    for (const dialog of there) dialog.showModal();
    focused.current?.focus();
    focused.current = null;
  };
  useLayoutEffect(() => {
    if (isCovered) {
      const active = document.activeElement;
      if (active instanceof HTMLElement && place.current?.contains(active)) focused.current = active;
      const dialogs = Array.from(place.current?.querySelectorAll("dialog") ?? []);
      away.current.push(...dialogs.filter((dialog) => dialog.open));
      for (const dialog of dialogs) dialog.close();
      return;
    }
    // In a frame it does not take the focus from the page around it.
    if (document.hasFocus()) return bringBack();
    addEventListener("focus", bringBack, { once: true });
    return () => removeEventListener("focus", bringBack);
  }, [isCovered]);
  return html`<div ref=${place} hidden=${isCovered}>${children}</div>`;
}

/** Whether a dialog was closed by being put away, or is back. @param {HTMLDialogElement | null} dialog */
export const isPutAway = (dialog) => dialog !== null && (dialog.open || dialog.closest("[hidden]") !== null);
