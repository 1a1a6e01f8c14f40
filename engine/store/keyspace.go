package store

import "encoding/binary"

// Table is the first byte of every key. The list below is the one place that
// names them all: each line gives the key after the prefix, the value, and the
// package that owns (encodes and writes) the rows. Numbers in keys are
// big-endian, so keys sort in the order in which they are read.
type Table byte

// The keyspaces.
const (
	// Meta: name → one small value (format, incarnation, server name). store, engine.
	Meta Table = 0x01
	// NameNumber: space u8, name → number uvarint. store (Names).
	NameNumber Table = 0x02
	// NumberName: space u8, number u32 → name. store (Names).
	NumberName Table = 0x03

	// Log: position u64 → entry. stream.
	Log Table = 0x10
	// Cursor: reader's name → position uvarint. stream.
	Cursor Table = 0x11

	// Outbox: name of the outbox, NUL, destination → position, failures, next try, last error. outbox.
	Outbox Table = 0x18
	// OutboxDue: name of the outbox, NUL, milliseconds u64, destination → empty: when it is tried next. outbox.
	OutboxDue Table = 0x19

	// EventNumber: event id (32 hash bytes, or the text in room versions 1
	// and 2) → event number uvarint. room.
	EventNumber Table = 0x20
	// StateBody: event number u64 → header, compressed JSON of a state event. room.
	StateBody Table = 0x21
	// OtherBody: the same for every other event, so that messages age by one
	// range deletion. room.
	OtherBody Table = 0x22
	// RoomRow: room u32 → the room's row: version, forward extremities, current snapshot, last positions. room.
	RoomRow Table = 0x23
	// Timeline: room u32, position u64, fill u16 → event number uvarint. room.
	Timeline Table = 0x24
	// Snapshot: room u32, snapshot u32 → parent, depth, pairs. snapshot.
	Snapshot Table = 0x25
	// UserRoom: user u32, room u32 → membership, member event's number, position of the change. room.
	UserRoom Table = 0x26
	// Member: room u32, user u32 → the same as UserRoom, by room. room.
	Member Table = 0x2d
	// Transaction: day u32, device u64, hash of path and transaction id u128 → event number uvarint. room.
	Transaction Table = 0x27
	// Relation: room u32, id of the event related to, event number u64 → rel_type, NUL, type, NUL, sender,
	// place in the timeline. room.
	Relation Table = 0x28
	// Thread: room u32, position u64 and fill u16 of the last reply, id of the root → empty. room.
	Thread Table = 0x29
	// Awaited: id of an event that is not here, event number u64 of one that points at it → empty. room.
	Awaited Table = 0x2e
	// Hole: room u32, position u64, fill u16 as in Timeline → ids of events that come before that place and are not
	// here. room.
	Hole Table = 0x9b
	// Pending: room u32, number u64 → an event another server sent that waits for what it follows. federation.
	Pending Table = 0x9a
	// Invitation: room u32, user u32 → servers in the room, stripped events that came with the standing of a
	// user in a room that the hub is not in. room.
	Invitation Table = 0x98
	// RoomServer: room u32, server u32 → joined users uvarint, since position uvarint. Other servers only. room.
	RoomServer Table = 0x9e
	// ServerRoom: server u32, room u32, from position u64 → to position uvarint, 0 while it lasts: when the server
	// had a joined user in the room, first and last event included. room.
	ServerRoom Table = 0x9f
	// Purged: room u32 → how far its purge is, and up to which position the log may name what is gone. room.
	Purged Table = 0x2f
	// Trimmed: room u32 → up to which place the room's history was removed, and how far that is. room.
	Trimmed Table = 0x30
	// Leftover: room u32, event number u64 → empty, or 1 where it stays because it was made here: an event of the
	// history that was removed, which is still needed. room.
	Leftover Table = 0x31
	// Alias: alias → room u32, creator. directory.
	Alias Table = 0x2a
	// RoomAlias: room u32, alias → empty. directory.
	RoomAlias Table = 0x2b
	// Published: room u32 → empty; the room stands in the directory. directory.
	Published Table = 0x2c

	// User: user u32 → account row. account.
	User Table = 0x40
	// Device: user u32, device id → device row. account.
	Device Table = 0x41
	// Token: SHA-256 of the token → user u32, device number, kind. account.
	Token Table = 0x42
	// Profile: user u32, field → JSON value. account.
	Profile Table = 0x43
	// AccountData: user u32, room u32 (0: global), type → position u64, JSON content. account.
	AccountData Table = 0x44
	// AccountDataAt: user u32, position u64 → room u32, type; newest only. account.
	AccountDataAt Table = 0x45
	// Filter: user u32, filter u32 → JSON. account.
	Filter Table = 0x46
	// RegistrationToken: token → uses allowed, pending, completed, expiry. account.
	RegistrationToken Table = 0x47
	// Reported: number u64 → what a user reported to the owner. account.
	Reported Table = 0x48
	// Threepid: user u32, medium, NUL, address → when it was proved and added. account.
	Threepid Table = 0x49
	// ThreepidUser: medium, NUL, address → user u32. account.
	ThreepidUser Table = 0x4a

	// OAuthClient: client_id → when it was last used, metadata as JSON. account.
	OAuthClient Table = 0x5d

	// Pusher: user u32, hash of app_id and pushkey u128 → pusher. account.
	Pusher Table = 0x4c
	// PusherUser: hash u128, user u32 → empty: who has a pusher of that app_id and pushkey. account.
	PusherUser Table = 0x4d

	// ThreadSubscription: user u32, room u32, id of the root → position, flags. account.
	ThreadSubscription Table = 0x4f
	// Delayed: delay id → the event that waits, as JSON. delay.
	Delayed Table = 0x5b

	// Receipt: room u32, user u32, type, thread → event id, time, position. ephemeral.
	Receipt Table = 0x50
	// ReceiptAt: room u32, position u64 → user u32, type, thread; newest only. ephemeral.
	ReceiptAt Table = 0x51
	// Presence: user u32 → last presence. ephemeral.
	Presence Table = 0x52
	// Word: room u32, hash of a word u32, event number u64 → empty; the event holds the word. search.
	Word Table = 0x59
	// EventWords: event number u64 → the hashes of its words, u32 each. search.
	EventWords Table = 0x5a
	// Unread: user u32, room u32 → position, counts by thread. unread.
	Unread Table = 0x58

	// Media: hash of origin and media id u128 → the file's row. media.
	Media Table = 0x60
	// MediaOwner: user u32, hash u128 as in Media → empty. media.
	MediaOwner Table = 0x61
	// MediaUsage: user u32 (0: all together, 2^32-1: what is only cached) → bytes, files, reserved. media.
	MediaUsage Table = 0x62

	// DeviceKeys: user u32, device id → device number, key object, the owner's signatures on it. e2ee.
	DeviceKeys Table = 0x70
	// OneTimeKey: device u64, length u8 and algorithm, number u64 → key id, JSON; served from the lowest on. e2ee.
	OneTimeKey Table = 0x71
	// FallbackKey: device u64, algorithm → used, key id, JSON. e2ee.
	FallbackKey Table = 0x72
	// CrossKey: user u32, usage u8 → cross-signing key object, the owner's signatures on it. e2ee.
	CrossKey Table = 0x73
	// KeySignature: user u32, length u8 and id of the signed key, signer u32, signer's key id → signature. e2ee.
	KeySignature Table = 0x74
	// SignedAt: signer u32, position u64, user u32 whose key was signed → empty. e2ee.
	SignedAt Table = 0x75
	// DeviceList: user u32 → position uvarint of the last change of the user's keys. e2ee.
	DeviceList Table = 0x76
	// DeviceListAt: position u64 → user u32; newest only. e2ee.
	DeviceListAt Table = 0x77
	// Backup: user u32, version u32 → key backup: algorithm, auth_data, etag, count. e2ee.
	Backup Table = 0x78
	// BackupKey: user u32, version u32, length u8 and room id, session id → session key. e2ee.
	BackupKey Table = 0x79
	// ToDevice: device u64, position u64 → message. e2ee.
	ToDevice Table = 0x7a
	// ToDeviceTxn: day u32, device u64, hash of type and transaction id u128 → empty. e2ee.
	ToDeviceTxn Table = 0x7b
	// AppService: id of an application service → position up to which it has everything uvarint, position at which the
	// transaction under way ends uvarint (0: none). appservice.
	AppService Table = 0xc0
	// IdentityBinding: keyed hash of medium and address (32 bytes) → user, time, the address sealed, as JSON. identity.
	IdentityBinding Table = 0xc8
	// IdentityHash: generation of the pepper u32, hash that clients ask by (32 bytes) → key of the binding. identity.
	IdentityHash Table = 0xc9
	// IdentityToken: SHA-256 of an access token to the identity service → user, time, as JSON. identity.
	IdentityToken Table = 0xca
	// IdentityTerms: user, NUL, SHA-256 of the URL of terms → when they were accepted, milliseconds u64. identity.
	IdentityTerms Table = 0xcb
	// IdentityInvite: token → an invite of an address that nobody has bound, as JSON. identity.
	IdentityInvite Table = 0xcc
	// IdentityInvited: keyed hash as in IdentityBinding, token → empty. identity.
	IdentityInvited Table = 0xcd
	// IdentityKey: public key of one invite (32 bytes) → token. identity.
	IdentityKey Table = 0xce
	// IdentityNotice: number u64 → what a server is to hear of an address that was bound, sealed, as JSON. identity.
	IdentityNotice Table = 0xcf
	// Bound: user u32, medium, NUL, address → the identity server to which the user had it bound. account.
	Bound Table = 0x4e

	// Dehydrated: user u32 → device u64, device id, device_data. e2ee.
	Dehydrated Table = 0x7c
	// RemoteList: user u32 of another server → how well the user's devices are known. e2ee.
	RemoteList Table = 0x7d
	// AwayMessage: server u32, position u64 → a to-device message for users of another server. e2ee.
	AwayMessage Table = 0x9c

	// RemoteKey: server, NUL, key id, NUL, public key → times of first and last sight, validity, expiry. keyring.
	RemoteKey Table = 0x90
	// RemoteAnswer: server, NUL, milliseconds u64 of its coming → a server's object of its keys, as it came. keyring.
	RemoteAnswer Table = 0x91
	// RemoteAnswerAt: milliseconds u64, server → bytes of the answer uvarint: which is the oldest. keyring.
	RemoteAnswerAt Table = 0x92

	// Thing: user u32 → what speaks MQTT as that user, as JSON. thing.
	Thing Table = 0xb0
	// ThingKnock: name → an unknown thing that waits to be let in, as JSON. thing.
	ThingKnock Table = 0xb1
	// Shadow: name of the thing, NUL, topic → version, time, reported, desired. shadow.
	Shadow Table = 0xb2
	// Chunk: day u32, topic u32, from when u64, until when u64 in milliseconds → samples in columns; topic 0 has
	// the bytes of the day, uvarint. telemetry.
	Chunk Table = 0xb3
	// ChunkTail: slot u32 → samples that were acknowledged and are in no chunk yet. telemetry.
	ChunkTail Table = 0xb4
	// Digest: topic filter of a mapping → until when u64 its samples were told, in milliseconds. bridge.
	Digest Table = 0xb5
	// Topic: topic → number u32. telemetry.
	Topic Table = 0xb7
	// TopicName: number u32 → topic. telemetry.
	TopicName Table = 0xb8
	// Command: topic its answer comes on, NUL, correlation → the command's event, room and end, as JSON. bridge.
	Command Table = 0xb9
	// Repeat: name of a publisher, NUL, client id, NUL, packet id u16 → sum of the message and the transaction of the
	// event that it became, as JSON. bridge.
	Repeat Table = 0xba

	// ThingSession: session u32 → who it belongs to, expiry, when it was left, last will. mqtt.
	ThingSession Table = 0xa0
	// ThingFilter: session u32, topic filter → options of the subscription. mqtt.
	ThingFilter Table = 0xa1
	// ThingQueue: session u32, sequence u64 → flags, subscription identifiers, and the message or its number. mqtt.
	ThingQueue Table = 0xa2
	// ThingMessage: number u64 → a message that waits in several queues. mqtt.
	ThingMessage Table = 0xa3
	// ThingReceived: session u32, packet id u16 → empty: a QoS 2 message that is not released yet. mqtt.
	ThingReceived Table = 0xa4
	// Retained: topic → message. mqtt.
	Retained Table = 0xa5
)

// Prefix begins a key of the table.
func (t Table) Prefix() []byte { return []byte{byte(t)} }

// Key appends the table's prefix to dst.
func (t Table) Key(dst []byte) []byte { return append(dst, byte(t)) }

// U32 appends v big-endian.
func U32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

// U64 appends v big-endian.
func U64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }

// After is the first key that sorts after all keys with the prefix; nil where
// there is none.
func After(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
