// The heading of a page. It also names the page in the browser's tab, and has the focus when the page has come.

import { useLayoutEffect, useRef } from "../vendor/hooks.js";
import { html } from "./html.js";

/** What all pages are part of. */
let site = "";

/** @param {string} name */
export function setSite(name) {
  site = name;
}

/**
 * @param {{ title: string, takesFocus?: boolean, children?: import("./ui.js").Children }} props `title` is its text unless there are
 *   children; `takesFocus` where it comes in the place of what had the focus
 */
export function Heading({ title, takesFocus = false, children }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => {
    const before = document.title;
    document.title = `${title} – ${site}`;
    // The page that it has covered has its name again.
    return () => {
      document.title = before;
    };
  }, [title, site]);
  useLayoutEffect(() => {
    // In a frame it does not take the focus from the page around it.
    if (takesFocus && document.hasFocus()) heading.current?.focus();
  }, []);
  return html`<h1 ref=${heading} tabindex="-1">${children ?? title}</h1>`;
}
