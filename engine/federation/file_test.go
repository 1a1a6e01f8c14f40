package federation

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"hearth/engine/event"
	"hearth/engine/fault"
)

// shelf is a server that has files, by the path at which they are asked for.
type shelf struct {
	has   map[string]Stream
	text  map[string]string
	asked []string
	open  int
}

func (s *shelf) Do(context.Context, *Request) (*Answer, error) { return nil, errors.New("no") }

func (s *shelf) Open(_ context.Context, r *Request) (*Stream, error) {
	path, _, _ := strings.Cut(r.Path, "?")
	s.asked = append(s.asked, r.Path)
	if signed := strings.HasPrefix(path, "/_matrix/federation/"); signed != (r.Authorization != "") {
		return nil, errors.New("signed where it need not be, or not where it must")
	}
	got, ok := s.has[path]
	if !ok {
		got = Stream{Status: 404, Length: -1}
		return s.body(&got, `{"errcode":"M_UNRECOGNIZED"}`), nil
	}
	return s.body(&got, s.text[path]), nil
}

func (s *shelf) body(to *Stream, text string) *Stream {
	s.open++
	to.Body = &counted{strings.NewReader(text), s}
	return to
}

// counted is a body that has to be closed once.
type counted struct {
	io.Reader
	s *shelf
}

func (c *counted) Close() error {
	c.s.open--
	return nil
}

const mixed = "multipart/mixed; boundary=X"

func parts(head, body string) string {
	return "--X\r\nContent-Type: application/json\r\n\r\n{}\r\n--X\r\n" + head + "\r\n\r\n" + body + "\r\n--X--\r\n"
}

// A file is found by the way that is signed, by those before it where the server
// does not know that, and where the server says that it lies.
func TestOpenFile(t *testing.T) {
	const (
		now   = "/_matrix/federation/v1/media/download/f"
		thumb = "/_matrix/federation/v1/media/thumbnail/f"
		v3    = "/_matrix/media/v3/download/far.test/f"
		r0    = "/_matrix/media/r0/download/far.test/f"
		old   = "/_matrix/media/v3/thumbnail/far.test/f"
	)
	type given map[string]struct {
		status int
		typ    string
		text   string
	}
	small := Wanted{Width: 96, Height: 96, Crop: true}
	for _, tt := range []struct {
		name string
		w    Wanted
		has  given
		want string // type, name and body, or the kind of the error
		asks int
	}{
		{"signed", Wanted{}, given{now: {200, mixed, parts("Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt", "hello")}}, "text/plain a.txt hello", 1},
		{"elsewhere", Wanted{}, given{now: {200, mixed, parts("Location: https://cdn.test/x?sig=1", "")}}, "image/png  from https://cdn.test/x?sig=1", 1},
		{"nowhere", Wanted{}, given{now: {200, mixed, parts("Location: https://cdn.test/gone", "")}}, "remote", 1},
		{"a file of ours", Wanted{}, given{now: {200, mixed, parts("Location: file:///etc/passwd", "")}}, "remote", 1},
		{"with a name", Wanted{}, given{now: {200, mixed, parts("Location: https://me:secret@cdn.test/x", "")}}, "remote", 1},
		{"a long link", Wanted{}, given{now: {200, mixed, parts("Location: https://cdn.test/"+strings.Repeat("x", 5000), "")}}, "remote", 1},
		{"v3", Wanted{}, given{v3: {200, "text/css", "old"}}, "text/css  old", 2},
		{"r0", Wanted{}, given{r0: {200, "text/css", "older"}}, "text/css  older", 3},
		{"no endpoint", Wanted{}, nil, "not found", 3},
		{"an old server's page", Wanted{}, given{now: {404, "text/html", "<html>"}, v3: {200, "a/b", "old"}}, "a/b  old", 2},
		{"not there", Wanted{}, given{now: {404, "", `{"errcode":"M_NOT_FOUND"}`}, v3: {200, "", "x"}}, "not found", 1},
		{"not there, by v3", Wanted{}, given{v3: {404, "", `{"errcode":"M_NOT_FOUND"}`}, r0: {200, "", "x"}}, "not found", 2},
		{"too large there", Wanted{}, given{now: {502, "", `{"errcode":"M_TOO_LARGE"}`}}, "too large", 1},
		{"busy", Wanted{}, given{now: {429, "", `{"errcode":"M_LIMIT_EXCEEDED"}`}, v3: {200, "", "x"}}, "remote", 1},
		{"thumbnail", small, given{thumb: {200, mixed, parts("Content-Type: image/png", "small")}}, "image/png  small", 1},
		{"old thumbnail", small, given{old: {200, "image/png", "small"}}, "image/png  small", 2},
		{"no such thumbnail", small, given{thumb: {400, "", `{"errcode":"M_UNKNOWN"}`}}, "unknown", 1},
		{"too large to shrink", small, given{thumb: {413, "", `{"errcode":"M_TOO_LARGE"}`}}, "too large", 1},
		{"no parts", Wanted{}, given{now: {200, "text/plain", "hello"}}, "remote", 1},
		{"no boundary", Wanted{}, given{now: {200, "multipart/mixed", "hello"}}, "remote", 1},
		{"one part", Wanted{}, given{now: {200, mixed, "--X\r\n\r\n{}\r\n--X--\r\n"}}, "remote", 1},
		{"empty", Wanted{}, given{now: {200, mixed, ""}}, "remote", 1},
		{"endless first part", Wanted{}, given{now: {200, mixed, "--X\r\n\r\n" + strings.Repeat("x", maxMeta+1) + "\r\n--X\r\n\r\nhello\r\n--X--"}}, "remote", 1},
	} {
		s := &shelf{has: map[string]Stream{}, text: map[string]string{}}
		for path, g := range tt.has {
			s.has[path], s.text[path] = Stream{Status: g.status, Type: g.typ, Length: -1}, g.text
		}
		f := &Federation{server: "hub", o: Options{Peer: s, Signer: event.Signer{Server: "hub", KeyID: "ed25519:1", Key: make([]byte, 64)}}}
		w := tt.w
		w.Origin, w.ID = "far.test", "f"
		got := ""
		file, err := f.OpenFile(context.Background(), &w, func(_ context.Context, link string) (*Stream, error) {
			if strings.HasSuffix(link, "gone") {
				return s.body(&Stream{Status: 410}, ""), nil
			}
			return s.body(&Stream{Status: 200, Type: "image/png", Length: -1}, "from "+link), nil
		})
		switch {
		case err == nil:
			text, rerr := io.ReadAll(file.Body)
			got = file.Type + " " + file.Name + " " + string(text)
			if cerr := file.Body.Close(); rerr != nil || cerr != nil {
				t.Error(tt.name, rerr, cerr)
			}
		case fault.Is(err, fault.Remote):
			got = "remote"
		case fault.Is(err, fault.NotFound):
			got = "not found"
		case fault.Is(err, fault.TooLarge):
			got = "too large"
		case fault.Is(err, fault.Unknown):
			got = "unknown"
		default:
			got = err.Error()
		}
		if got != tt.want || len(s.asked) != tt.asks || s.open != 0 {
			t.Errorf("%s: %q after %q, %d bodies open; want %q after %d questions", tt.name, got, s.asked, s.open, tt.want, tt.asks)
		}
		for _, path := range s.asked {
			if tt.w.Width > 0 && !strings.Contains(path, "animated=false") || !strings.Contains(path, "/federation/") && !strings.Contains(path, "allow_remote=false") {
				t.Errorf("%s: asked %s", tt.name, path)
			}
		}
	}
}
