// Delivering again what an endpoint's attempts ended for.

import { call, part } from "../api/api.js";
import { may } from "../api/me.js";
import { Dangerous } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { html } from "../parts/html.js";
import { Badge, Time, useLoad } from "../parts/ui.js";
import { number, t, toLocal } from "../texts.js";
import { useState } from "../vendor/hooks.js";

/** How often the progress is asked for. */
const EVERY = 2_000;

/** How often it is asked whether someone else has started one. */
const SELDOM = 30_000;

/** How far back it begins unless told otherwise. */
const A_DAY = 86_400_000;

/** @param {{ id: string, dead: number, onChange: () => void }} props */
export function Recovery({ id, dead, onChange }) {
  const path = `/v1/endpoints/${part(id)}`;
  const load = useLoad(`${path}/recoveries?limit=1`, (page) => (page?.data[0]?.status === "running" ? EVERY : SELDOM));
  const last = load.data?.data[0];
  const [since, setSince] = useState(() => toLocal(new Date(Date.now() - A_DAY).toISOString()));
  const [pace, setPace] = useState("100");
  const start = async () => {
    await call("POST", `${path}/recover`, { since: new Date(since).toISOString(), per_second: Number(pace) });
    await load.reload();
    onChange();
  };
  const stop = async () => {
    await call("DELETE", `${path}/recoveries/${part(last.id)}`);
    await load.reload();
  };
  const isRunning = last?.status === "running";
  if (!last && (dead === 0 || !may("replay"))) return null;
  return html`<section class="card">
    <h2>${t("recover.title")}</h2>
    ${last && html`<p role="status"><${Badge} state=${last.status} />
      ${" "}${t("recover.progress", { recovered: number(last.recovered), matched: number(last.matched) })}
      ${" "}<span class="quiet"><${Time} at=${last.created_at} /></span></p>
      <progress max=${Math.max(last.matched, 1)} value=${last.recovered} aria-label=${t("recover.title")}></progress>`}
    ${isRunning && may("replay") && html`<${Dangerous} label=${t("recover.cancel")} title=${t("recover.cancel")}
      lost=${t("recover.cancel.lost")} onConfirm=${stop} />`}
    ${!isRunning && dead > 0 && may("replay") && html`<${Form} label=${t("recover.start")} onSubmit=${start}>
      ${(/** @type {any[]} */ errors) => html`
        <${Field} name="since" label=${t("recover.since")} type="datetime-local" required value=${since} onInput=${setSince} errors=${errors} />
        <${Field} name="per_second" label=${t("recover.pace")} type="number" required value=${pace} onInput=${setPace} errors=${errors} />`}<//>`}
  </section>`;
}
