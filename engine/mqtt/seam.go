package mqtt

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"time"

	"hearth/engine/fault"
	"hearth/engine/store"
)

// Connect is what is known about who connects, before it is let in.
type Connect struct {
	ClientID  string              // as it was sent; empty where the broker is to choose one
	Username  string              // empty: none was sent
	Password  []byte              // nil: none was sent; valid during the call only
	Certs     []*x509.Certificate // a verified chain of the client's, its own first; empty: none
	Remote    netip.Addr
	WebSocket bool
	TLS       bool
	Version   byte // 4: MQTT 3.1.1, 5: MQTT 5
}

// Identity is who a session belongs to. Sessions of different names never see
// each other's client ids: a thing cannot take over another's session.
type Identity struct {
	Name  string // of the thing or the user; what permissions are judged by
	Token string // whatever Auth wants to see again; opaque to the broker
}

// Auth lets a client in, or refuses it. It is called on the connection's own
// goroutine and may block. An error made by Refuse gives the reason code; of
// other errors the kind does (Unauthorised, Forbidden, Limit, Busy).
type Auth func(ctx context.Context, c *Connect) (Identity, error)

// Alive says why somebody who was let in must not be there any more. It is asked
// once a session is theirs, for what ended them may have come between Auth and that,
// and by Broker.Review. After Locked and Suspended their sessions wait for them;
// after any other fault these end too.
type Alive func(id Identity) error

// Op is what somebody wants to do with a topic.
type Op byte

// What May is asked about.
const (
	Publish   Op = iota + 1 // publish to a topic
	Subscribe               // subscribe to a filter, which may have wildcards; without $share and group
	Receive                 // be given a message of a topic
)

// May judges whether an identity may do something with a topic or filter. It is
// asked at each publish, at each subscription, and for each delivery; answers
// about deliveries are remembered by session until Broker.Rejudge. It must be
// quick and must not call the broker.
type May func(id Identity, op Op, topic string) bool

// Pair is one user property.
type Pair struct{ Key, Value string }

// Message is an application message. What a function is given by the broker is
// valid during the call only; Clone keeps it.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool

	Expires       time.Time // zero: never
	Text          bool      // the payload is UTF-8 (payload format indicator 1)
	ContentType   string
	ResponseTopic string
	Correlation   []byte // nil: none
	User          []Pair

	From     Identity // who published it; the zero Identity: the hub itself
	ClientID string   // of the publisher's session; empty: the hub itself
	Origin   string   // given to Broker.Publish; a Tap knows its own messages by it
	Except   string   // name of an identity whose sessions are not given it; cuts loops
	Will     bool     // it is somebody's last will
	ID       uint16   // of the publisher's packet; 0 with QoS 0, and from the hub itself
	Dup      bool     // the publisher says that it has sent it before

	lasts uint32 // of a will: seconds from when it is published to Expires; 0: for ever
}

// Clone is a copy that shares nothing with m.
func (m *Message) Clone() *Message {
	c := *m
	c.Payload = slices.Clone(m.Payload)
	c.Correlation = slices.Clone(m.Correlation)
	c.User = slices.Clone(m.User)
	return &c
}

// Verdict is what a Tap says about a message.
type Verdict struct {
	Refuse Reason // at or above 0x80: the message is not published, its sender is told
	Text   string // why, for the sender; may be empty

	// Later: the acknowledgement waits until the tap's done was called, which it
	// then must be exactly once, from any goroutine. Subscribers do not wait.
	Later bool

	// Carries, with Later: WriteRetained is called in time before done is, so that
	// a retained value waits for that and has no batch of its own. Values that come
	// all the time are then written once for each acknowledgement.
	Carries bool

	// Rows, where set, adds rows to the batch that the message is acknowledged
	// with, whatever else is in it. It is called once, on another goroutine,
	// after the tap has returned; it must not keep the batch.
	Rows func(b *store.Batch)
}

// Tap is offered every publish that was let through by May, before it is given
// to subscribers and acknowledged. done(nil) acknowledges, an error refuses:
// one made by Refuse with its reason code. It must not block for longer than a
// look at memory takes; what takes longer is said with Later.
//
// Messages of one publisher are offered in their order, those of several at the
// same time.
type Tap func(m *Message, done func(error)) Verdict

// RefusedError is an error with a reason code for the client.
type RefusedError struct {
	Reason Reason
	Text   string // for the client to read; may be empty
}

