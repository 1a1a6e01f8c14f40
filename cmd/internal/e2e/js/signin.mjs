// Signing in by OAuth 2.0, as matrix-js-sdk does it, on the hub whose address is the argument. Alice has an account
// there; the environment's HEARTH_PASSWORD is its password. What a person does in a browser is done on the hub's own
// pages without scripts, by fetch and a jar of cookies.
//
// Every step throws where the hub does not do its part, and the process then ends with 1.
import { lastWords, must, quiet, sdk } from "./device.mjs";

const { OAuth2, createClient } = sdk;
const { TokenRefresher } = await import("matrix-js-sdk/lib/oauth/tokenRefresher.js");

const url = process.argv[2];
const password = process.env.HEARTH_PASSWORD;
const began = Date.now();

function step(text) {
  console.log(`${String(Date.now() - began).padStart(6)} ms  ${text}`);
}

// Browser walks through the hub's pages: it keeps cookies and fills in forms.
class Browser {
  jar = new Map();

  // open looks at a page and follows where the hub sends the browser; what is sent to another address is given back.
  async open(at, form) {
    for (;;) {
      const answer = await fetch(at, {
        method: form ? "POST" : "GET",
        body: form,
        redirect: "manual",
        headers: { cookie: [...this.jar].map(([k, v]) => `${k}=${v}`).join("; ") },
      });
      for (const c of answer.headers.getSetCookie()) {
        const [, k, v] = /^([^=]+)=([^;]*)/.exec(c);
        this.jar.set(k, v);
      }
      this.page = await answer.text();
      const next = answer.headers.get("location");
      if (!next) {
        must(answer.status === 200, `${at}: ${answer.status} ${this.page}`);
        this.at = at;
        return null;
      }
      at = new URL(next, at).href;
      form = undefined;
      if (!at.startsWith(url)) return at;
    }
  }

  // send fills in the form of the page that does what is wanted.
  send(what, fields = {}) {
    const plain = (s) => s.replace(/&(amp|lt|gt|#34|#39);/g, (_, n) => ({ amp: "&", lt: "<", gt: ">", "#34": '"', "#39": "'" })[n]);
    for (const [, action, inside] of this.page.matchAll(/<form method="post" action="([^"]*)">(.*?)<\/form>/gs)) {
      const form = new URLSearchParams();
      for (const [, name, value] of inside.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)) form.set(name, plain(value));
      if (form.get("do") !== what) continue;
      for (const [k, v] of Object.entries(fields)) form.set(k, v);
      return this.open(new URL(plain(action), this.at).href, form);
    }
    throw new Error(`the page has no form ${what}: ${this.page}`);
  }
}

const metadata = await createClient({ baseUrl: url }).getAuthMetadata();
const redirect = "http://127.0.0.1:49152/callback";

// register makes the hub know the client.
async function register() {
  const about = { client_name: "Test client", client_uri: "https://client.example/", application_type: "native", redirect_uris: ["http://127.0.0.1/callback"] };
  const clientId = await OAuth2.registerClient(metadata, about, quiet);
  must((await OAuth2.registerClient(metadata, about, quiet)) === clientId, "the same client was given another id");
  step("the client is registered");
  return clientId;
}

// granted has a person let the client in, and gives the OAuth2 object and its tokens.
async function granted(browser, clientId, mode, through, prompt) {
  const oauth = new OAuth2(metadata, { clientId }, quiet);
  const state = `state ${mode}&`;
  await browser.open(await oauth.generateAuthorizationCodeGrantUrl(state, redirect, mode, prompt));
  await through(browser);
  const came = new URL(await browser.send("allow"));
  const told = new URLSearchParams(mode === "query" ? came.search : came.hash.slice(1));
  must(came.origin + came.pathname === redirect && told.get("state") === state && told.get("iss") === metadata.issuer, `the browser came back to ${came}`);
  const tokens = await oauth.completeAuthorizationCodeGrant(told.get("code"), redirect);
  let twice = null;
  return { oauth, tokens, replay: () => oauth.completeAuthorizationCodeGrant(told.get("code"), redirect).catch((e) => (twice = e)).then(() => twice) };
}

