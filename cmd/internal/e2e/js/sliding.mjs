// Two people who live on sliding sync, in matrix-js-sdk's SlidingSyncSdk, on the hub whose address is the argument:
// windows on the room list, messages, an encrypted conversation, receipts, typing, account data. Alice and Bob have
// accounts there; the environment's HEARTH_PASSWORD is the password of both.
//
// Every step throws where the hub does not do its part, and the process then ends with 1.
import { Device, EventType, Preset, eventually, lastWords, must } from "./device.mjs";
const { SlidingSync, SlidingSyncEvent, SlidingSyncState } = await import("matrix-js-sdk/lib/sliding-sync.js");

const url = process.argv[2];
const password = process.env.HEARTH_PASSWORD;
const began = Date.now();

function step(text) {
  console.log(`${String(Date.now() - began).padStart(6)} ms  ${text}`);
}

const state = [
  ["m.room.create", ""],
  ["m.room.name", ""],
  ["m.room.encryption", ""],
  ["m.room.join_rules", ""],
  ["m.room.power_levels", ""],
  ["m.room.member", "$ME"],
  ["m.room.member", "$LAZY"],
];

// windows is a sliding sync with one list of so many rooms.
function windows(to) {
  return (client) => {
    const list = { ranges: [[0, to]], timeline_limit: 5, required_state: state, filters: {} };
    const s = new SlidingSync(url, new Map([["all", list]]), { timeline_limit: 20, required_state: state }, client, 20_000);
    s.errors = [];
    s.on(SlidingSyncEvent.Lifecycle, (at, resp, err) => {
      if (err) s.errors.push(err);
      if (at === SlidingSyncState.RequestFinished && resp) s.last = resp;
    });
    return s;
  };
}

const login = (user, name, to) => Device.login(url, user, name, password, undefined, windows(to));
const named = (d) => d.client.getRooms().map((r) => r.name).sort().join();

async function said(d, room, body) {
  await eventually(`${d.name} sees ${body}`, () =>
    d.client.getRoom(room)?.getLiveTimeline().getEvents().some((e) => e.getContent().body === body),
  );
}

// rooms is Alice's list, of which her window shows the latest.
async function rooms(alice) {
  const made = [];
  for (const name of ["attic", "cellar", "garage", "garden", "kitchen"]) {
    made.push((await alice.client.createRoom({ name, preset: Preset.PublicChat })).room_id);
    await eventually(`the window shows ${name}`, () => named(alice).includes(name));
  }
  must(alice.sliding.getListData("all").joinedCount === 5, "the list has not five rooms");
  step("each new room comes to the top of the list");

  const tablet = await login("alice", "tablet", 1);
  must(named(tablet) === "garden,kitchen", `a window of two shows ${named(tablet)}`);
  tablet.sliding.setListRanges("all", [[0, 2]]);
  await eventually("the window has grown", () => named(tablet) === "garage,garden,kitchen");
  await alice.client.sendTextMessage(made[0], "a draught");
  await said(tablet, made[0], "a draught");
  must(named(tablet) === "attic,garage,garden,kitchen", `the window shows ${named(tablet)}`);
  step("a window grows, and what happens outside comes into it");

  for (let i = 0; i < 12; i++) await alice.client.sendTextMessage(made[1], `box ${i}`);
  await said(tablet, made[1], "box 11");
  const loaded = () => tablet.client.getRoom(made[1]).getLiveTimeline().getEvents().length;
  const before = loaded();
  tablet.sliding.modifyRoomSubscriptions(new Set([made[1]]));
  await eventually("a subscription tells more of the past", () => loaded() > before && loaded() >= 12);
  const events = tablet.client.getRoom(made[1]).getLiveTimeline().getEvents();
  must(events[0].getType() === EventType.RoomCreate && events.at(-1).getContent().body === "box 11", "the past is not before the present");
  const bodies = events.map((e) => e.getContent().body).filter(Boolean);
  must(bodies.join() === [...Array(12).keys()].map((i) => `box ${i}`).join(), `the timeline is ${bodies}`);
  step("a subscription to a room tells its past, in order");
  return { made, tablet };
}

// talk is an encrypted conversation, by invite.
async function talk(alice, bob) {
  const { room_id: room } = await alice.client.createRoom({
    preset: Preset.TrustedPrivateChat,
    invite: [bob.user],
    is_direct: true,
    initial_state: [{ type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
  });
  await eventually("bob is invited", () => bob.client.getRoom(room)?.getMyMembership() === "invite");
  await bob.client.joinRoom(room);
  await eventually("bob is in the room", () => bob.client.getRoom(room)?.getMyMembership() === "join");
  await eventually("alice sees bob", () => alice.client.getRoom(room)?.getMember(bob.user)?.membership === "join");
  await eventually("both know that it is encrypted", async () => {
    for (const d of [alice, bob]) if (!(await d.crypto.isEncryptionEnabledInRoom(room))) return false;
    return true;
  });
  for (const [from, to, body] of [
    [alice, bob, "Is the light on?"],
    [bob, alice, "It is."],
    [alice, bob, "Then turn it off, please."],
    [bob, alice, "Done ✅"],
  ]) {
    const id = await from.say(room, body);
    await to.reads(room, id, body);
  }
  step("an encrypted conversation in both directions");
  return room;
}

// beside is what goes beside messages.
async function beside(alice, bob, room) {
  await bob.client.sendTyping(room, true, 20_000);
  await eventually("alice sees bob type", () => alice.client.getRoom(room).getMember(bob.user)?.typing);
  await bob.client.sendTyping(room, false, 0);
  await eventually("alice sees bob stop", () => !alice.client.getRoom(room).getMember(bob.user)?.typing);
  const last = bob.client.getRoom(room).getLiveTimeline().getEvents().at(-1);
  await alice.client.sendReadReceipt(alice.client.getRoom(room).findEventById(last.getId()));
  await eventually("bob sees what alice has read", () => bob.client.getRoom(room).getEventReadUpTo(alice.user) === last.getId());
  await alice.client.setRoomTag(room, "m.favourite", { order: 0.5 });
  await eventually("alice's tag comes", () => alice.client.getRoom(room).tags["m.favourite"]);
  await alice.client.setAccountData("x.note", { n: 1 });
  await eventually("alice's note comes", () => alice.client.getAccountData("x.note")?.getContent().n === 1);
  step("typing, receipts, tags and account data");
}

// goes is Bob's leaving, and a new room list for who comes back.
async function goes(alice, bob, room) {
  await bob.client.leave(room);
  await eventually("alice sees bob leave", () => alice.client.getRoom(room).getMember(bob.user)?.membership === "leave");
  const again = await login("bob", "phone", 20);
  must(!again.client.getRoom(room), "a new device is told of a room that was left");
  must(again.sliding.getListData("all").joinedCount === 0, "it counts");
  await again.stop();
  step("a room that was left");
}

try {
  const alice = await login("alice", "phone", 99);
  const bob = await login("bob", "desk", 20);
  step("two users are logged in, by sliding sync");
  const { tablet } = await rooms(alice);
  const room = await talk(alice, bob);
  await beside(alice, bob, room);
  await goes(alice, bob, room);
  for (const d of [alice, bob, tablet]) {
    must(d.sliding.errors.length === 0, `${d.name}: ${d.sliding.errors}`);
    await d.stop();
  }
  step("done");
  process.exit(0);
} catch (e) {
  console.error(`${lastWords()}\n`, e);
  process.exit(1);
}
