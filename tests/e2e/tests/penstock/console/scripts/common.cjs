// What the scripts share: a browser whose pages are watched, and a talk in lines with the test.

const { chromium } = require("playwright-core");
const fs = require("node:fs");
const readline = require("node:readline");

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Says something to the test, and waits for its answer. */
exports.step = async (...words) => {
  console.log(words.join(" "));
  const { value, done } = await lines.next();
  if (done) throw new Error("the test has ended");
  return value;
};

/** Has the test print a line. */
const note = (text) => console.log(`note ${text}`);

const check = (right, text) => {
  if (!right) throw new Error(text);
};

exports.check = check;

/** A browser context. Whatever a page should not do is an error at the end. */
exports.open = async (options = {}) => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"], timeout: 120_000 });
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1024, height: 700 }, ...options });
  context.setDefaultTimeout(60_000);
  const faults = [];
  const watch = (page) => {
    page.on("pageerror", (error) => faults.push(`an error of the page: ${error.stack}`));
    page.on("dialog", (dialog) => faults.push(`a script of a payload ran: ${dialog.message()}`));
    page.on("console", (message) => {
      const text = message.text();
      if (/Content Security Policy|Trusted/.test(text) && !/frame-ancestors/.test(text)) faults.push(text);
    });
    page.on("request", (request) => {
      const { protocol, hostname } = new URL(request.url());
      const isOwn = ["data:", "blob:", "chrome-error:"].includes(protocol) || hostname === "127.0.0.1";
      if (!isOwn) faults.push(`a request to ${request.url()}`);
    });
  };
  context.on("page", watch);
  const close = async () => {
    await browser.close();
    if (faults.length > 0) throw new Error(faults.join("\n"));
  };
  return { context, close };
};

/** Goes to an address without what the browser keeps of it, and notes when the page first shows something. */
exports.paint = async (page, name, address) => {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  await page.goto(address);
  const time = await page.evaluate(() => new Promise((resolve) => {
    const look = (list) => list.getEntriesByName("first-contentful-paint").forEach((entry) => resolve(entry.startTime));
    new PerformanceObserver(look).observe({ type: "paint", buffered: true });
  }));
  await session.detach();
  note(`first contentful paint of ${name}: ${Math.round(time)} ms`);
};

/** A PNG as WebP, which is a third of it, by the browser itself. */
const packed = async (browser, png) => {
  const page = await browser.newPage();
  const text = await page.evaluate(async (source) => {
    const bytes = Uint8Array.from(atob(source), (c) => c.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.6 });
    if (blob.type !== "image/webp") throw new Error(`the browser writes ${blob.type} in place of WebP`);
    const written = Array.from(new Uint8Array(await blob.arrayBuffer()), (byte) => String.fromCharCode(byte));
    return btoa(written.join(""));
  }, png.toString("base64"));
  await page.close();
  return Buffer.from(text, "base64");
};

/** A picture of a page, where the variable `SCREENSHOTS` names a folder for them: `dead-deliveries-phone.webp`. */
const picture = async (page, name, kind) => {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  fs.mkdirSync(folder, { recursive: true });
  const png = await page.screenshot();
  fs.writeFileSync(`${folder}/${name.replaceAll(" ", "-")}-${kind}.webp`, await packed(page.context().browser(), png));
};

/**
 * What axe finds in a frame that keeps people out, in both schemes. A page of its own is also to fit a phone, and there are pictures
 * of it. Its name has small letters and spaces.
 */
const barriers = async (page, frame, name) => {
  check(/^[a-z ]+$/.test(name), `${name} is no name of a file`);
  const isWhole = page.mainFrame() === frame;
  await frame.locator(".loading").first().waitFor({ state: "detached" });
  const axe = require.resolve("axe-core/axe.min.js");
  const source = fs.readFileSync(axe, "utf8");
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    if (isWhole) await picture(page, name, colorScheme);
    await frame.evaluate(source);
    const { violations } = await frame.evaluate(() =>
      globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }),
    );
    for (const { id, impact, nodes } of violations) {
      if (impact === "serious" || impact === "critical") found.push(`${name}, ${colorScheme}: ${id} at ${nodes.map((node) => node.html)}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  if (isWhole) {
    const before = page.viewportSize();
    await page.setViewportSize({ width: 360, height: 740 });
    const width = await frame.evaluate(() => document.documentElement.scrollWidth);
    await picture(page, name, "phone");
    if (width > 360) found.push(`${name} is ${width} px wide on a phone`);
    await page.setViewportSize(before);
  }
  if (found.length > 0) throw new Error(found.join("\n"));
};

exports.barriers = barriers;

/** What one does in the console. */
exports.hands = (page) => {
  const main = page.mainFrame();
  return {
    menu: (name) => page.getByRole("navigation", { name: "Main" }).getByRole("link", { name, exact: true }).click(),
    look: (name) => barriers(page, main, name),
    signIn: async (credential) => {
      await page.getByLabel("API key or admin token").fill(credential);
      await page.getByRole("button", { name: "Sign in" }).click();
    },
  };
};

/** Runs a script, and ends the process with its outcome. */
exports.main = (script) => {
  script().then(
    () => {
      console.log("done");
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
};
