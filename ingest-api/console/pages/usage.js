// What was used in a month: of an organisation, of one tenant, or, for the operator, of all.

import { get, query, send } from "../api/api.js";
import { hasTenants, whoAmI } from "../api/me.js";
import { useNames } from "../api/organization-names.js";
import { Chart } from "../parts/chart.js";
import { Field } from "../parts/form.js";
import { Heading } from "../parts/heading.js";
import { html } from "../parts/html.js";
import { Action, Badge, Empty, Loaded, Table, Time } from "../parts/ui.js";
import { go, stay } from "../route.js";
import { bytes, day, month as monthText, number, percent, t } from "../texts.js";
import { useEffect, useState } from "../vendor/hooks.js";

/** Entries of a page, and most pages that are read. */
const LIMIT = 1_000;
const PAGES = 20;

/** Months to choose from: figures are kept for 400 days unless the operator says otherwise. */
const MONTHS = 13;

/** Most rows of a table. */
const ROWS = 200;

const A_DAY = 86_400_000;

/** From this share on a quota is nearly used up. */
const NEARLY = 0.8;

const FIGURES = ["accepted", "delivered", "attempts", "dead", "bytes"];

/** @typedef {Record<string, string | null>} Values */

/** The last months in UTC, newest first: `2026-11`. */
function lastMonths() {
  const now = new Date();
  return Array.from({ length: MONTHS }, (_, ago) =>
    new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago, 1)).toISOString().slice(0, 7),
  );
}

/** The first day after a month. @param {string} month */
function after(month) {
  const [year = 0, place = 0] = month.split("-").map(Number);
  return new Date(Date.UTC(year, place, 1)).toISOString().slice(0, 10);
}

/** The days of a month that have begun. @param {string} month */
function daysOf(month) {
  const end = Math.min(Date.parse(after(month)), Date.now());
  const days = [];
  for (let at = Date.parse(`${month}-01`); at < end; at += A_DAY) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

/**
 * All pages of a list, one after another, up to a number of them.
 * @param {string} path
 * @param {Values} values
 * @param {() => boolean} isOver
 */
async function readAll(path, values, isOver) {
  /** @type {any[]} */
  const data = [];
  let cursor = /** @type {string | null} */ (null);
  for (let pages = 1; ; pages += 1) {
    const { body } = await get(query(path, { ...values, limit: LIMIT, cursor }));
    data.push(...body.data);
    cursor = body.next_cursor;
    if (cursor === null || pages === PAGES || isOver()) return { ...body, data, isWhole: cursor === null };
  }
}

/**
 * Loads all pages of a list.
 * @param {string} path
 * @param {Values} values
 */
function useAll(path, values) {
  const key = query(path, values);
  const [state, setState] = useState(/** @type {{ key: string, data: any, problem: unknown }} */ ({ key: "", data: null, problem: null }));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isOver = false;
    const load = async () => {
      try {
        const data = await readAll(path, values, () => isOver);
        if (!isOver) setState({ key, data, problem: null });
      } catch (problem) {
        if (!isOver) setState({ key, data: null, problem });
      }
    };
    load();
    return () => {
      isOver = true;
    };
  }, [key, turn]);
  const isOld = state.key !== key;
  return { data: isOld ? null : state.data, problem: isOld ? null : state.problem, reload: () => setTurn(turn + 1) };
}

/** The sums of entries, by what `of` says of each. @param {any[]} entries @param {(entry: any) => string} of */
function sums(entries, of) {
  /** @type {Map<string, any>} */
  const groups = new Map();
  for (const entry of entries) {
    const name = of(entry);
    const sum = groups.get(name) ?? { name, ...Object.fromEntries(FIGURES.map((figure) => [figure, 0])) };
    for (const figure of FIGURES) sum[figure] += entry[figure];
    groups.set(name, sum);
  }
  return [...groups.values()];
}

/** @param {string} figure @param {number} value */
const written = (figure, value) => (figure === "bytes" ? bytes(value) : number(value));

