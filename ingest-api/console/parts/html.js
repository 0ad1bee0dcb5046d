// Preact with templates in place of JSX, so that this file is served as it is written.

import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

/** A template: html`<p>${text}</p>`. What stands in `${…}` is text or a component, never markup. */
export const html = htm.bind(h);
