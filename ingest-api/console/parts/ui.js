// Parts that all pages share.

import { Problem, get } from "../api/api.js";
import { useRenewals } from "../api/renewal.js";
import { number, seconds, t, utc, when } from "../texts.js";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { html } from "./html.js";

/** @typedef {import("../vendor/preact.js").ComponentChildren} Children */

/** A time here, with UTC when it is pointed at. @param {{ at: string | null }} props */
export function Time({ at }) {
  if (!at) return html`<span class="quiet">–</span>`;
  return html`<time datetime=${at} title=${utc(at)}>${when(at)}</time>`;
}

/** A word for a state, with a colour that only repeats it. @param {{ state: string, label?: string }} props */
export function Badge({ state, label }) {
  return html`<span class=${`badge ${state}`}>${label ?? t(`state.${state}`)}</span>`;
}

/** @param {{ lines?: number }} props */
export function Loading({ lines = 3 }) {
  return html`<div class="loading" role="status" aria-label=${t("loading")}>
    ${Array.from({ length: lines }, () => html`<div class="bone"></div>`)}
  </div>`;
}

/** @param {{ children?: Children }} props */
export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** What went wrong, and what to do. @param {{ problem: unknown, retry?: () => void }} props */
export function Failure({ problem, retry }) {
  const known = problem instanceof Problem ? problem : new Problem(0, String(problem));
  const advice = {
    0: t("error.network"),
    401: t("error.401"),
    403: t("error.403"),
    404: t("error.404"),
    409: t("error.409"),
    412: t("error.412"),
    429: t("error.429", { seconds: seconds(known.retryAfter ?? 1) }),
    503: t("error.503", { seconds: seconds(known.retryAfter ?? 1) }),
  }[known.status];
  return html`<div class="failure" role="alert">
    <p><strong>${advice ?? t("error.other")}</strong></p>
    ${known.status > 0 && html`<p class="quiet">${known.status} ${known.message}</p>`}
    ${known.errors.length > 0 &&
    html`<ul>${known.errors.map((error) => html`<li><code>${error.field}</code> ${error.detail}</li>`)}</ul>`}
    ${retry && html`<button type="button" onClick=${retry}>${t("again")}</button>`}
  </div>`;
}

/** Longest wait for the next request, in milliseconds, whatever an answer says. */
const LONGEST = 3_600_000;

/**
 * Loads what a path has, and again every `every` milliseconds while the page is looked at, or later where an answer says so, and when
 * the session is renewed. Old data stays while new data comes.
 * @param {string | null} path
 * @param {number | ((data: any) => number)} [every] may depend on the data, which is null at first
 */