/** @param {{ params: URLSearchParams }} props */
export function Usage({ params }) {
  const isAdmin = whoAmI().kind === "admin";
  const given = params.get("month") ?? "";
  const month = /^\d{4}-(0[1-9]|1[0-2])$/.test(given) ? given : (lastMonths()[0] ?? "");
  const organization = isAdmin ? params.get("organization") : null;
  const tenant = isAdmin && !organization ? null : params.get("tenant");
  const path = isAdmin ? "/admin/v1/usage" : "/v1/usage";
  /** @type {Values} */
  const values = { organization_id: organization, tenant, from: `${month}-01`, to: after(month) };
  const load = useAll(path, values);
  const place = { month, organization, tenant, by: params.get("by") };
  return html`<header class="with-buttons"><${Heading} title=${t("nav.usage")} />
      <${Download} path=${path} values=${values} name=${`usage-${month}.csv`} /></header>
    <${Choice} key=${to(place, { by: null })} place=${place} />
    <${Loaded} load=${load}>${(/** @type {any} */ usage) => html`<${Month} usage=${usage} place=${place} />`}<//>`;
}

/** @typedef {{ month: string, organization: string | null, tenant: string | null, by: string | null }} Place */

/** The address of another place. @param {Place} place @param {Partial<Place>} change */
const to = (place, change) => query("#/usage", { ...place, ...change });

/** @param {{ place: Place }} props */
function Choice({ place }) {
  const isAdmin = whoAmI().kind === "admin";
  const [typed, setTyped] = useState({ month: place.month, organization: place.organization ?? "", tenant: place.tenant ?? "" });
  const field = (/** @type {"month" | "organization" | "tenant"} */ name, /** @type {string} */ label, more = {}) => html`<${Field}
    label=${label} value=${typed[name]} onInput=${(/** @type {string} */ value) => setTyped({ ...typed, [name]: value.trim() })} ...${more} />`;
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    go(to(place, typed));
  };
  const months = [...new Set([...lastMonths(), place.month])].map((each) => [each, monthText(each)]);
  return html`<form class="search" onSubmit=${submit}>
    ${field("month", t("usage.month"), { options: months })}
    ${isAdmin && field("organization", t("usage.organization"))}
    ${hasTenants() && (!isAdmin || typed.organization !== "") && field("tenant", t("events.tenant"))}
    <button class="main">${t("usage.show")}</button>
  </form>`;
}

/** A link cannot send what a session needs, so the file is fetched first. @param {{ path: string, values: Values, name: string }} props */
function Download({ path, values, name }) {
  const [isCut, setCut] = useState(false);
  const download = async () => {
    const texts = [];
    let next = /** @type {string | null | undefined} */ (query(path, { ...values, format: "csv", limit: LIMIT }));
    for (let pages = 0; next && pages < PAGES; pages += 1) {
      const response = await send("GET", next);
      const text = await response.text();
      // The heading once.
      texts.push(pages === 0 ? text : text.slice(text.indexOf("\n") + 1));
      next = response.headers.get("link")?.match(/<([^>]+)>;\s*rel="next"/)?.[1];
    }
    setCut(Boolean(next));
    save(texts, name);
  };
  return html`<div><${Action} onClick=${download}>${t("usage.csv")}<//>
    <div role="status">${isCut && html`<p>${t("usage.csv.cut", { count: number(PAGES * LIMIT) })}</p>`}</div></div>`;
}

