// The form of an endpoint: how its webhooks are signed, and what else its requests show. No secret comes back.

const { check, hands, main, open, step } = require("./common.cjs");

const [url, key, receiver] = process.argv.slice(2);

/** What nobody is to see again. */
const SECRETS = ["canary-hub", "canary-password", "canary-token", "canary-header"];

main(async () => {
  const { context, close } = await open();
  const page = await context.newPage();
  const { look, menu, signIn } = hands(page);
  const form = page.getByRole("dialog");
  const scheme = (number) => form.getByRole("group", { name: `Scheme ${number}` });
  const show = (part) => form.getByText(part, { exact: true }).click();
  const edit = () => page.getByRole("button", { name: "Edit", exact: true }).click();
  const save = () => form.getByRole("button", { name: "Save" }).click();
  const auth = (kind) => form.getByLabel("Kind of credentials").selectOption(kind);
  const noSecretIsShown = async () => {
    const fields = () => Array.from(document.querySelectorAll("input, textarea"), (field) => field.value).join("\n");
    const shown = `${await page.content()}\n${await page.evaluate(fields)}`;
    for (const secret of SECRETS) check(!shown.includes(secret), `${secret} is in the page`);
  };

  await page.goto(`${url}/console#/endpoints`);
  await signIn(key);
  await page.getByRole("button", { name: "New endpoint" }).click();
  await form.getByLabel("URL").fill(receiver);
  await form.getByLabel("Whose events").selectOption("all");
  await show("Request and body");
  await form.getByLabel("Method").selectOption("PUT");
  await form.getByLabel("Form of the body").selectOption("raw");
  await form.getByRole("button", { name: "Add a header" }).click();
  await form.getByLabel("Name of the header", { exact: true }).fill("X-Shop");
  await form.getByLabel("Value", { exact: true }).fill("canary-header");
  await look("endpoint form");
  await show("Signed with");
  await form.getByRole("button", { name: "Add a scheme" }).click();
  await scheme(2).getByLabel("Scheme", { exact: true }).selectOption("github");
  await show("Credentials");
  await auth("basic");
  await form.getByLabel("User name").fill("a:b");
  await save();
  await form.locator(":focus[aria-invalid=true]").waitFor();
  for (const field of [scheme(2).getByLabel("Secret", { exact: true }), form.getByLabel("User name")]) {
    check((await field.getAttribute("aria-invalid")) === "true", "a wrong field is not marked");
  }
  check((await form.getByLabel("URL").getAttribute("aria-invalid")) === "false", "a right field is marked");
  await look("signatures with errors");
  await scheme(2).getByLabel("Secret", { exact: true }).fill("canary-hub");
  await form.getByLabel("User name").fill("shop");
  await form.getByLabel("Password").fill("canary-password");
  await save();
  const secret = await page.locator("code.secret").textContent();
  await page.keyboard.press("Escape");
  await page.getByRole("link", { name: receiver }).click();
  await page.getByRole("button", { name: "Edit", exact: true }).waitFor();
  await noSecretIsShown();
  await step("made", page.url().split("/").pop(), secret);

  await edit();
  await show("Signed with");
  check((await scheme(2).getByLabel("Scheme", { exact: true }).inputValue()) === "github", "a preset is not known again");
  await show("Request and body");
  await form.getByLabel("Value of X-Shop").waitFor();
  await noSecretIsShown();
  await scheme(2).getByLabel("Until").fill("2040-05-05T12:00");
  await form.getByRole("button", { name: "Add a scheme" }).click();
  await scheme(3).getByLabel("Scheme", { exact: true }).selectOption("hmac");
  await scheme(3).scrollIntoViewIfNeeded();
  await look("signatures");
  await scheme(3).getByLabel("Scheme", { exact: true }).selectOption("ed25519");
  await show("Credentials");
  await auth("mtls");
  await form.getByLabel("Certificate (PEM)").waitFor();
  await look("client certificate");
  await auth("oauth2_client_credentials");
  await form.getByLabel("Client secret").scrollIntoViewIfNeeded();
  await look("credentials");
  await auth("bearer");
  await form.getByLabel("Token", { exact: true }).fill("canary-token");
  await show("Limits and order");
  await form.getByLabel("In order within a key").selectOption("true");
  await form.getByLabel("When its attempts end").selectOption("block");
  await show("Retries");
  await form.getByLabel("Attempts", { exact: true }).fill("3");
  await form.getByLabel("First wait, in seconds").fill("0.5");
  await look("limits and retries");
  await save();
  await page.getByText("whpk_").first().waitFor();
  await noSecretIsShown();
  await look("endpoint with a public key");

  // The test tells the names of the headers that came. The same ones are shown, without their values.
  const address = page.url();
  const names = await step("changed");
  await menu("Events");
  await page.getByRole("main").getByRole("link", { name: "a", exact: true }).first().click();
  await page.getByText("Request headers", { exact: true }).first().click();
  const headers = (await page.locator("pre.headers").first().textContent()).split("\n");
  const shown = headers.map((header) => header.split(": ")[0]).sort().join(" ");
  check(shown === names, `${shown} are shown, and ${names} came`);
  for (const header of ["authorization: (hidden)", "x-shop: (hidden)", "x-hub-signature-256: (not kept)"]) {
    check(headers.includes(header), `${header} is not in:\n${headers.join("\n")}`);
  }
  await noSecretIsShown();
  await page.goto(address);

  await edit();
  await show("Credentials");
  await auth("none");
  await form.getByText("It is removed when this is saved").waitFor();
  await save();
  await form.waitFor({ state: "detached" });
  await step("removed");
  await close();
});
