// Texts of organisations.

/** @type {import("../texts.js").Texts} */
export const organizations = {
  "orgs.empty": ["No organisations.", "Keine Organisationen."],
  "orgs.new": ["New organisation", "Neue Organisation"],
  "org.name": ["Name", "Name"],
  "org.tier": ["Tier", "Stufe"],
  "org.rate": ["Requests a minute (empty: the tier's)", "Anfragen je Minute (leer: nach Stufe)"],
  "org.retention": ["Days that payloads are kept (empty: as long as events)", "Tage, die Inhalte bleiben (leer: wie Ereignisse)"],
};
