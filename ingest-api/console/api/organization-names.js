// Names of organisations, for pages whose answers have ids only.

import { useEffect, useState } from "../vendor/hooks.js";
import { get, part } from "./api.js";

const PATH = "/admin/v1/organizations";

/** Most organisations of a page of the list, and most that are asked for one by one at once. */
const LIMIT = 100;
const AT_ONCE = 5;

/** @typedef {Map<string, string>} Names by ids */

/**
 * Reads the newest organisations at once, and the others one by one.
 * @param {string[]} ids
 * @param {(names: Names) => boolean} tell gets all names so far, and says whether to go on
 */
async function read(ids, tell) {
  const { body } = await get(`${PATH}?limit=${LIMIT}`);
  /** @type {Names} */
  const names = new Map(body.data.map((/** @type {any} */ each) => [each.id, each.name]));
  const missing = ids.filter((id) => !names.has(id));
  while (tell(new Map(names)) && missing.length > 0) {
    const answers = missing.splice(0, AT_ONCE).map((id) => get(`${PATH}/${part(id)}`));
    for (const answer of await Promise.allSettled(answers)) {
      if (answer.status === "fulfilled") names.set(answer.value.body.id, answer.value.body.name);
    }
  }
}

/** Names of organisations, as they come. One whose name cannot be had is missing. @param {string[]} ids */
export function useNames(ids) {
  const [names, setNames] = useState(/** @type {Names} */ (new Map()));
  useEffect(() => {
    let isOver = ids.length === 0;
    const tell = (/** @type {Names} */ next) => {
      if (!isOver) setNames(next);
      return !isOver;
    };
    // The ids are shown in their place.
    if (!isOver) read(ids, tell).catch(() => {});
    return () => {
      isOver = true;
    };
  }, [ids.join()]);
  return names;
}
