// Package fault holds the kinds of error that cross the borders of Hearth's
// packages, and E to build one.
//
// A kind says what the caller may do about an error, and nothing else: there is
// one kind for each answer a Matrix client can tell apart. Package httpd/wire
// has the one table that turns a kind into an HTTP status and an errcode, so no
// handler and no record spells either.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind classifies an error. The zero Kind is Internal.
type Kind uint8

// The kinds. Each line of a group ends with what it is to a Matrix client.
const (
	Internal Kind = iota // a fault of the hub itself; M_UNKNOWN, logged
	Corrupt              // the store holds what it cannot; never retried
	Remote               // another server did not answer or answered nonsense
	Full                 // the disk is full; M_RESOURCE_LIMIT_EXCEEDED

	NotFound     // M_NOT_FOUND
	Forbidden    // M_FORBIDDEN
	Unauthorised // credentials are wrong for this request; M_FORBIDDEN at login, M_UNAUTHORIZED elsewhere
	Invalid      // a parameter has a value it must not have; M_INVALID_PARAM
	Missing      // a parameter is absent; M_MISSING_PARAM
	BadJSON      // JSON, but of the wrong shape; M_BAD_JSON
	NotJSON      // not JSON; M_NOT_JSON
	TooLarge     // M_TOO_LARGE
	Limit        // asked too often; M_LIMIT_EXCEEDED with a wait
	Unknown      // M_UNKNOWN with status 400
	Unrecognised // M_UNRECOGNIZED

	MissingToken  // M_MISSING_TOKEN
	UnknownToken  // M_UNKNOWN_TOKEN
	SoftLoggedOut // M_UNKNOWN_TOKEN with soft_logout
	Deactivated   // M_USER_DEACTIVATED
	Locked        // M_USER_LOCKED
	Suspended     // M_USER_SUSPENDED
	GuestAccess   // M_GUEST_ACCESS_FORBIDDEN
	UserInUse     // M_USER_IN_USE
	BadUsername   // M_INVALID_USERNAME
	WeakPassword  // M_WEAK_PASSWORD
	Exclusive     // M_EXCLUSIVE

	RoomInUse          // M_ROOM_IN_USE
	AliasInUse         // an alias that is taken, where it alone is asked for; M_UNKNOWN with status 409
	BadRoomState       // M_INVALID_ROOM_STATE
	BadState           // M_BAD_STATE
	UnsupportedVersion // M_UNSUPPORTED_ROOM_VERSION
	IncompatibleRoom   // M_INCOMPATIBLE_ROOM_VERSION
	BadAlias           // M_BAD_ALIAS
	CannotOverwrite    // M_CANNOT_OVERWRITE_MEDIA
	NotYetUploaded     // M_NOT_YET_UPLOADED
	WrongKeysVersion   // M_WRONG_ROOM_KEYS_VERSION
	DuplicateNote      // M_DUPLICATE_ANNOTATION
	InviteBlocked      // M_INVITE_BLOCKED
	ThreepidInUse      // M_THREEPID_IN_USE
	ThreepidNotFound   // M_THREEPID_NOT_FOUND
	ThreepidDenied     // M_THREEPID_DENIED
	ThreepidAuth       // M_THREEPID_AUTH_FAILED
	MediumUnsupported  // M_THREEPID_MEDIUM_NOT_SUPPORTED
	Untrusted          // M_SERVER_NOT_TRUSTED
	KeyTooLarge        // M_KEY_TOO_LARGE
	ProfileTooLarge    // M_PROFILE_TOO_LARGE
	NoticeRoom         // M_CANNOT_LEAVE_SERVER_NOTICE_ROOM
	ServerOwned        // account data that only the server writes; M_BAD_JSON with status 405
	BadSignature       // M_INVALID_SIGNATURE
	UnknownPos         // a position of sliding sync that the hub does not know, or not any more; M_UNKNOWN_POS
	NotInThread        // IO.ELEMENT.MSC4306.M_NOT_IN_THREAD
	Unsubscribed       // IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION
	NoServiceURL       // an application service without an address; M_URL_NOT_SET
	ServiceTimeout     // one that did not answer in time; M_CONNECTION_TIMEOUT
	ServiceUnreachable // one that cannot be reached; M_CONNECTION_FAILED
	ServiceStatus      // one that answered with an error; M_BAD_STATUS
	UnknownDevice      // a device that the user has not, where a service wants to act as it; M_UNKNOWN_DEVICE
	ServiceSilent      // one that was asked for a user or an alias and did not answer; M_UNKNOWN with status 408
	UnableToAuthorise  // M_UNABLE_TO_AUTHORISE_JOIN
	UnableToGrant      // M_UNABLE_TO_GRANT_JOIN
	NoProof            // a proof of an address that is not under way; M_NO_VALID_SESSION
	ProofExpired       // M_SESSION_EXPIRED
	ProofOpen          // one that is not complete; M_SESSION_NOT_VALIDATED
	WrongCode          // M_TOKEN_INCORRECT
	WrongPepper        // M_INVALID_PEPPER
	TermsNotSigned     // M_TERMS_NOT_SIGNED
	BadEmail           // M_INVALID_EMAIL
	BadPhone           // M_INVALID_ADDRESS
	MailFailed         // M_EMAIL_SEND_ERROR
	TextFailed         // M_SEND_ERROR
	UnknownMedium      // M_UNRECOGNIZED with status 400
	Busy               // the hub is starting, stopping or out of a resource; 503
	NumKinds           // how many there are; no kind itself
)

// Error is an error with a kind. Op names what was being done, Text is what a
// client may read; Err, where set, is the cause and stays inside the hub.
type Error struct {
	Kind  Kind
	Op    string        // "room.Send": package and function
	Text  string        // lower case, no full stop; may be empty
	Err   error         // the cause; may be nil
	Retry time.Duration // for Limit: how long to wait; 0 elsewhere
}

// E makes an Error. The text is formatted as fmt.Errorf does it; an error
// argument under %w becomes the cause. An empty format takes no text.
func E(kind Kind, op, format string, args ...any) error {
	e := &Error{Kind: kind, Op: op}
	if format != "" {
		err := fmt.Errorf(format, args...)
		e.Text, e.Err = err.Error(), errors.Unwrap(err)
	}
	return e
}

// Wait is E of kind Limit with the time to wait before another try.
func Wait(op string, retry time.Duration) error {
	return &Error{Kind: Limit, Op: op, Text: "too many requests", Retry: retry}
}

func (e *Error) Error() string {
	switch {
	case e.Text != "" && e.Op != "":
		return e.Op + ": " + e.Text
	case e.Text != "":
		return e.Text
	case e.Err != nil:
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost Error in err's chain, Internal where
// there is none. KindOf(nil) is Internal too: ask only about errors.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is says whether err has the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
