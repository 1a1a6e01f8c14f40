// A bridge in matrix-bot-sdk, as small as it can be: bridge.cjs HUB PORT FOLDER. What people say it writes to
// FOLDER/heard, a line each; a line "NUMBER ROOM NICK TEXT" on its input is said on Matrix by the ghost of NICK, and
// answered with NUMBER once it is there. The number is the transaction, so that a line may be given again. SIGTERM ends it after what
// is under way.
const fs = require("node:fs"), Module = require("node:module"), path = require("node:path"), readline = require("node:readline");

// The framework loads its encryption, a native module, also where nothing is encrypted.
const load = Module._load;
Module._load = function (name, ...rest) {
  return name.endsWith("matrix-sdk-crypto-nodejs") ? new Proxy({}, { get: () => class {} }) : load.call(this, name, ...rest);
};
const { Appservice, LogService, LogLevel, SimpleFsStorageProvider } = require("matrix-bot-sdk");
LogService.setLevel(LogLevel.ERROR);

const [hub, port, folder] = process.argv.slice(2);
const ghosts = { regex: "@_js_.*", exclusive: true };
const as = new Appservice({
  port: Number(port), bindAddress: "127.0.0.1", homeserverName: "hub.test", homeserverUrl: hub,
  storage: new SimpleFsStorageProvider(path.join(folder, "storage.json")),
  registration: {
    id: "js", url: `http://127.0.0.1:${port}`, as_token: "token-of-the-js-bridge", hs_token: "token-for-the-js-bridge", sender_localpart: "_jsbot",
    namespaces: { users: [ghosts], aliases: [{ regex: "#_js_.*", exclusive: true }], rooms: [] },
  },
});
as.on("query.user", (user, answer) => answer(user.startsWith("@_js_") ? { display_name: "Somebody" } : false));
as.on("query.room", (alias, answer) => answer(alias.startsWith("#_js_lobby:") ? { preset: "public_chat" } : false));
as.on("room.message", (room, event) => {
  if (!event.sender.startsWith("@_js")) fs.appendFileSync(path.join(folder, "heard"), event.content.body + "\n");
});
process.on("SIGTERM", () => as.appServer.close(() => process.exit(0)));

as.begin().then(() => {
  console.log("ready");
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const [number, room, nick, ...text] = line.split(" ");
    try {
      const ghost = as.getIntentForUserId(`@_js_${nick}:hub.test`);
      await ghost.ensureRegisteredAndJoined(room);
      await ghost.underlyingClient.doRequest("PUT", `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${number}`, null,
        { msgtype: "m.text", body: text.join(" ") });
      console.log(number);
    } catch (e) {
      console.log("again", number);
    }
  });
});
