// Texts of the portal's settings.

/** @type {import("../texts.js").Texts} */
export const portalSettings = {
  "portal.saved": ["Saved. Pages that are open show it when they are loaded again.", "Gespeichert. Offene Seiten zeigen es nach dem Neuladen."],
  "portal.name": ["Name", "Name"],
  "portal.origins": ["Origins that may embed the portal, one a line", "Ursprünge, die das Portal einbetten dürfen, einer je Zeile"],
  "portal.logo": ["Logo: SVG or PNG, up to 64 KiB", "Logo: SVG oder PNG, bis 64 KiB"],
  "portal.logo.remove": ["Remove the logo", "Logo entfernen"],
  "portal.primary_color": ["Colour of the head", "Farbe der Kopfzeile"],
  "portal.accent_color": ["Colour of buttons and links", "Farbe von Knöpfen und Links"],
  "portal.dark_primary_color": ["Colour of the head, dark", "Farbe der Kopfzeile, dunkel"],
  "portal.dark_accent_color": ["Colour of buttons and links, dark", "Farbe von Knöpfen und Links, dunkel"],
};
