// The texts of the pages, in English and German, and how numbers and times are written. Each room's texts stand in a file of their own.

import { common } from "./texts/common.js";
import { dead } from "./texts/dead.js";
import { endpointForm } from "./texts/endpoint-form.js";
import { endpoints } from "./texts/endpoints.js";
import { events } from "./texts/events.js";
import { keys } from "./texts/keys.js";
import { live } from "./texts/live.js";
import { organizations } from "./texts/organizations.js";
import { overview } from "./texts/overview.js";
import { portalSettings } from "./texts/portal-settings.js";
import { sessions } from "./texts/sessions.js";
import { system } from "./texts/system.js";
import { tenants } from "./texts/tenants.js";
import { usage } from "./texts/usage.js";

/** @typedef {Record<string, [string, string]>} Texts in English and German, by key */

/** @type {Texts} */
const TEXTS = {
  ...common,
  ...sessions,
  ...overview,
  ...system,
  ...live,
  ...events,
  ...endpoints,
  ...endpointForm,
  ...usage,
  ...dead,
  ...tenants,
  ...keys,
  ...organizations,
  ...portalSettings,
};

const LANGUAGES = ["en", "de"];

/** The first language of the browser that the pages speak. */
export const language =
  navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => LANGUAGES.includes(tag)) ?? "en";

/**
 * A text in the language of the page. `{name}` stands for a value. Where `count` is one, the text may be another.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const one = values.count === "1" ? TEXTS[`${key}.one`] : undefined;
  const text = (one ?? TEXTS[key])?.[LANGUAGES.indexOf(language)] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

const numbers = new Intl.NumberFormat(language);
const times = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

/** @param {number} value */
export const number = (value) => numbers.format(value);

/** This browser's zone: `Europe/Berlin`. */
export const zone = times.resolvedOptions().timeZone;

/** A time in this browser's zone. @param {string} at */
export const when = (at) => times.format(new Date(at));

const shortTimes = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });

/** An hour and a minute in this browser's zone. @param {string} at */
export const time = (at) => shortTimes.format(new Date(at));

/** A time in UTC. @param {string} at */
export const utc = (at) => `${new Date(at).toISOString().replace("T", " ").slice(0, 19)} UTC`;

/** A time in Unix seconds, as the headers of webhooks tell it. @param {string} at */
export const unixSeconds = (at) => Math.floor(new Date(at).getTime() / 1_000);

/** @param {number} value in seconds */
export function seconds(value) {
  if (value < 120) return `${number(Math.round(value * 10) / 10)} s`;
  if (value < 7_200) return `${number(Math.round(value / 60))} min`;
  return `${number(Math.round(value / 3_600))} h`;
}

const days = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: "UTC" });
const months = new Intl.DateTimeFormat(language, { month: "long", year: "numeric", timeZone: "UTC" });

/** A day, which is one in UTC. @param {string} at such as `2026-11-23` */
export const day = (at) => days.format(new Date(at));

/** A month, which is one in UTC. @param {string} at such as `2026-11` */
export const month = (at) => months.format(new Date(at));

/** A local time of an input as the API takes it. @param {string} text */
export const toUtc = (text) => (text === "" ? "" : new Date(text).toISOString());

/** A time as an input shows it. @param {string | null | undefined} text */
export function toLocal(text) {
  const at = new Date(text ?? "");
  if (Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** A part of a whole, rounded down: nothing but all is 100 %. @param {number} share */
export const percent = (share) => `${number(Math.floor(share * 1_000) / 10)} %`;

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} value */
export function bytes(value) {
  const power = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), UNITS.length - 1);
  return `${number(Math.round((value / 1_024 ** power) * 10) / 10)} ${UNITS[power]}`;
}

/** @param {number} value in milliseconds */
export const milliseconds = (value) => (value < 10_000 ? `${number(Math.round(value))} ms` : seconds(value / 1_000));
