// What was used, who was refused, and how an endpoint did in the last day.

const fs = require("node:fs");
const { check, hands, main, open, step } = require("./common.cjs");

const [url, key, adminToken] = process.argv.slice(2);

main(async () => {
  const { context, close } = await open();
  const page = await context.newPage();
  const { look, menu, signIn } = hands(page);

  await page.goto(`${url}/console#/usage`);
  await signIn(key);
  await page.getByText("1,300 of 2,000 events, 65 %").waitFor();
  await page.getByRole("progressbar", { name: "Quota of the month" }).waitFor();
  await page.getByRole("img", { name: "Events accepted, each bar a day" }).waitFor();
  await look("usage");
  const coming = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download as CSV" }).click();
  const csv = fs.readFileSync(await (await coming).path(), "utf8");
  check(csv.startsWith("organization_id,day,tenant,accepted,bytes,") && csv.includes(",acme,1234,5000000,"), csv);
  await page.getByRole("button", { name: "By tenant" }).click();
  await page.getByRole("link", { name: "acme", exact: true }).waitFor();
  await page.reload();
  await page.getByRole("link", { name: "acme", exact: true }).click();
  await page.getByText("1,234 of 1,300 events").waitFor();
  await page.getByText("nearly used up").waitFor();
  await look("usage of a tenant");
  await page.getByLabel("Month (UTC)").selectOption({ index: 1 });
  await page.getByRole("button", { name: "Show", exact: true }).click();
  await page.getByText("Nothing was used in this month").waitFor();
  await look("no usage");

  await step("refuse");
  await menu("Overview");
  await page.getByRole("link", { name: "globex" }).waitFor();
  await look("overview with a refused tenant");

  await menu("Endpoints");
  await page.getByText(/^9\d(\.\d)? % · p95 \d+ ms$/).waitFor();
  await page.getByRole("main").getByRole("link").first().click();
  await page.getByRole("heading", { name: "The last 24 hours" }).waitFor();
  await page.getByRole("img", { name: "Attempts, each bar an hour" }).waitFor();
  await page.getByRole("img", { name: "How long attempts took, each bar an hour" }).waitFor();
  await look("endpoint with figures");
  await page.getByRole("button", { name: "Sign out" }).click();

  await signIn(adminToken);
  await menu("Usage");
  await page.getByRole("main").getByRole("link", { name: "test", exact: true }).waitFor();
  await look("usage of all organisations");
  await page.getByRole("main").getByRole("link", { name: "test", exact: true }).click();
  await page.getByText("1,300 of 2,000 events, 65 %").waitFor();
  await page.getByRole("button", { name: "By tenant" }).waitFor();
  await menu("System");
  await page.getByRole("heading", { name: "Workers", exact: true }).waitFor();
  await page.getByRole("cell").first().waitFor();
  await close();
});
