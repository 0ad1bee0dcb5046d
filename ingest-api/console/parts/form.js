// Forms and their fields, and what the API says is wrong with them.

import { t } from "../texts.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { html } from "./html.js";
import { Failure } from "./ui.js";

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
