// An encrypted conversation, as matrix-js-sdk with its Rust crypto holds it on the hub whose address is the argument.
// Alice and Bob have accounts there; the environment's HEARTH_PASSWORD is the password of both.
//
// Every step throws where the hub does not do its part, and the process then ends with 1.
import { CryptoEvent, Device, EventType, Preset, eventually, lastWords, must, verify } from "./device.mjs";

const url = process.argv[2];
const password = process.env.HEARTH_PASSWORD;
const began = Date.now();

function step(text) {
  console.log(`${String(Date.now() - began).padStart(6)} ms  ${text}`);
}

// accounts brings up Alice's first device and Bob's, each with cross-signing; Alice with recovery key and key backup.
async function accounts() {
  const phone = await Device.login(url, "alice", "phone", password);
  const bob = await Device.login(url, "bob", "desk", password);
  step("two users are logged in");
  for (const d of [phone, bob]) {
    await d.crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: d.authorize });
    must(await d.crypto.isCrossSigningReady(), `${d.name} has no cross-signing`);
    must(await d.trusts(d), `${d.name} is not signed by its owner`);
  }
  step("both have cross-signing keys");

  let recovery;
  await phone.crypto.bootstrapSecretStorage({
    createSecretStorageKey: async () => (recovery = await phone.crypto.createRecoveryKeyFromPassphrase()),
    setupNewSecretStorage: true,
    setupNewKeyBackup: true,
  });
  must(await phone.crypto.isSecretStorageReady(), "the secrets are not stored");
  must(await eventually("the backup is in use", () => phone.crypto.getActiveSessionBackupVersion()), "no backup");
  step("alice has a recovery key and a key backup");
  return { phone, bob, recovery: async () => recovery.privateKey };
}