/** @param {string[]} texts @param {string} name */
function save(texts, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(texts, { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {{ usage: any, place: Place }} props */
function Month({ usage, place }) {
  const { data, quota, counted_through, isWhole } = usage;
  const [all] = sums(data, () => "");
  return html`
    ${quota && html`<${Quota} quota=${quota} used=${all?.accepted ?? 0} />`}
    ${counted_through && html`<p class="quiet">${t("usage.through")} <${Time} at=${counted_through} /></p>`}
    ${!isWhole && html`<p class="failure" role="status">${t("usage.cut", { count: number(data.length) })}</p>`}
    ${all
      ? html`<dl class="tiles">${FIGURES.map((figure) => html`<div><dt>${t(`usage.${figure}`)}</dt>
            <dd>${isWhole ? "" : "≥ "}${written(figure, all[figure])}</dd></div>`)}</dl>
          <${Days} data=${data} month=${place.month} /><${Sums} data=${data} place=${place} />`
      : html`<${Empty}>${t("usage.empty")}<//>`}`;
}

/** How much of a quota is used. @param {{ quota: any, used: number }} props */
function Quota({ quota, used }) {
  const most = quota.events_per_month;
  const share = used / most;
  return html`<section class="card"><h2>${t("quota.title")}</h2>
    <p>${t("quota.used", { used: number(used), most: number(most), share: percent(share) })}
      ${" "}${share >= NEARLY && html`<${Badge} state=${share >= 1 ? "over" : "nearly"} />`}</p>
    <progress max=${most} value=${Math.min(used, most)} aria-label=${t("quota.title")}></progress>
    <p class="quiet">${t(`quota.${quota.quota_action}`)}</p>
  </section>`;
}

/** @param {{ data: any[], month: string }} props */
function Days({ data, month }) {
  const byDay = new Map(sums(data, (entry) => entry.day).map((sum) => [sum.name, sum]));
  const bars = daysOf(month).map((name) => {
    const { accepted = 0, delivered = 0, dead = 0 } = byDay.get(name) ?? {};
    const text = t("usage.figures", { accepted: number(accepted), delivered: number(delivered), dead: number(dead) });
    return { from: name, parts: [{ value: accepted, kind: "good" }], text };
  });
  const top = Math.max(...bars.map(({ parts }) => parts[0]?.value ?? 0), 0);
  return html`<div class="charts"><${Chart} title=${t("usage.chart")} bars=${bars} top=${number(top)} at=${day} /></div>`;
}

/** What the entries can be summed up by. @param {Place} place */
function waysOf({ organization, tenant }) {
  if (whoAmI().kind === "admin" && !organization) return ["organization", "day"];
  return tenant || !hasTenants() ? ["day"] : ["day", "tenant"];
}

/** @param {{ data: any[], place: Place }} props */
function Sums({ data, place }) {
  const ways = waysOf(place);
  const way = ways.find((each) => each === place.by) ?? ways[0] ?? "day";
  const groups = sums(data, (entry) => (way === "day" ? entry.day : way === "tenant" ? (entry.tenant ?? "") : entry.organization_id));
  groups.sort((one, other) => (way === "day" ? one.name.localeCompare(other.name) : other.accepted - one.accepted));
  const shown = groups.slice(0, ROWS);
  const names = useNames(way === "organization" ? shown.map(({ name }) => name) : []);
  const rows = shown.map((sum) => [
    way === "day" ? day(sum.name) : sum.name === ""
      ? html`<span class="quiet">${t("usage.no.tenant")}</span>`
      : html`<a href=${to(place, { [way]: sum.name })}>${names.get(sum.name) ?? sum.name}</a>`,
    ...FIGURES.map((figure) => written(figure, sum[figure])),
  ]);
  /** @type {Record<string, string>} */
  const heads = { day: t("usage.day"), tenant: t("events.tenant"), organization: t("org.name") };
  return html`${ways.length > 1 && html`<div class="buttons" role="group" aria-label=${t("usage.by")}>${ways.map(
      (each) => html`<button type="button" aria-pressed=${each === way} onClick=${() => stay(to(place, { by: each }))}>${t(`usage.by.${each}`)}</button>`,
    )}</div>`}
    <${Table} label=${t("nav.usage")} heads=${[heads[way], ...FIGURES.map((figure) => t(`usage.${figure}`))]} rows=${rows} />
    ${groups.length > ROWS && html`<p class="quiet">${t("more", { count: number(groups.length - ROWS) })}</p>`}`;
}