func (e *RefusedError) Error() string {
	if e.Text == "" {
		return "mqtt: " + e.Reason.String()
	}
	return "mqtt: " + e.Reason.String() + ": " + e.Text
}

// Refuse makes an error with a reason code.
func Refuse(r Reason, text string) error { return &RefusedError{r, text} }

// ReasonOf is the reason code and the text that a client is told of an error.
// Causes stay inside the hub.
func ReasonOf(err error) (Reason, string) {
	if err == nil {
		return Success, ""
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reason, refused.Text
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return Unspecified, ""
	}
	switch f.Kind {
	case fault.Unauthorised, fault.UnknownToken, fault.MissingToken, fault.SoftLoggedOut:
		return BadCredentials, f.Text
	case fault.Forbidden, fault.Deactivated, fault.Locked, fault.Suspended, fault.GuestAccess:
		return NotAuthorised, f.Text
	case fault.Limit:
		return RateExceeded, f.Text
	case fault.Busy:
		return Busy, f.Text
	case fault.Full, fault.TooLarge:
		return QuotaExceeded, f.Text
	}
	return Unspecified, ""
}

// Reason is a reason code of MQTT 5.
//
// Spec: MQTT 5, 2.4.
type Reason byte

// The reason codes that the broker gives or takes.
const (
	Success             Reason = 0x00
	GrantedQoS1         Reason = 0x01
	GrantedQoS2         Reason = 0x02
	WithWill            Reason = 0x04
	NoSubscribers       Reason = 0x10
	NoSubscription      Reason = 0x11
	ContinueAuth        Reason = 0x18
	Reauthenticate      Reason = 0x19
	Unspecified         Reason = 0x80
	Malformed           Reason = 0x81
	ProtocolError       Reason = 0x82
	Implementation      Reason = 0x83
	BadVersion          Reason = 0x84
	BadClientID         Reason = 0x85
	BadCredentials      Reason = 0x86
	NotAuthorised       Reason = 0x87
	Unavailable         Reason = 0x88
	Busy                Reason = 0x89
	Banned              Reason = 0x8a
	ShuttingDown        Reason = 0x8b
	BadAuthMethod       Reason = 0x8c
	KeepAliveTimeout    Reason = 0x8d
	TakenOver           Reason = 0x8e
	BadFilter           Reason = 0x8f
	BadTopic            Reason = 0x90
	PacketIDInUse       Reason = 0x91
	PacketIDNotFound    Reason = 0x92
	ReceiveMaxExceeded  Reason = 0x93
	BadTopicAlias       Reason = 0x94
	PacketTooLarge      Reason = 0x95
	MessageRateTooHigh  Reason = 0x96
	QuotaExceeded       Reason = 0x97
	Administrative      Reason = 0x98
	BadPayload          Reason = 0x99
	RetainUnsupported   Reason = 0x9a
	QoSUnsupported      Reason = 0x9b
	UseAnotherServer    Reason = 0x9c
	ServerMoved         Reason = 0x9d
	SharedUnsupported   Reason = 0x9e
	RateExceeded        Reason = 0x9f
	MaxConnectTime      Reason = 0xa0
	SubIDUnsupported    Reason = 0xa1
	WildcardUnsupported Reason = 0xa2
)

// Failed says whether the code stands for a failure.
func (r Reason) Failed() bool { return r >= 0x80 }

// String is the code's meaning in a few words.
func (r Reason) String() string {
	switch r {
	case Success:
		return "success"
	case Malformed:
		return "malformed packet"
	case ProtocolError:
		return "protocol error"
	case BadClientID:
		return "client identifier not valid"
	case BadCredentials:
		return "bad user name or password"
	case NotAuthorised:
		return "not authorised"
	case Busy:
		return "server busy"
	case Banned:
		return "banned"
	case ShuttingDown:
		return "server shutting down"
	case KeepAliveTimeout:
		return "keep alive timeout"
	case TakenOver:
		return "session taken over"
	case BadFilter:
		return "topic filter invalid"
	case BadTopic:
		return "topic name invalid"
	case PacketTooLarge:
		return "packet too large"
	case QuotaExceeded:
		return "quota exceeded"
	case Administrative:
		return "administrative action"
	case RateExceeded:
		return "connection rate exceeded"
	}
	const hex = "0123456789abcdef"
	return "reason 0x" + string([]byte{hex[r>>4], hex[r&15]})
}
