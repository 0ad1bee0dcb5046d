// Texts of signing in, and of sessions that are over.

/** @type {import("../texts.js").Texts} */
export const sessions = {
  "sign.out": ["Sign out", "Abmelden"],
  "sign.in": ["Sign in", "Anmelden"],
  "sign.title": ["Penstock console", "Penstock-Konsole"],
  "sign.credential": ["API key or admin token", "API-Schlüssel oder Admin-Token"],
  "sign.hint": [
    "It is exchanged for a session that ends after 12 hours without use, with the key, or when you sign out.",
    "Er wird gegen eine Sitzung getauscht. Sie endet nach 12 Stunden ohne Nutzung, mit dem Schlüssel oder beim Abmelden.",
  ],
  "sign.insecure": [
    "This page was not loaded over HTTPS, so the browser will not keep a session. Open it over HTTPS or on this machine.",
    "Diese Seite kam nicht über HTTPS, deshalb behält der Browser keine Sitzung. Öffne sie über HTTPS oder auf diesem Rechner.",
  ],
  "sign.wrong": ["That is neither a valid API key nor an admin token.", "Das ist weder ein gültiger API-Schlüssel noch ein Admin-Token."],
  "sign.over": ["The session is over.", "Die Sitzung ist beendet."],
  "portal.over": ["This session has ended", "Diese Sitzung ist beendet"],
  "portal.renewing": ["A new one was asked for. This page goes on by itself when it comes.", "Eine neue wurde angefordert. Die Seite geht von selbst weiter, wenn sie da ist."],
  "portal.refused": [
    "The one that came in its place is not valid, so this page asks no more. Open it again from where you came, or tell whoever runs that page.",
    "Die an ihrer Stelle kam, gilt nicht, deshalb fragt diese Seite nicht weiter. Öffne sie noch einmal von dort, wo du herkamst, oder sag es den Betreibern jener Seite.",
  ],
  "portal.reopen": ["Open this page again from where you came.", "Öffne die Seite noch einmal von dort, wo du herkamst."],
  "portal.renew": ["Ask again", "Noch einmal anfordern"],
  "portal.back": ["Back", "Zurück"],
  "portal.title": ["Webhooks", "Webhooks"],
};
