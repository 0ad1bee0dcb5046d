// Parts that all pages share.

import { Problem, get } from "./api.js";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.js";
import { html } from "./html.js";
import { number, seconds, t, utc, when } from "./texts.js";

/** @typedef {import("./vendor/preact.js").ComponentChildren} Children */

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

/**
 * Loads what a path has, and again every `every` milliseconds while the page is looked at. Old data stays while new data comes.
 * @param {string | null} path
 * @param {number} [every]
 */
export function useLoad(path, every) {
  /** @type {[{ path: string | null, answer: import("./api.js").Answer | null, problem: unknown }, Function]} */
  const [state, setState] = useState({ path: null, answer: null, problem: null });
  const asked = useRef(0);
  const reload = useCallback(async () => {
    if (path === null) return;
    const turn = (asked.current += 1);
    // What an older request says comes too late.
    const set = (/** @type {any} */ next) => turn === asked.current && setState(next);
    try {
      const answer = await get(path);
      set({ path, answer, problem: null });
    } catch (problem) {
      set((/** @type {any} */ old) => ({ path, answer: old.path === path ? old.answer : null, problem }));
    }
  }, [path]);
  useEffect(() => {
    let timer = 0;
    let ended = false;
    const plan = () => {
      if (every && !ended) timer = setTimeout(turn, every);
    };
    const turn = async () => {
      if (!document.hidden) await reload();
      plan();
    };
    // Also in a tab that nobody looks at yet.
    reload().then(plan);
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [reload, every]);
  const isOld = state.path !== path;
  return {
    data: isOld ? null : (state.answer?.body ?? null),
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

/**
 * A dialog. It has the focus until it is gone, and Escape closes it.
 * @param {{ title: string, onClose: () => void, children?: Children }} props
 */
export function Dialog({ title, onClose, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  // If it were removed while it is open, nothing would have the focus afterwards.
  useLayoutEffect(() => () => dialog.current?.close(), []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
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

/** @typedef {{ field: string, detail: string }} Wrong what the API says of a field */

/** What is wrong with a field itself, and not with a part of it. @param {{ name: string, errors: Wrong[] }} props */
export function Faults({ name, errors }) {
  return errors.filter(({ field }) => field === name).map(({ detail }) => html`<p class="wrong">${detail}</p>`);
}

/** Whether one of these fields is wrong, or a part of one. @param {Wrong[]} errors @param {...string} names */
export const areWrong = (errors, ...names) =>
  errors.some(({ field }) => names.some((name) => field === name || field.startsWith(`${name}.`) || field.startsWith(`${name}[`)));

let fields = 0;

/**
 * A labelled input.
 * @param {{ label: string, value: string, onInput: (value: string) => void, type?: string, hint?: string, lines?: number,
 *   required?: boolean, options?: [string, string][], placeholder?: string, errors?: Wrong[], name?: string }} props
 */
export function Field(props) {
  const [id] = useState(() => `field-${(fields += 1)}`);
  const { label, value, hint, lines, options, type = "text", required = false, placeholder } = props;
  const wrong = (props.errors ?? []).filter(({ field }) => field === props.name || field.startsWith(`${props.name}[`));
  const common = {
    id,
    value,
    required,
    placeholder,
    "aria-invalid": wrong.length > 0,
    "aria-describedby": `${id}-hint`,
    onInput: (/** @type {any} */ event) => props.onInput(event.currentTarget.value),
  };
  const input = options
    ? html`<select ...${common}>${options.map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}</select>`
    : lines
      ? html`<textarea ...${common} rows=${lines} spellcheck=${false}></textarea>`
      : html`<input ...${common} type=${type} step=${type === "number" ? "any" : undefined} autocomplete="off" spellcheck=${false} />`;
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${input}
    <div id=${`${id}-hint`} class="hint">
      ${wrong.map((error) => html`<p class="wrong">${error.detail}</p>`)}${hint}
    </div>
  </div>`;
}

/**
 * A question whose answer is yes or no.
 * @param {{ label: string, checked: boolean, onChange: (checked: boolean) => void, name?: string, errors?: Wrong[] }} props
 */
export function Check({ label, checked, onChange, name = "", errors = [] }) {
  return html`<div class="field check">
    <label><input type="checkbox" checked=${checked} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.checked)} />
      ${" "}${label}</label>
    <${Faults} name=${name} errors=${errors} />
  </div>`;
}

/**
 * A form whose submission may fail; it keeps what was typed, and the first wrong field gets the focus.
 * @param {{ label: string, onSubmit: () => Promise<unknown>, children: (errors: any[]) => any, onCancel?: () => void }} props
 */
export function Form({ label, onSubmit, children, onCancel }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  useEffect(() => {
    /** @type {HTMLElement | null | undefined} */
    const wrong = problem && form.current?.querySelector("[aria-invalid=true]");
    wrong?.focus();
  }, [problem]);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await onSubmit();
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return html`<form ref=${form} onSubmit=${submit}>
    ${children(problem?.errors ?? [])}
    ${problem && html`<${Failure} problem=${problem} />`}
    <div class="buttons">
      <button class="main" aria-disabled=${busy} aria-busy=${busy}>${label}</button>
      ${onCancel && html`<button type="button" onClick=${onCancel}>${t("cancel")}</button>`}
    </div>
  </form>`;
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

/** @param {{ text: string, label?: string }} props */
export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 2_000);
  };
  return html`<button type="button" onClick=${() => copy().catch(() => setDone(false))}>
    ${done ? t("copied") : (label ?? t("copy"))}</button>`;
}

/** A count that may be more than was counted. @param {{ total: number, capped: boolean }} count */
export const counted = ({ total, capped }) => (capped ? `≥ ${number(total)}` : number(total));

/**
 * A table that becomes a list of cards on a narrow screen.
 * @param {{ label: string, heads: string[], rows: any[][] }} props
 */
export function Table({ label, heads, rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
    <tbody>${rows.map(
      (cells) => html`<tr>${cells.map((cell, index) => html`<td data-label=${heads[index]}>${cell}</td>`)}</tr>`,
    )}</tbody>
  </table></div>`;
}

/** @param {{ next: string | null, first: boolean, onNext: (cursor: string) => void, onFirst: () => void }} props */
export function Pages({ next, first, onNext, onFirst }) {
  return html`<nav class="buttons" aria-label=${t("pages")}>
    ${!first && html`<button type="button" onClick=${onFirst}>${t("newest")}</button>`}
    ${next && html`<button type="button" onClick=${() => onNext(next)}>${t("older")}</button>`}
  </nav>`;
}
