// Whose session it is, and what it may do.

/**
 * @typedef {object} Me
 * @property {"key" | "admin" | "portal"} kind
 * @property {string | null} tenant
 * @property {string[]} capabilities of a portal's session
 * @property {string[]} scopes of a key
 * @property {string[]} event_types that a portal's endpoints choose from; empty is every type
 * @property {boolean} mayChange whether an operator may do more than look
 */

/** @type {Me} */
let me = { kind: "key", tenant: null, capabilities: [], scopes: [], event_types: [], mayChange: true };

/** @param {Me} value */
export function setMe(value) {
  me = value;
}

export const whoAmI = () => me;

/** @param {"view" | "manage_endpoints" | "view_secrets" | "replay"} capability */
export const may = (capability) => me.kind !== "portal" || me.capabilities.includes(capability);

/** Whether an operator's token, or any key, may change things. */
export const mayChange = () => me.mayChange;

/** Whether tenants are told apart: not where there is only one. */
export const hasTenants = () => me.tenant === null;
