// Where one is in the console, and what it says when something is wrong. The script answers in the server's place where it must.

const { check, hands, main, open } = require("./common.cjs");

const [url, key, adminToken, endpoint] = process.argv.slice(2);

const isFor = (path) => (request) => new URL(request.url()).pathname === path;

/** Answers in the server's place, and returns when the page has asked. The body may depend on the address. */
const answer = async (page, path, status, body, headers = {}) => {
  const asked = [];
  await page.route(({ pathname }) => pathname === path, (route) => {
    asked.push(Date.now());
    const text = JSON.stringify(typeof body === "function" ? body(new URL(route.request().url())) : body);
    return route.fulfill({ status, headers, contentType: "application/json", body: text });
  });
  return asked;
};

/** An event with a delivery that has ended. */
const delivered = (id) => {
  const at = new Date().toISOString();
  const attempt = { number: 1, outcome: "delivered", response_status: 204, response_body: null, error: null, started_at: at, duration_ms: 1 };
  const delivery = { endpoint_id: id, status: "delivered", next_attempt_at: null, last_outcome: "delivered", attempt_log: [attempt] };
  return { id, type: "a", content_type: "application/json", accepted_at: at, data: 1, deliveries: [delivery] };
};

main(async () => {
  const { context, close } = await open({ timezoneId: "Europe/Berlin" });
  const page = await context.newPage();
  const { menu, signIn } = hands(page);
  const goTo = (hash) => page.evaluate((to) => (location.hash = to), hash);
  /** Waits for a page whose heading has the focus. */
  const isAt = async (heading, title = heading) => {
    await page.locator("h1:focus", { hasText: heading }).waitFor();
    const shown = await page.title();
    check(shown === `${title} – Penstock`, `the title of ${title} is ${shown}`);
  };

  await page.goto(`${url}/console`);
  await isAt("Penstock console", "Sign in");
  await signIn(key);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  check((await page.title()) === "Overview – Penstock", "the first page has no title");
  await page.getByText("Times are those of Europe/Berlin").waitFor();
  for (const name of ["Events", "Endpoints", "Keys"]) {
    await menu(name);
    await isAt(name);
  }
  const nobody = "00000000-0000-4000-8000-000000000000";
  for (const [hash, heading, title] of [
    [`/events/${nobody}`, `Event ${nobody}`],
    [`/endpoints/${nobody}`, "Endpoint", `Endpoint ${nobody}`],
    ["/tenants/a%2Fb%3F", "Tenant a/b?"],
    ["/nowhere", "Not found"],
  ]) {
    await goTo(hash);
    await isAt(heading, title);
    await page.getByText("There is nothing here").first().waitFor();
  }
  await page.goBack();
  await isAt("Tenant a/b?");

  // What a page shows stands in its address, which goes back and survives a reload.
  const isIn = (end) => check(page.url().endsWith(end), `the address is ${page.url()}`);
  const isPressed = (name) => page.getByRole("button", { name, pressed: true }).waitFor();
  await menu("Overview");
  await page.getByRole("button", { name: "A day" }).click();
  await isPressed("A day");
  await page.locator("button:focus", { hasText: "A day" }).waitFor();
  isIn("#/overview?period=day");
  await page.goBack();
  await isPressed("An hour");
  const keyOf = (name) => ({ id: name, name, scopes: ["ingest"], tenant: null, revoked_at: null, expires_at: null, last_used_at: null });
  await answer(page, "/v1/keys", 200, ({ searchParams }) =>
    searchParams.has("cursor") ? { data: [keyOf("older key")], next_cursor: null } : { data: [keyOf("newest key")], next_cursor: "more" },
  );
  await menu("Keys");
  await page.getByRole("button", { name: "Older" }).click();
  await page.getByRole("cell", { name: "older key" }).waitFor();
  isIn("#/keys?cursor=more");
  await page.reload();
  await page.getByRole("cell", { name: "older key" }).waitFor();
  await page.goBack();
  await page.getByRole("cell", { name: "newest key" }).waitFor();
  await page.unrouteAll({ behavior: "wait" });

  // A server that says when to ask again, by way of a proxy that says nothing else.
  const path = "/v1/endpoints";
  const refused = await answer(page, path, 429, {}, { "retry-after": "5" });
  await menu("Endpoints");
  await page.getByText("Try again in 5 s").waitFor();
  check((await page.getByText("undefined").count()) === 0, "what is missing in an answer is shown");
  await page.waitForResponse((response) => isFor(path)(response.request()));
  check(refused.at(-1) - refused.at(-2) >= 4_900, "the next request comes sooner than the answer says");
  await page.unrouteAll({ behavior: "wait" });
  await page.getByRole("link", { name: "fetched, not sent" }).waitFor();

  // An event of which no more is to come. A clock is that of all pages of a context, so it has one of its own.
  const apart = await context.browser().newContext({ storageState: await context.storageState() });
  const settled = await apart.newPage();
  await settled.clock.install();
  const asked = await answer(settled, `/v1/events/${nobody}`, 200, delivered(nobody));
  await settled.goto(`${url}/console#/events/${nobody}`);
  await settled.getByText("Attempt 1").waitFor();
  const before = asked.length;
  // Its answer, and not the request alone: by then it is counted.
  const again = settled.waitForResponse((response) => isFor(`/v1/events/${nobody}`)(response.request()));
  await settled.clock.runFor(16_000);
  await settled.clock.runFor(16_000);
  await again;
  check(asked.length === before + 1, `${asked.length - before} requests in 32 s`);

  // Dead deliveries of which none is left for a while, and what was typed before.
  const group = { endpoint_id: nobody, url: "https://a.example/", outcome: "status", deliveries: 1, capped: false };
  const groups = [{ ...group, oldest_accepted_at: new Date().toISOString() }];
  let shown = groups;
  await answer(settled, "/v1/dead-deliveries", 200, () => ({ groups: shown }));
  await settled.evaluate(() => (location.hash = "/dead"));
  await settled.getByLabel("Deliveries a second").fill("7");
  shown = [];
  await settled.clock.runFor(6_000);
  await settled.getByText("No endpoint has dead deliveries").waitFor();
  shown = groups;
  await settled.clock.runFor(6_000);
  check((await settled.getByLabel("Deliveries a second").inputValue()) === "7", "what was typed is gone");
  await apart.close();

  const tail = await answer(page, "/v1/tail", 503, {}, { "retry-after": "60" });
  await menu("Live");
  await page.getByText("A part of the system is not available").waitFor();
  check(tail.length === 1 && (await page.getByText("Listening").count()) === 0, "it listens to nothing");
  await page.unrouteAll({ behavior: "wait" });

  // Deliveries without an attempt, which the API lists among others, page by page.
  const its = `${path}/${endpoint}/deliveries`;
  const of = (event_type, last_outcome) => ({ event_id: nobody, event_type, accepted_at: new Date().toISOString(), last_outcome });
  await answer(page, `${its}/summary`, 200, {
    pending: { total: 2, capped: false, outcomes: [{ outcome: null, count: 1 }] },
    dead: { total: 0, capped: false, outcomes: [] },
  });
  await answer(page, its, 200, ({ searchParams }) =>
    searchParams.has("cursor") ? { data: [of("new", null)], next_cursor: null } : { data: [of("old", "timeout")], next_cursor: "more" },
  );
  await goTo(`/endpoints/${endpoint}`);
  await page.getByRole("button", { name: "Show", exact: true }).click();
  const dialog = page.getByRole("dialog", { name: "Waiting deliveries: No attempt yet" });
  await dialog.getByText("None on this page").waitFor();
  isIn("?status=pending");
  await dialog.getByRole("button", { name: "Next page" }).click();
  const last = dialog.getByRole("link", { name: "new", exact: true });
  await last.waitFor();
  isIn("?status=pending&cursor=more");
  await page.reload();
  await last.waitFor();
  await page.goBack();
  await dialog.getByText("None on this page").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.waitForURL((address) => !address.hash.includes("?"));
  await page.goBack();
  await dialog.getByRole("button", { name: "Next page" }).click();
  await last.click();
  await isAt(`Event ${nobody}`);
  await page.unrouteAll({ behavior: "wait" });

  // An event that comes while another one's link has the focus.
  const [one, two] = ["1", "2"].map((digit) => ({ ...delivered(nobody.replace("4", digit)), type: `type.${digit}` }));
  let data = [one];
  await answer(page, "/v1/events", 200, () => ({ data, next_cursor: null }));
  await menu("Events");
  await page.getByRole("link", { name: "type.1" }).focus();
  data = [two, one];
  await page.getByRole("link", { name: "type.2" }).waitFor();
  check((await page.locator("a:focus").textContent()) === "type.1", "the focus is on another event");
  await page.unrouteAll({ behavior: "wait" });

  await page.getByRole("button", { name: "Sign out" }).click();
  await isAt("Penstock console", "Sign in");
  await signIn(adminToken);
  await menu("Organisations");
  await isAt("Organisations");
  await page.getByRole("link", { name: "test", exact: true }).click();
  await isAt("test");
  await page.getByRole("heading", { name: "Keys", level: 2 }).waitFor();
  await page.getByLabel("Name", { exact: true }).fill("renamed");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("status").getByText("Saved.").waitFor();
  await page.getByRole("heading", { name: "renamed", level: 1 }).waitFor();
  await close();
});
