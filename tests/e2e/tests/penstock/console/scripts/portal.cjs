// The portal in a frame of another origin: one tenant's events only, until its token expires and is renewed, or what comes is refused.

const http = require("node:http");
const { barriers, check, hands, main, open, paint, step } = require("./common.cjs");

const [foreignEvent, foreignEndpoint] = process.argv.slice(2);

/** A page of another origin that embeds the portal, and renews its token when it is asked. */
const embedder = (url) => `<!doctype html><title>Platform</title><iframe src="${url}" width="900" height="700" title="Webhooks"></iframe>
<script>
  const frame = document.querySelector("iframe");
  addEventListener("message", async (event) => {
    if (event.data.type !== "penstock:renew") return;
    globalThis.asked = (globalThis.asked ?? 0) + 1;
    const token = await (await fetch("/token")).text();
    frame.contentWindow.postMessage({ type: "penstock:token", token }, event.origin);
  });
</script>`;

const serve = async (answer) => {
  const server = http.createServer(async (request, response) => {
    const body = request.url === "/favicon.ico" ? "" : await answer(request.url);
    response.setHeader("Content-Type", request.url === "/" ? "text/html" : "text/plain");
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
};

main(async () => {
  const { context, close } = await open();
  let url = "";
  const platform = await serve(async (path) => (path === "/token" ? step("renew") : embedder(url)));
  const stranger = await serve(async () => embedder(url));
  url = await step("origin", platform);

  const page = await context.newPage();
  await page.goto(platform);
  const portal = page.frameLocator("iframe");
  await portal.getByRole("heading", { name: "Overview" }).waitFor();
  await portal.getByText("Acme hooks").waitFor();
  const frame = page.frames()[1];
  check(!frame.url().includes("token"), "the token stays in the address");
  check(!(await page.evaluate(() => globalThis.asked)), "a valid token is renewed");
  await barriers(page, frame, "portal in a frame");
  check((await portal.getByRole("link", { name: "Tenants" }).count()) === 0, "a tenant sees the others");
  await portal.getByRole("link", { name: "Events" }).click();
  await portal.getByRole("link", { name: "acme.event" }).waitFor();
  check((await portal.getByText("globex.event").count()) === 0, "an event of another tenant");
  await barriers(page, frame, "events in a frame");
  for (const path of [`events/${foreignEvent}`, `endpoints/${foreignEndpoint}`, "keys", "tenants"]) {
    await frame.evaluate((to) => (location.hash = `/${to}`), path);
    await portal.getByText("There is nothing here").first().waitFor();
  }
  await portal.getByRole("link", { name: "Endpoints" }).click();
  await portal.getByRole("button", { name: "New endpoint" }).click();
  await portal.getByLabel("URL").fill("https://acme.example/hook");
  await portal.getByLabel("Event types").fill("user.made");
  await portal.getByRole("button", { name: "Save" }).click();
  await portal.getByText("must be some of acme.*").first().waitFor();
  await portal.getByLabel("Event types").fill("acme.event");
  await portal.getByRole("button", { name: "Save" }).click();
  await portal.getByText("whsec_").waitFor();
  await barriers(page, frame, "secret in a frame");

  // The same as a page of its own, which phones have.
  const whole = await context.newPage();
  const { look } = hands(whole);
  await paint(whole, "/portal", url);
  await whole.getByText("Every endpoint takes its deliveries").waitFor();
  check((await whole.title()) === "Overview – Acme hooks", await whole.title());
  await look("portal");
  await whole.getByRole("link", { name: "Events" }).click();
  await whole.getByRole("link", { name: "acme.event" }).waitFor();
  await look("portal events");
  await whole.getByRole("link", { name: "Endpoints" }).click();
  await whole.getByRole("link", { name: "https://acme.example/hook" }).waitFor();
  await look("portal endpoints");
  await whole.getByRole("button", { name: "New endpoint" }).click();
  await look("portal endpoint form");
  await whole.getByRole("button", { name: "Cancel" }).click();
  await whole.getByRole("link", { name: "https://acme.example/hook" }).click();
  await whole.getByRole("button", { name: "Edit", exact: true }).click();
  const dialog = whole.getByRole("dialog");
  await dialog.getByRole("button", { name: "Try the filter on recent events" }).click();
  await dialog.getByRole("cell", { name: "acme.event" }).waitFor();
  check((await dialog.getByRole("link").count()) === 0, "a link opens a page that has no token");
  await whole.keyboard.press("Escape");
  await page.bringToFront();

  // In a browser whose clock is wrong, and after the server could not be reached, without the token in the address.
  const wrong = await context.newPage();
  await wrong.addInitScript(() => {
    const now = Date.now;
    Date.now = () => now() + 864_000_000;
  });
  await wrong.route("**/v1/portal/session", (route) => route.abort());
  await wrong.goto(url);
  await wrong.getByText("The server cannot be reached").waitFor();
  await wrong.unroute("**/v1/portal/session");
  await wrong.getByRole("button", { name: "Try again" }).click();
  await wrong.getByRole("link", { name: "Events" }).click();
  await wrong.getByRole("link", { name: "acme.event" }).waitFor();
  await wrong.close();
  await page.bringToFront();

  const other = await context.newPage();
  await other.goto(stranger);
  await other.waitForLoadState("load");
  check(other.frames()[1].url().startsWith("chrome-error:"), `a page of any origin embeds ${other.frames()[1].url()}`);
  await other.close();

  // The test gives a token that lasts for seconds, and ends the first one. What stands in a form stays.
  await portal.getByRole("button", { name: "Close" }).click();
  await portal.getByRole("button", { name: "New endpoint" }).click();
  await portal.getByLabel("URL").fill("https://acme.example/half");
  await step("end");
  await page.waitForFunction(() => globalThis.asked >= 1);
  await portal.getByText("This session has ended").waitFor({ state: "detached" });
  await page.waitForFunction(() => globalThis.asked >= 2);
  await portal.getByText("This session has ended").waitFor({ state: "detached" });
  await portal.locator("input:focus").waitFor();
  const typed = await portal.locator("input:focus").inputValue();
  check(typed === "https://acme.example/half", `${typed} is in the form of before`);
  const title = await frame.title();
  check(title === "Endpoints – Acme hooks", `the title is ${title}`);
  await portal.getByLabel("Event types").fill("acme.event");
  await portal.getByRole("button", { name: "Save" }).click();
  await portal.getByText("whsec_").waitFor();
  await portal.getByRole("button", { name: "Close" }).click();
  await portal.getByRole("link", { name: "https://acme.example/half" }).waitFor();
  await whole.bringToFront();
  await whole.getByText("This session has ended").waitFor();
  await look("portal over");

  // The page around it has none but a dead token, until it is asked by hand.
  await page.bringToFront();
  await step("end");
  await portal.getByText("this page asks no more").waitFor();
  await barriers(page, frame, "portal refused in a frame");
  check((await page.evaluate(() => globalThis.asked)) === 3, "another token is asked for after one was refused");
  await portal.getByRole("button", { name: "Ask again" }).click();
  await portal.getByRole("link", { name: "Endpoints" }).waitFor();
  await close();
});
