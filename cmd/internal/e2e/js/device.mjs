// A device: one login of one user in matrix-js-sdk, with its Rust crypto and a store in memory. What it owns is how a
// client is brought up and how the script waits; what the conversation is about stands in conversation.mjs.

// What the library takes for granted as of Node 22, for those that come with a distribution.
globalThis.crypto ??= (await import("node:crypto")).webcrypto;
Promise.withResolvers ??= () => {
  const r = {};
  r.promise = new Promise((resolve, reject) => Object.assign(r, { resolve, reject }));
  return r;
};

// Devices spread the upload of their keys over ten seconds, to spare a hub that has thousands of them.
const { RustBackupManager } = await import("matrix-js-sdk/lib/rust-crypto/backup.js");
RustBackupManager.maxBackupLoopStartDelayMillis = 0;

export const sdk = await import("matrix-js-sdk");
const { CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent } = await import("matrix-js-sdk/lib/crypto-api/index.js");

// log is what the library had to say: nobody wants to read it unless something is wrong.
const log = [];
const note = (where, level) => (...words) => log.push(`${level} ${where} ${words.map((w) => w?.stack ?? w).join(" ")}`);
const logger = (where) => ({
  trace: () => {},
  debug: note(where, "debug"),
  info: note(where, "info"),
  warn: note(where, "WARN"),
  error: note(where, "ERROR"),
  getChild: (inner) => logger(`${where} ${inner}`),
});
export const quiet = logger("");
const { logger: root } = await import("matrix-js-sdk/lib/logger.js");
root.methodFactory = (level) => note("", level);
root.rebuild();

export const lastWords = () => log.slice(-150).map((l) => l.slice(0, 400)).join("\n");

// patience is when a condition is given up. It decides nothing that passes.
const patience = 60_000;

export const { EventType, Preset } = sdk;
export { CryptoEvent };

export function must(holds, what) {
  if (!holds) throw new Error(what);
}

// within gives what the promise gives, or says what was waited for in vain.
async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${patience} ms: ${what}`)), patience);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// eventually polls until holds gives something, and gives that.
export function eventually(what, holds) {
  let over = false;
  const polled = (async () => {
    while (!over) {
      const got = await holds();
      if (got) return got;
      await new Promise((again) => setTimeout(again, 20));
    }
  })();
  return within(what, polled).finally(() => (over = true));
}

export class Device {
  // login makes a new device of the user and starts its sync loop, which is sliding sync where windows makes one for the
  // client. The callback is asked for the recovery key.
  static async login(url, user, name, password, recoveryKey = async () => null, windows = () => undefined) {
    const at = sdk.createClient({ baseUrl: url });
    const got = await at.loginRequest({
      type: "m.login.password",
      identifier: { type: "m.id.user", user },
      password,
      initial_device_display_name: name,
    });
    const d = new Device();
    const secrets = new Map();
    d.name = `${user}'s ${name}`;
    d.password = password;
    d.client = sdk.createClient({
      baseUrl: url,
      userId: got.user_id,
      deviceId: got.device_id,
      accessToken: got.access_token,
      logger: logger(d.name),
      cryptoCallbacks: {
        getSecretStorageKey: async ({ keys }) => {
          const id = Object.keys(keys)[0];
          const key = secrets.get(id) ?? (await recoveryKey());
          return key ? [id, key] : null;
        },
        cacheSecretStorageKey: (id, info, key) => secrets.set(id, key),
      },
    });
    d.user = got.user_id;
    d.id = got.device_id;
    await d.client.initRustCrypto({ useIndexedDB: false });
    d.crypto = d.client.getCrypto();
    d.requests = [];
    d.client.on(CryptoEvent.VerificationRequestReceived, (r) => d.requests.push(r));
    d.sliding = windows(d.client);
    await d.client.startClient({ initialSyncLimit: 50, slidingSync: d.sliding });
    await eventually(`${d.name} has synced`, () => d.client.isInitialSyncComplete());
    return d;
  }

  // authorize answers the hub where it wants to know, again, who is there.
  authorize = async (request) => {
    try {
      return await request(null);
    } catch (e) {
      if (e.httpStatus !== 401 || !e.data?.flows) throw e;
      must(e.data.flows.some((f) => f.stages.join() === "m.login.password"), `no password flow in ${JSON.stringify(e.data)}`);
      return await request({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: this.user },
        password: this.password,
        session: e.data.session,
      });
    }
  };

  // asks makes a request that the library makes only for itself.
  asks(method, prefix, path) {
    return this.client.http.authedRequest(method, path, undefined, undefined, { prefix });
  }

  // say sends a text and gives the event's id.
  async say(room, body) {
    return (await this.client.sendTextMessage(room, body)).event_id;
  }

  // reads waits until the event has come, and is this text after decryption.
  async reads(room, id, body) {
    const what = `${this.name} reads ${JSON.stringify(body)}`;
    let seen;
    try {
      await eventually(what, () => {
        seen = this.client.getRoom(room)?.findEventById(id);
        return seen && seen.getContent().body === body;
      });
    } catch (e) {
      throw new Error(`${e.message}; it has ${seen ? `${JSON.stringify(seen.getContent())} ${seen.decryptionFailureReason}` : "no such event"}`);
    }
    must(seen.getWireType() === EventType.RoomMessageEncrypted, `${what}: it was sent as ${seen.getWireType()}`);
  }

  // trusts tells whether a device is signed by its owner, and the owner by us.
  async trusts(other) {
    const status = await this.crypto.getDeviceVerificationStatus(other.user, other.id);
    return status?.crossSigningVerified ?? false;
  }

  async stop() {
    this.client.stopClient();
    await this.client.logout(true);
  }
}

// phase waits until the request has come to at least this phase.
function phase(request, wanted) {
  const { promise, resolve, reject } = Promise.withResolvers();
  const look = () => {
    if (request.phase === VerificationPhase.Cancelled) reject(new Error(`cancelled: ${request.cancellationCode}`));
    else if (request.phase >= wanted) resolve();
  };
  request.on(VerificationRequestEvent.Change, look);
  look();
  return within(`the verification comes to phase ${wanted}`, promise).finally(() => request.off(VerificationRequestEvent.Change, look));
}

// shown gives the emoji and what confirms them, of the verifier.
function shown(verifier) {
  const now = verifier.getShowSasCallbacks();
  return now ? Promise.resolve(now) : new Promise((show) => verifier.once(VerifierEvent.ShowSas, show));
}

// verify plays both people of a verification by emoji: the one who asked, and the one who was asked.
export async function verify(asking, asked, request) {
  const other = await eventually(`${asked.name} is asked`, () => asked.requests.find((r) => r.transactionId === request.transactionId));
  must(other.otherUserId === asking.user, `${asked.name} was asked by ${other.otherUserId}`);
  await other.accept();
  await phase(request, VerificationPhase.Ready);
  const left = await request.startVerification("m.sas.v1");
  await phase(other, VerificationPhase.Started);
  const right = other.verifier;
  const both = Promise.all([left.verify(), right.verify()]);
  const agreed = (async () => {
    const [a, b] = await within("both show emoji", Promise.all([shown(left), shown(right)]));
    const [x, y] = [a, b].map((s) => s.sas.emoji.map(([, word]) => word).join());
    must(x === y && x.split(",").length === 7, `${asking.name} shows ${x}, ${asked.name} shows ${y}`);
    await Promise.all([a.confirm(), b.confirm()]);
  })();
  await within("both are done", Promise.all([both, agreed]));
  await Promise.all([phase(request, VerificationPhase.Done), phase(other, VerificationPhase.Done)]);
}
