package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/cjson"
	"hearth/engine/fault"
)

// answer is what a kind of fault is to the other side.
type answer struct {
	status int
	code   string
	text   string // where the fault brings none
}

// answers is the one place where errcodes stand.
// Spec: client-server, standard error response.
var answers = [fault.NumKinds]answer{
	fault.Internal: {500, "M_UNKNOWN", "something went wrong inside the hub"},
	fault.Corrupt:  {500, "M_UNKNOWN", "the hub's store is damaged"},
	fault.Remote:   {400, "M_UNKNOWN", "another server did not answer"},
	fault.Full:     {403, "M_RESOURCE_LIMIT_EXCEEDED", "the hub's disk is full"},
	fault.Busy:     {503, "M_UNKNOWN", "the hub is busy"},

	fault.NotFound:     {404, "M_NOT_FOUND", "not found"},
	fault.Forbidden:    {403, "M_FORBIDDEN", "not allowed"},
	fault.Unauthorised: {403, "M_FORBIDDEN", "wrong credentials"},
	fault.Invalid:      {400, "M_INVALID_PARAM", "invalid parameter"},
	fault.Missing:      {400, "M_MISSING_PARAM", "missing parameter"},
	fault.BadJSON:      {400, "M_BAD_JSON", "JSON of the wrong shape"},
	fault.NotJSON:      {400, "M_NOT_JSON", "not JSON"},
	fault.TooLarge:     {413, "M_TOO_LARGE", "too large"},
	fault.Limit:        {429, "M_LIMIT_EXCEEDED", "too many requests"},
	fault.Unknown:      {400, "M_UNKNOWN", "not possible"},
	fault.Unrecognised: {404, "M_UNRECOGNIZED", "unrecognised request"},

	fault.MissingToken:  {401, "M_MISSING_TOKEN", "an access token is needed"},
	fault.UnknownToken:  {401, "M_UNKNOWN_TOKEN", "unknown access token"},
	fault.SoftLoggedOut: {401, "M_UNKNOWN_TOKEN", "logged out; log in again as the same device"},
	fault.Deactivated:   {403, "M_USER_DEACTIVATED", "this account has been deactivated"},
	fault.Locked:        {401, "M_USER_LOCKED", "this account is locked"},
	fault.Suspended:     {403, "M_USER_SUSPENDED", "this account is suspended"},
	fault.GuestAccess:   {403, "M_GUEST_ACCESS_FORBIDDEN", "not for guests"},
	fault.UserInUse:     {400, "M_USER_IN_USE", "this user name is taken"},
	fault.BadUsername:   {400, "M_INVALID_USERNAME", "not a valid user name"},
	fault.WeakPassword:  {400, "M_WEAK_PASSWORD", "the password is too weak"},
	fault.Exclusive:     {400, "M_EXCLUSIVE", "reserved for an application service"},

	fault.RoomInUse:          {400, "M_ROOM_IN_USE", "this alias is taken"},
	fault.AliasInUse:         {409, "M_UNKNOWN", "this alias is taken"},
	fault.BadRoomState:       {400, "M_INVALID_ROOM_STATE", "the room's first state would be invalid"},
	fault.BadState:           {403, "M_BAD_STATE", "not possible in this state"},
	fault.UnsupportedVersion: {400, "M_UNSUPPORTED_ROOM_VERSION", "unsupported room version"},
	fault.IncompatibleRoom:   {400, "M_INCOMPATIBLE_ROOM_VERSION", "incompatible room version"},
	fault.UnableToAuthorise:  {400, "M_UNABLE_TO_AUTHORISE_JOIN", "whether the user may join is not for this hub to know"},
	fault.UnableToGrant:      {400, "M_UNABLE_TO_GRANT_JOIN", "nobody here may let the user in"},
	fault.BadAlias:           {400, "M_BAD_ALIAS", "this alias does not point to the room"},
	fault.CannotOverwrite:    {409, "M_CANNOT_OVERWRITE_MEDIA", "media once uploaded does not change"},
	fault.NotYetUploaded:     {504, "M_NOT_YET_UPLOADED", "not uploaded yet"},
	fault.WrongKeysVersion:   {403, "M_WRONG_ROOM_KEYS_VERSION", "not the current key backup"},
	fault.DuplicateNote:      {400, "M_DUPLICATE_ANNOTATION", "the same annotation is there already"},
	fault.InviteBlocked:      {403, "M_INVITE_BLOCKED", "this user takes no such invites"},
	fault.ThreepidInUse:      {400, "M_THREEPID_IN_USE", "this address is in use"},
	fault.ThreepidNotFound:   {400, "M_THREEPID_NOT_FOUND", "no such address"},
	fault.ThreepidDenied:     {403, "M_THREEPID_DENIED", "this address may not be used here"},
	fault.MediumUnsupported:  {400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "addresses of this kind are not supported"},
	fault.Untrusted:          {400, "M_SERVER_NOT_TRUSTED", "the hub does not trust this server"},
	fault.ThreepidAuth:       {403, "M_THREEPID_AUTH_FAILED", "the address was not proven"},
	fault.KeyTooLarge:        {400, "M_KEY_TOO_LARGE", "the name of the field is too long"},
	fault.ProfileTooLarge:    {400, "M_PROFILE_TOO_LARGE", "the profile would be too large"},
	fault.BadSignature:       {400, "M_INVALID_SIGNATURE", "a signature is missing or does not fit"},
	fault.NoticeRoom:         {403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "notices of the server cannot be refused"},
	fault.UnknownPos:         {400, "M_UNKNOWN_POS", "this position is not known any more; begin without one"},
	fault.NotInThread:        {400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "the event is not in the thread"},
	fault.Unsubscribed:       {409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", "you have unsubscribed since"},
	fault.NoServiceURL:       {400, "M_URL_NOT_SET", "the registration of the application service has no url"},
	fault.ServiceTimeout:     {504, "M_CONNECTION_TIMEOUT", "the application service did not answer in time"},
	fault.UnknownDevice:      {400, "M_UNKNOWN_DEVICE", "the user has no such device"},
	fault.ServiceSilent:      {408, "M_UNKNOWN", "the application service that would know does not answer"},
	fault.ServiceUnreachable: {502, "M_CONNECTION_FAILED", "the application service cannot be reached"},
	fault.ServiceStatus:      {502, "M_BAD_STATUS", "the application service answered with an error"},
	fault.NoProof:            {404, "M_NO_VALID_SESSION", "no proof of an address is under way by this sid and client_secret"},
	fault.ProofExpired:       {400, "M_SESSION_EXPIRED", "the proof has expired; begin another"},
	fault.ProofOpen:          {400, "M_SESSION_NOT_VALIDATED", "the address has not been proven yet"},
	fault.WrongCode:          {400, "M_TOKEN_INCORRECT", "the code is not correct"},
	fault.WrongPepper:        {400, "M_INVALID_PEPPER", "the pepper has changed; ask for it again"},
	fault.TermsNotSigned:     {403, "M_TERMS_NOT_SIGNED", "the terms of the service have to be accepted first"},
	fault.BadEmail:           {400, "M_INVALID_EMAIL", "this is no e-mail address"},
	fault.BadPhone:           {400, "M_INVALID_ADDRESS", "this is no phone number"},
	fault.MailFailed:         {400, "M_EMAIL_SEND_ERROR", "the mail could not be sent"},
	fault.TextFailed:         {400, "M_SEND_ERROR", "the text message could not be sent"},
	fault.UnknownMedium:      {400, "M_UNRECOGNIZED", "addresses of this kind are not supported"},
	fault.ServerOwned:        {405, "M_BAD_JSON", "only the hub writes this"},
}

// Errcode gives the status and errcode of a kind, for answers that carry more
// than an error, as those of user-interactive auth do.
func Errcode(kind fault.Kind) (status int, code string) {
	if kind >= fault.NumKinds {
		kind = fault.Internal
	}
	return answers[kind].status, answers[kind].code
}

// retryWhenBusy is what a client is told to wait where the fault does not say.
const retryWhenBusy = time.Second

// Fail answers with an error. It is what a returned error comes to; handlers
// call it only to put more members into the answer: extra holds them as JSON
// without braces, `"room_version":"11"`, and may be empty. It returns nil.
func (r *Req) Fail(err error, extra string) error {
	kind := fault.KindOf(err)
	if kind >= fault.NumKinds {
		kind = fault.Internal
	}
	a := answers[kind]
	if r.route != nil && r.route.Flags&Federation != 0 {
		a = toServer(kind, a)
	}
	if r.route != nil && r.route.Flags&Identity != 0 {
		a = toIdentity(kind, a)
	}
	text := textOf(kind, err)
	var f *fault.Error
	_ = errors.As(err, &f) // nil where it is no fault
	if a.status == 500 {
		id := r.ID()
		r.mux.log.Error("request failed", "request", id, "method", string(r.Ctx.Method()), "route", r.pattern(), "err", err)
		text += "; the hub's log has more under request " + id
	}

	out := r.Out()
	out = append(out, `{"errcode":"`...)
	out = append(out, a.code...)
	out = append(out, `","error":`...)
	out = cjson.AppendString(out, text)
	switch kind {
	case fault.Limit, fault.Busy:
		out = r.retryAfter(out, f)
	case fault.SoftLoggedOut, fault.Locked:
		out = append(out, `,"soft_logout":true`...)
	case fault.Full:
		out = append(out, `,"admin_contact":`...)
		out = cjson.AppendString(out, r.mux.contact)
	}
	if extra != "" {
		out = append(append(out, ','), extra...)
	}
	if kind == fault.Unrecognised && r.Ctx.Response.StatusCode() == 405 {
		a.status = 405 // the path is known, the method is not
	}
	return r.Reply(a.status, append(out, '}'))
}

// textOf is what a client may read of an error: what the fault says, or the
// table; of the hub's own troubles nothing but that there are some.
func textOf(kind fault.Kind, err error) string {
	var f *fault.Error
	if kind != fault.Internal && kind != fault.Corrupt && errors.As(err, &f) && f.Text != "" {
		return f.Text
	}
	if kind >= fault.NumKinds {
		kind = fault.Internal
	}
	return answers[kind].text
}

// toServer changes the answers that other servers read differently.
func toServer(kind fault.Kind, a answer) answer {
	switch kind {
	case fault.Unauthorised, fault.MissingToken:
		a.status, a.code = 401, "M_UNAUTHORIZED"
	case fault.Full:
		a.status = 507 // a server that is told 403 drops the transaction for good
	}
	return a
}

// toIdentity changes the answers that the identity service API calls otherwise.
// Spec: identity service, standard error response and authentication.
func toIdentity(kind fault.Kind, a answer) answer {
	switch kind {
	case fault.MissingToken, fault.UnknownToken:
		a.code = "M_UNAUTHORIZED"
	case fault.Missing:
		a.code = "M_MISSING_PARAMS"
	}
	return a
}

// retryAfter says when to come again: in the header, rounded up, and in the
// older member that r0 clients read. Spec: client-server, rate limiting.
func (r *Req) retryAfter(out []byte, f *fault.Error) []byte {
	wait := retryWhenBusy
	if f != nil && f.Retry > 0 {
		wait = f.Retry
	}
	r.Ctx.Response.Header.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	out = append(out, `,"retry_after_ms":`...)
	return strconv.AppendInt(out, wait.Milliseconds(), 10)
}

// caught turns a panic of a handler into an answer. The connection goes: what
// state the handler left it in is unknown.
func (r *Req) caught(p any) {
	id := r.ID()
	r.mux.log.Error("a handler panicked", "request", id, "route", r.pattern(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	r.Ctx.Response.Reset()
	cors(&r.Ctx.Response.Header)
	r.Ctx.SetConnectionClose()
	_ = r.Fail(fault.E(fault.Internal, "wire.Serve", "handler panicked"), "") // Fail returns nil
}

// RefuseRaw answers a request that never became one, because its head or its
// body could not be read: the server in package httpd calls it with no Req.
func RefuseRaw(ctx *fasthttp.RequestCtx, status int, kind fault.Kind, text string) {
	ctx.Response.Reset()
	cors(&ctx.Response.Header)
	ctx.SetStatusCode(status)
	ctx.SetContentType(contentJSON)
	ctx.Response.SwapBody(AppendError(nil, kind, text))
}

// AppendError appends the standard error object.
func AppendError(dst []byte, kind fault.Kind, text string) []byte {
	_, code := Errcode(kind)
	dst = append(append(dst, `{"errcode":"`...), code...)
	dst = append(dst, `","error":`...)
	return append(cjson.AppendString(dst, text), '}')
}

// pattern is the route's, never the path: paths hold what is private.
func (r *Req) pattern() slog.Value {
	if r.route == nil {
		return slog.StringValue("none")
	}
	return slog.StringValue(r.route.Pattern)
}
