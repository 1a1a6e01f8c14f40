package federation

import (
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strconv"
	"strings"
	"time"

	"hearth/engine/cjson"
	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// File is another server's file on its way.
type File struct {
	Type string // as that server says
	Name string // may be empty
	Size int64  // -1: not known
	Body io.ReadCloser
}

// Wanted names a file, or a thumbnail of it.
type Wanted struct {
	Origin        mxid.Server
	ID            string
	Width, Height int  // of a thumbnail; 0: the file itself
	Crop          bool // how the thumbnail is made
}

// Follow opens an address of the web that another server sends us to. It judges
// where that leads when it dials.
type Follow func(ctx context.Context, link string) (*Stream, error)

const (
	// fileTime is what bringing one file may take.
	fileTime = 10 * time.Minute
	// maxMeta bounds what stands before a file in an answer.
	maxMeta = 64 << 10
)

// ways are where the file is asked for: at the signed way, and at the two that
// came before it, which need no signature.
func (w *Wanted) ways() (now string, before [2]string) {
	what, query := "download", url.Values{}
	if w.Width > 0 {
		what = "thumbnail"
		query.Set("width", strconv.Itoa(w.Width))
		query.Set("height", strconv.Itoa(w.Height))
		query.Set("method", "scale")
		if w.Crop {
			query.Set("method", "crop")
		}
		query.Set("animated", "false")
	}
	id := url.PathEscape(w.ID)
	now = "/_matrix/federation/v1/media/" + what + "/" + id
	if len(query) > 0 {
		now += "?" + query.Encode()
	}
	query.Set("allow_remote", "false")
	for i, version := range [...]string{"v3", "r0"} {
		before[i] = "/_matrix/media/" + version + "/" + what + "/" + url.PathEscape(string(w.Origin)) + "/" + id + "?" + query.Encode()
	}
	return now, before
}

// OpenFile asks a server for a file of its own, or a thumbnail of one, by the way
// that is signed and, where the server does not know that, by those before it. The
// caller closes the body, and bounds what is read of it; ctx bounds the time.
//
// Errors: NotFound and TooLarge as the server says, Unknown where it makes no
// thumbnail of such a file, Remote. Spec: server-server, content repository.
func (f *Federation) OpenFile(ctx context.Context, w *Wanted, follow Follow) (*File, error) {
	now, before := w.ways()
	s, err := f.open(ctx, &Request{Dest: w.Origin, Method: "GET", Time: fileTime, Accept: "multipart/mixed", Path: now})
	if err != nil {
		return nil, err
	}
	if s.Status == 200 {
		file, err := readMultipart(ctx, s, follow)
		if err != nil {
			_ = s.Body.Close() // it is of no use
		}
		return file, err
	}
	for _, path := range before {
		old, err := unknownPath(s)
		_ = s.Body.Close() // it says why there is no file
		if err != nil || !old {
			return nil, err
		}
		if s, err = f.o.Peer.Open(ctx, &Request{Dest: w.Origin, Method: "GET", Time: fileTime, Path: path}); err != nil {
			return nil, err
		}
		if s.Status == 200 {
			return &File{Type: s.Type, Size: s.Length, Body: s.Body}, nil
		}
	}
	_, err = unknownPath(s)
	_ = s.Body.Close() // as above
	if err == nil {
		err = fault.E(fault.NotFound, "federation.OpenFile", "%s knows no way to a file", w.Origin)
	}
	return nil, err
}

// unknownPath says whether a refusal means that the server does not know the way by
// which it was asked.
func unknownPath(s *Stream) (bool, error) {
	body, err := io.ReadAll(io.LimitReader(s.Body, maxMeta))
	if err != nil {
		return false, fault.E(fault.Remote, "federation.OpenFile", "the answer broke off: %w", err)
	}
	code := ""
	if cjson.Check(body) == nil && cjson.KindOf(body) == cjson.ObjectKind {
		code, _ = cjson.LookupString(body, "errcode")
	}
	switch {
	case code == "M_UNRECOGNIZED", code == "" && (s.Status == 400 || s.Status == 404), s.Status == 405, s.Status == 501:
		return true, nil
	case s.Status == 404:
		return false, fault.E(fault.NotFound, "federation.OpenFile", "the server does not have the file")
	case s.Status == 413, code == "M_TOO_LARGE":
		return false, fault.E(fault.TooLarge, "federation.OpenFile", "the server says that the file is too large")
	case s.Status == 400:
		return false, fault.E(fault.Unknown, "federation.OpenFile", "the server makes no such thumbnail")
	}
	return false, fault.E(fault.Remote, "federation.OpenFile", "the server answered with status %d", s.Status)
}

// readMultipart finds the file in an answer of two parts: what is said of it, and
// it, or where it is.
func readMultipart(ctx context.Context, s *Stream, follow Follow) (*File, error) {
	bad := func(format string, args ...any) (*File, error) {
		return nil, fault.E(fault.Remote, "federation.OpenFile", format, args...)
	}
	typ, params, err := mime.ParseMediaType(s.Type)
	if err != nil || !strings.HasPrefix(typ, "multipart/") || params["boundary"] == "" {
		return bad("the answer is of type %.100q", s.Type)
	}
	parts := multipart.NewReader(s.Body, params["boundary"])
	meta, err := parts.NextRawPart()
	if err != nil {
		return bad("the answer has no parts: %w", err)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(meta, maxMeta)); err != nil || n == maxMeta {
		return bad("the first part is too long, or broke off")
	}
	part, err := parts.NextRawPart()
	if err != nil {
		return bad("the answer has one part: %w", err)
	}
	if where := part.Header.Get("Location"); where != "" {
		return elsewhere(ctx, s, where, follow)
	}
	file := &File{Type: part.Header.Get("Content-Type"), Size: -1, Body: inside{part, s.Body}}
	if _, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition")); err == nil {
		file.Name = params["filename"]
	}
	return file, nil
}

// elsewhere opens a file that lies with somebody else, such as a content network.
func elsewhere(ctx context.Context, s *Stream, where string, follow Follow) (*File, error) {
	const op = "federation.OpenFile"
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || len(where) > 4096 || follow == nil {
		return nil, fault.E(fault.Remote, op, "the file lies where it cannot be fetched")
	}
	got, err := follow(ctx, where)
	if err != nil {
		return nil, err
	}
	if got.Status != 200 {
		_ = got.Body.Close() // it is not the file
		return nil, fault.E(fault.Remote, op, "where the file lies was answered with status %d", got.Status)
	}
	_ = s.Body.Close() // there is no more in it
	return &File{Type: got.Type, Size: got.Length, Body: got.Body}, nil
}

// inside is a part of an answer, closed with the whole.
type inside struct {
	io.Reader
	whole io.Closer
}

func (p inside) Close() error { return p.whole.Close() }
