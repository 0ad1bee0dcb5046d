// The commands that the pages of events offer to copy.

const { check, hands, main, open, step } = require("./common.cjs");

const [url, key, ...events] = process.argv.slice(2);

main(async () => {
  const { context, close } = await open();
  await context.addInitScript(() => {
    const writeText = async (text) => {
      globalThis.copied = text;
    };
    Object.assign(navigator.clipboard ?? {}, { writeText });
  });
  const first = await context.newPage();
  await first.goto(`${url}/console#/events`);
  await hands(first).signIn(key);
  await first.getByRole("heading", { name: "Events" }).waitFor();
  for (const event of events) {
    const page = await context.newPage();
    await page.goto(`${url}/console#/events/${event}`);
    // From before the click on: it is shown for two seconds.
    const shown = page.waitForFunction(() =>
      Array.from(document.querySelectorAll("button"), (button) => button.textContent).includes("Copied"),
    );
    await page.getByRole("button", { name: "Copy as curl" }).click();
    await shown;
    const command = await page.evaluate(() => globalThis.copied);
    check(!command.includes(key), "the command holds the key");
    await step("command", JSON.stringify(command));
    await page.close();
  }

  // As on a page that did not come over HTTPS.
  const plain = await context.newPage();
  await plain.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await plain.goto(`${url}/console#/events/${events[0]}`);
  await plain.getByRole("button", { name: "Copy as curl" }).click();
  await plain.getByText("The browser does not let this page copy").waitFor();
  const field = plain.locator("textarea:focus");
  const [text, selected] = await field.evaluate(({ value, selectionStart, selectionEnd }) => [value, value.slice(selectionStart, selectionEnd)]);
  check(text.startsWith("curl ") && selected === text, `${selected} is selected of ${text}`);
  await close();
});
