// JSON as text. A payload is shown as its producer wrote it: parsing would change numbers such as 1e400.

/**
 * Where a JSON value that begins at `start` ends.
 * @param {string} text
 * @param {number} start
 */
function end(text, start) {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const c = text[at];
    if (c === '"') {
      at += 1;
      while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    } else if (c === "{" || c === "[") depth += 1;
    else if (c === "}" || c === "]") {
      if (depth === 0) return at;
      depth -= 1;
    } else if (c === "," && depth === 0) return at;
  }
  return text.length;
}

/**
 * The text of a member of a JSON object; null when it has none of this name.
 * @param {string} object
 * @param {string} name
 * @returns {string | null}
 */
export function member(object, name) {
  let at = object.indexOf("{") + 1;
  while (at > 0 && at < object.length) {
    const colon = object.indexOf('"', at);
    if (colon < 0) return null;
    let close = colon + 1;
    while (close < object.length && object[close] !== '"') close += object[close] === "\\" ? 2 : 1;
    const key = JSON.parse(object.slice(colon, close + 1));
    const start = object.indexOf(":", close) + 1;
    const stop = end(object, start);
    if (key === name) return object.slice(start, stop).trim();
    if (object[stop] !== ",") return null;
    at = stop + 1;
  }
  return null;
}

/**
 * JSON with line breaks and spaces between its parts, which themselves stay as they are.
 * @param {string} text
 */
export function pretty(text) {
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at] ?? "";
    if (c === '"') {
      const start = at;
      at += 1;
      while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
      out += text.slice(start, at + 1);
    } else if (c === "{" || c === "[") {
      const rest = text.slice(at + 1).match(/^\s*[}\]]/);
      if (rest) {
        out += c + rest[0].trim();
        at += rest[0].length;
      } else {
        depth += 1;
        out += c + line();
      }
    } else if (c === "}" || c === "]") {
      depth -= 1;
      out += line() + c;
    } else if (c === ",") out += c + line();
    else if (c === ":") out += ": ";
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}
