// Server-sent events, read by `fetch`: an EventSource can send neither the console's header nor a portal's token.

import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { Problem, send } from "./api.js";
import { useRenewals } from "./renewal.js";

/** How long to wait after a failure, unless the answer says how long. */
const PAUSE = 2_000;

/** An answer that ends sooner is not asked for again at once. */
const SHORT = 1_000;

/** What another try does not change. */
const FINAL = [401, 403, 404, 422];

/** @typedef {{ name: string, data: any }} Message */

/** @typedef {{ path: string | null, last: string }} Heard up to which id a path was heard */

/**
 * Hears what a path tells, across its answers, until the signal.
 * @param {string} path
 * @param {Heard} heard
 * @param {(message: Message) => void} hear
 * @param {(problem: unknown) => void} fail gets what went wrong, and null when it goes on
 * @param {AbortSignal} signal
 */
async function listen(path, heard, hear, fail, signal) {
  while (!signal.aborted) {
    const begun = Date.now();
    try {
      /** @type {Record<string, string>} */
      const headers = { Accept: "text/event-stream" };
      if (heard.last) headers["Last-Event-ID"] = heard.last;
      const response = await send("GET", path, undefined, headers, signal);
      fail(null);
      await read(response, (id, message) => {
        if (id) heard.last = id;
        if (message && !signal.aborted) hear(message);
      });
      if (Date.now() - begun < SHORT) await pause(SHORT);
    } catch (error) {
      if (signal.aborted) return;
      const problem = error instanceof Problem ? error : new Problem(0, "");
      fail(problem);
      if (FINAL.includes(problem.status)) return;
      await pause((problem.retryAfter ?? 0) * 1_000 || PAUSE);
    }
  }
}

/** @param {number} time in milliseconds */
const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** The name and the value of a line. @param {string} line @returns {[string, string]} */
function field(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon), line.slice(colon + 2)];
}

/**
 * @param {Response} response
 * @param {(id: string, message: Message | null) => void} take
 */
async function read(response, take) {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (reader) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map(field));
      const data = fields.get("data");
      take(fields.get("id") ?? "", data === undefined ? null : { name: fields.get("event") ?? "message", data: JSON.parse(data) });
    }
  }
}

/**
 * Hears what a path tells while the component is there, also when the session is renewed. Returns what went wrong, or null.
 * @param {string | null} path none hears nothing
 * @param {(message: Message) => void} hear
 * @param {boolean} [always] also while nobody looks at the page
 */
export function useStream(path, hear, always = false) {
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const heard = useRef(/** @type {Heard} */ ({ path, last: "" }));
  const renewals = useRenewals();
  useEffect(() => {
    if (heard.current.path !== path) heard.current = { path, last: "" };
    /** @type {AbortController | null} */
    let control = null;
    const stop = () => {
      control?.abort();
      control = null;
    };
    const follow = () => {
      if (path === null || (document.hidden && !always)) return stop();
      if (control) return;
      control = new AbortController();
      listen(path, heard.current, hear, setProblem, control.signal);
    };
    follow();
    document.addEventListener("visibilitychange", follow);
    return () => {
      document.removeEventListener("visibilitychange", follow);
      stop();
    };
  }, [path, renewals]);
  return problem;
}
