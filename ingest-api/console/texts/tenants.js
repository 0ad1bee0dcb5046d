// Texts of tenants.

/** @type {import("../texts.js").Texts} */
export const tenants = {
  "tenants.empty": ["No tenants. Make one for each customer of yours that gets webhooks of its own.", "Keine Mandanten. Lege für jeden Kunden einen an, der eigene Webhooks bekommt."],
  "tenants.new": ["New tenant", "Neuer Mandant"],
  "tenant.uid": ["Id", "ID"],
  "tenant.exists": ["There is a tenant of this id already.", "Einen Mandanten mit dieser ID gibt es schon."],
  "tenant.name": ["Name", "Name"],
  "tenant.rate": ["Requests a minute", "Anfragen je Minute"],
  "tenant.created": ["Made", "Angelegt"],
  "tenant.open": ["Open its portal", "Portal öffnen"],
  "tenant.open.hint": ["The link works for an hour, for whoever has it.", "Der Link gilt eine Stunde, für jeden, der ihn hat."],
  "tenant.end": ["End its portal sessions", "Portal-Sitzungen beenden"],
  "tenant.end.lost": ["Whoever is in the portal of {uid} must come in again.", "Wer im Portal von {uid} ist, muss neu hineinkommen."],
  "tenant.delete.lost": ["Its keys, its endpoints and the payloads of its events are removed, and its portal sessions end. This cannot be undone.", "Seine Schlüssel, Endpunkte und die Inhalte seiner Ereignisse werden entfernt, seine Portal-Sitzungen enden. Das lässt sich nicht rückgängig machen."],
  "tenant.left": ["{count} events are still to be emptied", "{count} Ereignisse sind noch zu leeren"],
  "tenant.left.one": ["1 event is still to be emptied", "1 Ereignis ist noch zu leeren"],
};