// talk makes the encrypted room and says something in both directions.
async function talk(phone, bob) {
  const { room_id: room } = await phone.client.createRoom({
    preset: Preset.TrustedPrivateChat,
    invite: [bob.user],
    is_direct: true,
    initial_state: [{ type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
  });
  await eventually("bob is invited", () => bob.client.getRoom(room)?.getMyMembership() === "invite");
  await bob.client.joinRoom(room);
  await eventually("alice sees bob", () => phone.client.getRoom(room)?.getMember(bob.user)?.membership === "join");
  must(await phone.crypto.isEncryptionEnabledInRoom(room), "the room is not encrypted");
  const said = [];
  for (const [from, to, body] of [
    [phone, bob, "Is the light on?"],
    [bob, phone, "It is."],
    [phone, bob, "Then turn it off, please."],
    [bob, phone, "Done ✅"],
  ]) {
    const id = await from.say(room, body);
    await to.reads(room, id, body);
    said.push([id, body]);
  }
  step("an encrypted conversation in both directions");
  return { room, said };
}

// friends verifies two users by emoji, in their room.
async function friends(phone, bob, room) {
  must(!(await phone.trusts(bob)) && !(await bob.trusts(phone)), "they trust each other before they have compared anything");
  await verify(phone, bob, await phone.crypto.requestVerificationDM(bob.user, room));
  await eventually("alice trusts bob's device", () => phone.trusts(bob));
  await eventually("bob trusts alice's device", () => bob.trusts(phone));
  step("alice and bob have verified each other");
}

// saved waits until the hub keeps a copy of all keys that the device has.
async function saved(device) {
  await eventually("the keys are in the backup", async () => {
    const has = (await device.crypto.exportRoomKeys()).length;
    return has > 1 && (await device.asks("GET", "/_matrix/client/v3", "/room_keys/version")).count === has;
  });
  step("all keys are in the backup");
}

// byEmoji is a second device that the first one lets in: it is given the secrets, and so the backup.
async function byEmoji(phone, bob, room, said) {
  const tablet = await Device.login(url, "alice", "tablet", password);
  await eventually("bob sees the tablet", async () => (await bob.crypto.getUserDeviceInfo([tablet.user])).get(tablet.user)?.has(tablet.id));
  must(!(await bob.trusts(tablet)), "bob trusts a device that alice has not signed");
  await verify(tablet, phone, await tablet.crypto.requestOwnUserVerification());
  await eventually("the tablet is signed, for all to see", async () => (await phone.trusts(tablet)) && (await bob.trusts(tablet)));
  await eventually("the tablet has the cross-signing keys", async () => {
    const { privateKeysCachedLocally: has } = await tablet.crypto.getCrossSigningStatus();
    return has.masterKey && has.selfSigningKey && has.userSigningKey;
  });
  await eventually("the tablet has the backup's key", () => tablet.crypto.getSessionBackupPrivateKey());
  await eventually("the tablet uses the backup", () => tablet.crypto.getActiveSessionBackupVersion());
  step("a second device is verified and was given the secrets");
  for (const [id, body] of said) await tablet.reads(room, id, body);
  step("the second device reads what was said before it was there");
  const body = "Hello, tablet";
  const id = await bob.say(room, body);
  await Promise.all([phone.reads(room, id, body), tablet.reads(room, id, body)]);
  said.push([id, body]);
  step("bob writes to both devices");
  return tablet;
}

// byRecoveryKey is a device on its own: nobody is there to verify it, but its owner has the recovery key.
async function byRecoveryKey(bob, room, said, recovery) {
  const laptop = await Device.login(url, "alice", "laptop", password, recovery);
  must(!(await laptop.crypto.isCrossSigningReady()), "a device without the recovery key has the secrets");
  await laptop.crypto.bootstrapCrossSigning({});
  await eventually("the laptop has signed itself, for all to see", async () => (await laptop.trusts(laptop)) && (await bob.trusts(laptop)));
  await laptop.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
  const check = await laptop.crypto.checkKeyBackupAndEnable();
  must(check?.trustInfo.trusted && check.trustInfo.matchesDecryptionKey, `the backup is not trusted: ${JSON.stringify(check)}`);
  const restored = await laptop.crypto.restoreKeyBackup();
  must(restored.total > 0 && restored.imported === restored.total, `restored ${JSON.stringify(restored)}`);
  for (const [id, body] of said) await laptop.reads(room, id, body);
  step(`a third device has restored ${restored.total} keys with the recovery key and reads the history`);
  return laptop;
}

// dehydrated is what comes for Alice while all her devices are away; her next one picks it up.
async function dehydrated(laptop, bob, room, recovery, others) {
  must(await laptop.crypto.isDehydrationSupported(), "the hub keeps no dehydrated devices");
  await laptop.crypto.startDehydration({ createNewKey: true });
  const kept = await laptop.asks("GET", "/_matrix/client/unstable/org.matrix.msc3814.v1", "/dehydrated_device");
  await eventually("bob sees the dehydrated device", async () =>
    (await bob.crypto.getUserDeviceInfo([laptop.user])).get(laptop.user)?.has(kept.device_id),
  );
  for (const d of [laptop, ...others]) await d.stop();
  await eventually("bob sees only the dehydrated device", async () => (await bob.crypto.getUserDeviceInfo([laptop.user])).get(laptop.user)?.size === 1);
  await bob.crypto.forceDiscardSession(room);
  const body = "Is nobody there?";
  const id = await bob.say(room, body);

  const next = await Device.login(url, "alice", "next phone", password, recovery);
  await next.crypto.bootstrapCrossSigning({});
  await next.crypto.startDehydration();
  await next.reads(room, id, body);
  step("a dehydrated device received what came while nobody was there");
  return next;
}

try {
  const { phone, bob, recovery } = await accounts();
  const { room, said } = await talk(phone, bob);
  await friends(phone, bob, room);
  await saved(phone);
  const tablet = await byEmoji(phone, bob, room, said);
  await saved(phone);
  const laptop = await byRecoveryKey(bob, room, said, recovery);
  const next = await dehydrated(laptop, bob, room, recovery, [phone, tablet]);
  for (const d of [next, bob]) await d.stop();
  step("done");
  process.exit(0);
} catch (e) {
  console.error(`${lastWords()}\n`, e);
  process.exit(1);
}
