package event

// IDFormat says how the events of a room version are named.
type IDFormat uint8

// The three ways to name an event.
const (
	IDInEvent IDFormat = iota // versions 1 and 2: "$local:server", a field of the event
	IDHash                    // version 3: the reference hash in standard base64
	IDHashURL                 // version 4 and later: the same in URL-safe base64
)

// StateRes names a state resolution algorithm.
type StateRes uint8

// The three state resolution algorithms.
const (
	ResV1  StateRes = iota // room version 1
	ResV2                  // room versions 2 to 11
	ResV21                 // room version 12
)

// Version is a room version as a row of flags. The flags are what the code
// asks about; nothing compares version names. All are pure facts of the
// specification. Spec: rooms v1 to v12.
type Version struct {
	ID    string   // "1" to "12"
	IDs   IDFormat // how events are named
	Res   StateRes // how forks are joined
	Since string   // the specification release that made it stable

	KeyValidity      bool // 5: a signing key has to be valid at the event's time
	StrictJSON       bool // 6: canonical JSON is enforced on events
	AliasesOwned     bool // 1 to 5: m.room.aliases has an auth rule and survives redaction
	NotificationsPL  bool // 6: power_levels.notifications is guarded as events and users are
	Knock            bool // 7: membership knock, join rule knock
	Restricted       bool // 8: join rule restricted; join_rules keeps allow when redacted
	KeepAuthorised   bool // 9: member keeps join_authorised_via_users_server when redacted
	KnockRestricted  bool // 10: join rule knock_restricted
	IntegerPL        bool // 10: power levels have to be integers
	Redaction11      bool // 11: the newest redaction rules (create whole, invite level, signed, redacts)
	RedactsInContent bool // 11: m.room.redaction names its target in content
	ImplicitCreator  bool // 11: the creator is the create event's sender, no content.creator
	RedactByDomain   bool // 1 and 2: a redaction is authorised by the domains of the two event ids
	RoomIDIsCreate   bool // 12: the room id is the create event's id; create has no room_id and is no auth event
	ByteSizes        bool // 11: type and state_key are counted in bytes; servers counted code points before
	OwnedState       bool // MSC3757: a state key may be a user id and more behind "_", and who stands above may set it
	Unstable         bool // of no release of the specification
	Creators         bool // 12: creators stand above all power levels; additional_creators
}

// versions is the one table of room versions, oldest first, and those behind
// them that are of no release.
var versions = [...]Version{
	{ID: "1", IDs: IDInEvent, Res: ResV1, Since: "r0.0.0", AliasesOwned: true, RedactByDomain: true},
	{ID: "2", IDs: IDInEvent, Res: ResV2, Since: "r0.4.0", AliasesOwned: true, RedactByDomain: true},
	{ID: "3", IDs: IDHash, Res: ResV2, Since: "r0.5.0", AliasesOwned: true},
	{ID: "4", IDs: IDHashURL, Res: ResV2, Since: "r0.5.0", AliasesOwned: true},
	{ID: "5", IDs: IDHashURL, Res: ResV2, Since: "r0.5.0", AliasesOwned: true, KeyValidity: true},
	{ID: "6", IDs: IDHashURL, Res: ResV2, Since: "r0.6.1", KeyValidity: true, StrictJSON: true, NotificationsPL: true},
	{ID: "7", IDs: IDHashURL, Res: ResV2, Since: "v1.1", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true},
	{ID: "8", IDs: IDHashURL, Res: ResV2, Since: "v1.2", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true},
	{ID: "9", IDs: IDHashURL, Res: ResV2, Since: "v1.2", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true},
	{ID: "10", IDs: IDHashURL, Res: ResV2, Since: "v1.3", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true, KnockRestricted: true, IntegerPL: true},
	{ID: "11", IDs: IDHashURL, Res: ResV2, Since: "v1.8", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true, KnockRestricted: true, IntegerPL: true, Redaction11: true, RedactsInContent: true,
		ImplicitCreator: true, ByteSizes: true},
	{ID: "12", IDs: IDHashURL, Res: ResV21, Since: "v1.16", KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true, KnockRestricted: true, IntegerPL: true, Redaction11: true, RedactsInContent: true,
		ImplicitCreator: true, ByteSizes: true, RoomIDIsCreate: true, Creators: true},
	{ID: "org.matrix.msc3757.10", IDs: IDHashURL, Res: ResV2, KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true, KnockRestricted: true, IntegerPL: true, OwnedState: true, Unstable: true},
	{ID: "org.matrix.msc3757.11", IDs: IDHashURL, Res: ResV2, KeyValidity: true, StrictJSON: true, NotificationsPL: true, Knock: true,
		Restricted: true, KeepAuthorised: true, KnockRestricted: true, IntegerPL: true, Redaction11: true, RedactsInContent: true,
		ImplicitCreator: true, ByteSizes: true, OwnedState: true, Unstable: true},
}

// DefaultVersion is the room version of a room made without naming one.
// Spec: rooms, recommended default since v1.16.
const DefaultVersion = "12"

// LookupVersion finds a room version by name; nil where it is not known.
func LookupVersion(id string) *Version {
	for i := range versions {
		if versions[i].ID == id {
			return &versions[i]
		}
	}
	return nil
}

// Versions lists the names of the room versions of the specification, oldest
// first.
func Versions() []string { return names(false) }

// Drafts lists the names of the room versions that are of no release.
func Drafts() []string { return names(true) }

func names(unstable bool) (ids []string) {
	for i := range versions {
		if versions[i].Unstable == unstable {
			ids = append(ids, versions[i].ID)
		}
	}
	return ids
}