export function useLoad(path, every) {
  /** @type {[{ path: string | null, answer: import("../api/api.js").Answer | null, problem: unknown }, Function]} */
  const [state, setState] = useState({ path: null, answer: null, problem: null });
  const asked = useRef(0);
  const begun = useRef(/** @type {unknown} */ (null));
  const renewals = useRenewals();
  /** Loads it now, and returns how many milliseconds to wait at the least. */
  const reload = useCallback(async () => {
    if (path === null) return 0;
    const turn = (asked.current += 1);
    // What an older request says comes too late.
    const set = (/** @type {any} */ next) => turn === asked.current && setState(next);
    try {
      const answer = await get(path);
      set({ path, answer, problem: null });
      return 0;
    } catch (problem) {
      set((/** @type {any} */ old) => ({ path, answer: old.path === path ? old.answer : null, problem }));
      if (!(problem instanceof Problem)) return 0;
      // A session that is over does not come back by itself.
      return problem.status === 401 ? LONGEST : (problem.retryAfter ?? 0) * 1_000;
    }
  }, [path, renewals]);
  const isOld = state.path !== path;
  const data = isOld ? null : (state.answer?.body ?? null);
  const pause = typeof every === "function" ? every(data) : every;
  useEffect(() => {
    let timer = 0;
    let ended = false;
    const plan = (/** @type {number} */ least) => {
      if (pause && !ended) timer = setTimeout(turn, Math.min(Math.max(pause, least), LONGEST));
    };
    const turn = async () => plan(document.hidden ? 0 : await reload());
    if (begun.current === reload) plan(0);
    // Also in a tab that nobody looks at yet.
    else reload().then(plan);
    begun.current = reload;
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [reload, pause]);
  return {
    data,
    answer: isOld ? null : state.answer,
    problem: isOld ? null : state.problem,
    reload,
  };
}

/**
 * What was loaded, or why not, or that it is not there yet.
 * @param {{ load: { data: any, problem: unknown, reload: () => void }, children: (data: any) => any }} props
 */
export function Loaded({ load, children }) {
  if (load.data !== null) {
    return html`${load.problem && html`<${Failure} problem=${load.problem} retry=${load.reload} />`}${children(load.data)}`;
  }
  if (load.problem) return html`<${Failure} problem=${load.problem} retry=${load.reload} />`;
  return html`<${Loading} />`;
}

/**
 * A button that shows that its work goes on, and what went wrong. Meanwhile it keeps the focus, which a disabled one would lose.
 * @param {{ onClick: () => Promise<unknown>, kind?: string, disabled?: boolean, children?: Children }} props
 */
export function Action({ onClick, kind, disabled, children }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const run = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await onClick();
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return html`<button type="button" class=${kind ?? ""} disabled=${disabled} aria-disabled=${busy} aria-busy=${busy} onClick=${run}>
      ${children}</button>
    ${problem && html`<${Failure} problem=${problem} />`}`;
}

/** @param {{ text: string, label?: string }} props */
export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const [refusals, setRefusals] = useState(0);
  const copy = async () => {
    try {
      // It is missing on a page that did not come over HTTPS, and refuses in a frame that may not use it.
      await navigator.clipboard.writeText(text);
    } catch {
      return setRefusals(refusals + 1);
    }
    setRefusals(0);
    setDone(true);
    setTimeout(() => setDone(false), 2_000);
  };
  return html`<button type="button" onClick=${copy}>${done ? t("copied") : (label ?? t("copy"))}</button>
    ${refusals > 0 && html`<${Selected} key=${refusals} text=${text} />`}`;
}

/** A text that its reader has to copy, so it is selected. @param {{ text: string }} props */
function Selected({ text }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  return html`<label class="selected">${t("copy.refused")}
    <textarea ref=${field} readonly rows="3" spellcheck=${false} value=${text}></textarea></label>`;
}

/** A count that may be more than was counted. @param {{ total: number, capped: boolean }} count */
export const counted = ({ total, capped }) => (capped ? `≥ ${number(total)}` : number(total));

/**
 * A table that becomes a list of cards on a narrow screen.
 * @param {{ label: string, heads: string[], rows: any[][], keys?: string[] }} props `keys` of rows that may move: what has the focus
 *   in one moves with it
 */
export function Table({ label, heads, rows, keys }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
    <tbody>${rows.map(
      (cells, place) => html`<tr key=${keys?.[place]}>${cells.map((cell, index) => html`<td data-label=${heads[index]}>${cell}</td>`)}</tr>`,
    )}</tbody>
  </table></div>`;
}

/**
 * The ways to other pages of a list; nothing where there are none.
 * @param {{ next: string | null, first: boolean, onNext: (cursor: string) => void, onFirst: () => void, byAge?: boolean }} props
 */
export function Pages({ next, first, onNext, onFirst, byAge = true }) {
  if (first && !next) return null;
  return html`<nav class="buttons" aria-label=${t("pages")}>
    ${!first && html`<button type="button" onClick=${onFirst}>${t(byAge ? "newest" : "page.first")}</button>`}
    ${next && html`<button type="button" onClick=${() => onNext(next)}>${t(byAge ? "older" : "page.next")}</button>`}
  </nav>`;
}
