// Requests to the API, with the session of the console (a cookie) or of the portal (a token in memory).

/** The token of a portal's session; null in the console, whose cookie the browser sends. @type {string | null} */
let token = null;

/** Requests that begin a session or tell whose it is. */
const BEGINNINGS = ["/console/session", "/v1/portal/session"];

/** What happens when a request shows that the session is over. @type {() => void} */
let whenOver = () => {};

/** @param {string | null} value */
export function useToken(value) {
  token = value;
}

/** @param {() => void} action */
export function onSessionOver(action) {
  whenOver = action;
}

/** An error answer of the API, or none at all (status 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {{ field: string, detail: string }[]} errors
   * @param {number | null} retryAfter seconds
   */
  constructor(status, detail, errors = [], retryAfter = null) {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }
}

/**
 * @typedef {object} Answer
 * @property {any} body the parsed JSON; null when there is none
 * @property {string} text the body as it came
 * @property {string | null} etag
 */

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<Answer>}
 */
export async function call(method, path, body, headers = {}) {
  const response = await send(method, path, body, headers);
  const text = await textOf(response);
  return { body: text === "" ? null : JSON.parse(text), text, etag: response.headers.get("etag") };
}

/**
 * Sends a request, and returns an answer that means success.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 * @param {AbortSignal} [signal]
 */
export async function send(method, path, body, headers = {}, signal) {
  const used = token;
  /** @type {Record<string, string>} */
  const all = { ...headers };
  if (token === null) all["Penstock-Console"] = "1";
  else all["Authorization"] = `Bearer ${token}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: token === null ? "same-origin" : "omit",
      cache: "no-store",
      signal: signal ?? null,
    });
  } catch {
    throw new Problem(0, "");
  }
  if (response.ok) return response;
  const problem = problemOf(response, await textOf(response));
  // Whoever begins a session hears of it there. What was asked with an earlier token says nothing about this one.
  if (problem.status === 401 && !BEGINNINGS.includes(path) && used === token) whenOver();
  throw problem;
}

/** @param {Response} response */
async function textOf(response) {
  try {
    return await response.text();
  } catch {
    throw new Problem(0, "");
  }
}

/**
 * @param {Response} response
 * @param {string} text
 */
function problemOf(response, text) {
  const retryAfter = Number(response.headers.get("retry-after")) || null;
  try {
    const { detail, title, errors } = JSON.parse(text);
    return new Problem(response.status, String(detail ?? title ?? response.statusText), errors ?? [], retryAfter);
  } catch {
    return new Problem(response.status, response.statusText, [], retryAfter);
  }
}

/** @param {string} path @returns {Promise<Answer>} */
export const get = (path) => call("GET", path);

/**
 * A path with a query of the values that are set.
 * @param {string} path
 * @param {Record<string, string | number | null | undefined>} values
 */
export function query(path, values) {
  const set = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(set.map(([name, value]) => [name, String(value)])).toString();
  return text === "" ? path : `${path}?${text}`;
}

/** @param {string} text */
export const part = (text) => encodeURIComponent(text);
