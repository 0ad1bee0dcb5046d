// Texts of the live tail.

/** @type {import("../texts.js").Texts} */
export const live = {
  "live.type": ["Type, or a prefix with *", "Typ, oder ein Anfang mit *"],
  "live.tenant": ["Tenant", "Mandant"],
  "live.endpoint": ["Endpoint id", "Endpunkt-ID"],
  "live.status": ["Delivery afterwards", "Zustellung danach"],
  "live.apply": ["Apply", "Anwenden"],
  "live.pause": ["Pause", "Pause"],
  "live.paused": ["Paused. What happens meanwhile is not shown.", "Pausiert. Was inzwischen geschieht, wird nicht gezeigt."],
  "live.on": ["Listening. The newest is on top.", "Hört zu. Das Neueste steht oben."],
  "live.empty": ["Nothing has happened since this page was opened.", "Seit diese Seite offen ist, ist nichts geschehen."],
  "live.skipped": ["Up to {count} were not shown: there was too much at once.", "Bis zu {count} wurden nicht gezeigt: Es war zu viel auf einmal."],
  "live.skipped.one": ["One may not be shown: there was too much at once.", "Vielleicht wird eines nicht gezeigt: Es war zu viel auf einmal."],
  "live.skipped.unknown": ["Some may not be shown: the connection was away for too long, or there was too much at once.", "Vielleicht wird etwas nicht gezeigt: Die Verbindung war zu lange weg, oder es war zu viel auf einmal."],
};