// enter makes the client of a session.
async function enter({ oauth, tokens }) {
  const { clientId, deviceId } = oauth.context;
  const open = { baseUrl: url, deviceId, accessToken: tokens.access_token, refreshToken: tokens.refresh_token, oauthClientId: clientId, logger: quiet };
  const who = await createClient(open).whoami();
  must(who.device_id === deviceId, `the session is of ${JSON.stringify(who)}, not of ${deviceId}`);
  return createClient({ ...open, userId: who.user_id });
}

// ended says that a session's token is good no more.
async function ended(client, why) {
  const e = await fetch(`${url}/_matrix/client/v3/account/whoami`, { headers: { authorization: `Bearer ${client.getAccessToken()}` } });
  must(e.status === 401 && (await e.json()).errcode === "M_UNKNOWN_TOKEN", `${why}: ${e.status}`);
}

// keys replaces the user's cross-signing keys, for which the user gives leave on their account page.
async function keys(browser, client) {
  await client.initRustCrypto({ useIndexedDB: false });
  const crypto = client.getCrypto();
  await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: (request) => request(null) });
  let asked;
  await crypto.bootstrapCrossSigning({
    setupNewCrossSigning: true,
    authUploadDeviceSigningKeys: async (request) => {
      const no = await request(null).catch((e) => e);
      asked = no.data?.params?.["m.oauth"]?.url;
      must(no.httpStatus === 401 && asked?.startsWith(metadata.account_management_uri), `no way to the account page: ${JSON.stringify(no.data)}`);
      must((await request({ session: no.data.session }).catch((e) => e)).httpStatus === 401, "the keys were taken without leave");
      await browser.open(asked);
      await browser.send("reset");
      return request({ session: no.data.session });
    },
  });
  must(asked, "nobody was asked before the keys were replaced");
  step("the cross-signing keys are replaced after leave on the account page");
}

try {
  const clientId = await register();
  const browser = new Browser();
  const first = await granted(browser, clientId, "fragment", (b) => b.send("sign-in", { user: "alice", password }));
  const client = await enter(first);
  must(client.getUserId() === "@alice:hub.test", `alice is ${client.getUserId()}`);
  step("alice signed in on the hub's page, and the code is traded");
  await keys(browser, client);

  const { room_id: room } = await client.createRoom({ name: "Hall" });
  let now;
  const refresher = new TokenRefresher(first.oauth, async (tokens) => (now = tokens));
  await refresher.refreshTokens(first.tokens.refresh_token);
  must(now.expiry > new Date() && now.refreshToken !== first.tokens.refresh_token, "the tokens are not new");
  client.setAccessToken(now.accessToken);
  must((await client.getJoinedRooms()).joined_rooms.includes(room), "the new token is of somebody else");
  client.http.opts.refreshToken = now.refreshToken;
  step("the tokens are refreshed");

  must((await client.deleteMultipleDevices(["X"]).catch((e) => e)).errcode === "M_FORBIDDEN", "an OAuth session was let near interactive authentication");
  await browser.open(`${metadata.account_management_uri}?action=org.matrix.device_view&device_id=${client.getDeviceId()}`);
  must(browser.page.includes("client.example"), `the account page does not know the device: ${browser.page}`);
  await client.logout();
  await ended(client, "after the logout");
  step("the session is revoked");

  const second = await granted(browser, clientId, "query", async () => {});
  const again = await enter(second);
  must((await second.replay())?.error === "invalid_grant", "a code was good twice");
  await ended(again, "after its code was used twice");
  step("a code that comes twice ends what it gave");

  const tv = new OAuth2(metadata, { clientId }, quiet);
  const session = await tv.startDeviceAuthorizationGrant();
  await browser.open(session.verification_uri);
  await browser.send("find", { user_code: session.user_code.toLowerCase() });
  await browser.send("allow");
  const box = await enter({ oauth: tv, tokens: await tv.waitForDeviceAuthorizationGrant(session) });
  must(box.getUserId() === client.getUserId(), `the device is of ${box.getUserId()}`);
  step("a device without a browser is let in by its code");

  const newcomer = new Browser();
  const made = await granted(newcomer, clientId, "fragment", (b) => b.send("sign-up", { user: "carol", password, again: password }), "create");
  must((await enter(made)).getUserId() === "@carol:hub.test", "the new account is another's");
  step("carol made an account on the way");
  step("done");
  process.exit(0);
} catch (e) {
  console.error(`${lastWords()}\n`, e);
  process.exit(1);
}
