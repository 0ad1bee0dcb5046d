// Where one is in the console, and what it says when something is wrong. The script answers in the server's place where it must.

const { check, hands, main, open } = require("./common.cjs");

const [url, key, adminToken] = process.argv.slice(2);

main(async () => {
  const { context, close } = await open();
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

  await page.getByRole("button", { name: "Sign out" }).click();
  await isAt("Penstock console", "Sign in");
  await signIn(adminToken);
  await menu("Organisations");
  await isAt("Organisations");
  await page.getByRole("link", { name: "test", exact: true }).click();
  await isAt("test");
  await page.getByRole("heading", { name: "Keys", level: 2 }).waitFor();
  await close();
});
