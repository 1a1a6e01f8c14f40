// A first evening with a web client: Hydrogen in a headless browser, on the hub whose address is the first argument.
// Alice and Bob have accounts there; HEARTH_PASSWORD is the password of both, HEARTH_CHROMIUM the browser. Pictures
// of each step are left in the folder HEARTH_SHOTS, where one is named.
//
// Every step throws where the hub does not do its part, and the process then ends with 1.
import path from "node:path";
import { crc32, deflateSync } from "node:zlib";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const hub = process.argv[2];
const password = process.env.HEARTH_PASSWORD;
const shots = process.env.HEARTH_SHOTS;
const patience = 30_000; // when a condition is given up: it decides nothing that passes
const began = Date.now();
const refused = []; // what the hub said no to

function must(ok, what) {
  if (!ok) throw new Error(what);
}

async function step(page, text) {
  console.log(`${String(Date.now() - began).padStart(6)} ms  ${text}`);
  if (shots) await page.screenshot({ path: path.join(shots, text.replaceAll(/\W+/g, "-") + ".png") });
}

// login brings up one user's browser.
async function login(browser, address, user) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on("pageerror", (e) => console.log(`${user}'s page: ${e.message}`));
  page.on("response", (r) => {
    if (r.url().startsWith(hub) && r.status() >= 400) refused.push(`${r.status()} ${r.request().method()} ${new URL(r.url()).pathname}`);
  });
  await page.goto(`${address}?hub=${encodeURIComponent(hub)}`);
  await page.locator("#username").fill(user);
  await page.locator("#password").fill(password);
  await page.locator("button[type=submit]").click();
  await page.locator(".LeftPanel").waitFor();
  await step(page, `${user} is logged in`);
  return page;
}

// picture is a PNG of some colours.
function picture(width, height) {
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows.set([(x * 255) / width, (y * 255) / height, 128], y * (width * 3 + 1) + 1 + x * 3);
  }
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const out = Buffer.alloc(body.length + 8);
    out.writeUInt32BE(data.length);
    body.copy(out, 4);
    out.writeUInt32BE(crc32(body), body.length + 4);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

async function say(page, text) {
  const box = page.locator(".MessageComposer textarea");
  await box.fill(text);
  await box.press("Enter");
  await page.locator(".Timeline_message:not(.unsent)", { hasText: text }).waitFor();
}

async function talk(alice, bob) {
  await alice.locator(".LeftPanel .create").first().click();
  await alice.getByText("Create Room").first().click();
  await alice.locator("#name").fill("Greenhouse");
  await alice.locator("#isPublic").check();
  await alice.locator("#roomAlias").fill("greenhouse");
  await alice.locator("button[type=submit]").click();
  // This release forgets to wait for the new room's id before it goes there (the error of its page), so alice does.
  await alice.locator(".RoomList a", { hasText: "Greenhouse" }).click();
  await alice.locator(".MessageComposer textarea").waitFor();
  await step(alice, "a room is created");
  await say(alice, "The first tomatoes are red.");
  await step(alice, "text is sent");

  await bob.locator(".LeftPanel .create").first().click();
  await bob.getByText("Join Room", { exact: false }).first().click();
  await bob.locator("#id").fill("#greenhouse:hub.test");
  await bob.locator("button[type=submit]").click();
  const first = bob.locator(".Timeline_message", { hasText: "The first tomatoes are red." });
  await first.waitFor();
  await step(bob, "bob has joined by the alias and reads what was said before");

  const [chooser] = await Promise.all([
    alice.waitForEvent("filechooser"),
    alice.locator("button.sendFile").click().then(() => alice.getByText("Send picture").click()),
  ]);
  await chooser.setFiles({ name: "tomatoes.png", mimeType: "image/png", buffer: picture(320, 200) });
  const shown = bob.locator(".Timeline_message .media img");
  await shown.waitFor();
  await bob.waitForFunction(() => document.querySelector(".Timeline_message .media img")?.naturalWidth > 0);
  await step(bob, "a picture is sent, and drawn by bob");

  await first.hover();
  await first.locator("button.Timeline_messageOptions").click();
  await bob.locator(".quick-reactions button").first().click();
  await alice.locator(".Timeline_messageReactions button", { hasText: "👍" }).waitFor();
  await step(alice, "bob reacts, and alice sees it");

  await say(bob, "Save me one!");
  await alice.locator(".Timeline_message", { hasText: "Save me one!" }).waitFor();
  await step(alice, "bob answers");
}

const page = await serve();
const browser = await chromium.launch({ executablePath: process.env.HEARTH_CHROMIUM, args: ["--no-sandbox"] });
try {
  const alice = await login(browser, page.url, "alice");
  const bob = await login(browser, page.url, "bob");
  await talk(alice, bob);
  for (const p of [alice, bob]) {
    await p.reload();
    await p.locator(".Timeline_message", { hasText: "Save me one!" }).waitFor();
    await step(p, "the page is loaded again");
    await p.locator(".RoomList .badge:not(.hidden)").waitFor({ state: "detached" });
    await step(p, "and the room is read");
  }
  // Asking for what may be there, and is not, is no fault.
  const faults = refused.filter((r) => !r.startsWith("404 GET"));
  must(faults.length === 0, `the hub refused:\n${faults.join("\n")}`);
  console.log("done");
} catch (e) {
  console.log(`the hub refused:\n${refused.join("\n")}`);
  for (const [i, context] of browser.contexts().entries()) await step(context.pages()[0], `it failed, browser ${i}`);
  throw e;
} finally {
  await browser.close();
  page.end();
}
