// Whether the session has gone on with another token.

import { useEffect, useState } from "../vendor/hooks.js";

let renewals = 0;

/** @type {Set<(renewals: number) => void>} */
const listeners = new Set();

/** Says that the session goes on with another token: what the one before was refused is asked for again. */
export function renewed() {
  renewals += 1;
  for (const tell of listeners) tell(renewals);
}

/** How often it has done so. The component is drawn again when it does. */
export function useRenewals() {
  const [count, setCount] = useState(renewals);
  useEffect(() => {
    listeners.add(setCount);
    // It may have done so a moment ago.
    setCount(renewals);
    return () => {
      listeners.delete(setCount);
    };
  }, []);
  return count;
}
