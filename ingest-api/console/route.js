// Where in the pages someone is: `#/events/{id}?type=order.created`. It can be shared and survives a reload.

import { useLayoutEffect, useRef, useState } from "./vendor/hooks.js";

/** @typedef {{ hash: string, parts: string[], query: URLSearchParams }} Route */

/** The address to which one went without leaving what one was at. @type {string | null} */
let stayedAt = null;

/** @returns {Route} */
function read() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { hash: location.hash, parts: path.split("/").map(decode), query: new URLSearchParams(query) };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The present place. The component is drawn again when it changes, and the heading of what comes has the focus, unless one stays.
 * @returns {Route}
 */
export function useRoute() {
  const [route, setRoute] = useState(read);
  const isFirst = useRef(true);
  useLayoutEffect(() => {
    if (!isFirst.current && location.hash !== stayedAt) {
      window.scrollTo(0, 0);
      document.querySelector("h1")?.focus({ preventScroll: true });
    }
    isFirst.current = false;
    stayedAt = null;
  }, [route]);
  useLayoutEffect(() => {
    const changed = () => setRoute((shown) => (shown.hash === location.hash ? shown : read()));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** @param {...string} parts */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** @param {string} href */
export function go(href) {
  location.hash = href.replace(/^#/, "");
  // The browser tells of it later. If someone went back before that, a dialog that was closed would not open again.
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Goes to another address of the same page, where one stays at what one is at: it shows something else beside it. @param {string} href */
export function stay(href) {
  go(href);
  stayedAt = location.hash;
}
