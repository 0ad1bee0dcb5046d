// Texts of dead and waiting deliveries, and of recoveries.

/** @type {import("../texts.js").Texts} */
export const dead = {
  "dead.title": ["Dead deliveries", "Aufgegebene Zustellungen"],
  "dead.none": ["None.", "Keine."],
  "deliveries.further": ["None on this page. There may be some on the next.", "Keine auf dieser Seite. Auf der nächsten sind vielleicht welche."],
  "dead.calm": ["No endpoint has dead deliveries.", "Kein Endpunkt hat aufgegebene Zustellungen."],
  "dead.causes": ["Deliveries and cause", "Zustellungen und Ursache"],
  "dead.untried": ["without an attempt", "ohne Versuch"],
  "dead.oldest": ["Oldest event", "Ältestes Ereignis"],
  "dead.choose": ["Choose {endpoint}", "{endpoint} auswählen"],
  "dead.all": ["Choose all or none", "Alle oder keine auswählen"],
  "dead.recover": ["Deliver those of {count} endpoints again", "Die von {count} Endpunkten noch einmal zustellen"],
  "dead.recover.one": ["Deliver those of 1 endpoint again", "Die von 1 Endpunkt noch einmal zustellen"],
  "dead.recover.lost": ["Every dead delivery of these endpoints is tried again, whatever its cause, from the oldest on.", "Jede aufgegebene Zustellung dieser Endpunkte wird noch einmal versucht, gleich aus welcher Ursache, von der ältesten an."],
  "dead.started": ["Started:", "Begonnen:"],
  "pending.title": ["Waiting deliveries", "Wartende Zustellungen"],
  "dead.outcome": ["Cause", "Ursache"],
  "dead.count": ["Deliveries", "Zustellungen"],
  "dead.show": ["Show", "Zeigen"],
  "recover.title": ["Recover", "Nachholen"],
  "recover.since": ["Events since", "Ereignisse seit"],
  "recover.pace": ["Deliveries a second", "Zustellungen je Sekunde"],
  "recover.start": ["Deliver dead ones again", "Aufgegebene noch einmal zustellen"],
  "recover.progress": ["{recovered} of {matched} are due again", "{recovered} von {matched} sind wieder fällig"],
  "recover.cancel": ["Stop", "Anhalten"],
  "recover.cancel.lost": ["Deliveries that are not due again yet stay dead.", "Was noch nicht wieder fällig ist, bleibt aufgegeben."],
};
