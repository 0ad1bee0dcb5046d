// Texts of API keys.

/** @type {import("../texts.js").Texts} */
export const keys = {
  "keys.empty": ["No keys.", "Keine Schlüssel."],
  "keys.new": ["New key", "Neuer Schlüssel"],
  "key.name": ["Name", "Name"],
  "key.scopes": ["May", "Darf"],
  "key.scope.ingest": ["send events", "Ereignisse senden"],
  "key.scope.manage": ["manage everything else", "alles andere verwalten"],
  "key.used": ["Last used", "Zuletzt benutzt"],
  "key.expires": ["Expires", "Läuft ab"],
  "key.made": ["The new key", "Der neue Schlüssel"],
  "key.revoke": ["Revoke", "Widerrufen"],
  "key.revoke.lost": ["Whoever uses {name} is refused within a second. This cannot be undone.", "Wer {name} benutzt, wird binnen einer Sekunde abgewiesen. Das lässt sich nicht rückgängig machen."],
  "key.tenant": ["Tenant (empty: the whole organisation)", "Mandant (leer: die ganze Organisation)"],
};
