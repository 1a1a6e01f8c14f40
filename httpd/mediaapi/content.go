package mediaapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/fault"
	"hearth/engine/media"
	"hearth/httpd/wire"
)

// policy keeps a browser that is led to a file from running anything in it.
// Spec: client-server, content repository.
const policy = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';"

// inline are the types that a browser may show.
// Spec: client-server, serving inline content.
const inline = " text/css text/plain text/csv application/json application/ld+json" +
	" image/jpeg image/gif image/png image/apng image/webp image/avif" +
	" video/mp4 video/webm video/ogg video/quicktime" +
	" audio/mp4 audio/webm audio/aac audio/mpeg audio/ogg audio/wave audio/wav audio/x-wav audio/x-pn-wav audio/flac audio/x-flac "

// disposition is the Content-Disposition of a file.
func disposition(typ, name string) string {
	base, _, _ := strings.Cut(typ, ";")
	how := "attachment"
	if base = strings.ToLower(strings.TrimSpace(base)); strings.Contains(inline, " "+base+" ") && base != "" {
		how = "inline"
	}
	if name == "" {
		return how
	}
	plain := true
	for _, c := range []byte(name) {
		plain = plain && c >= ' ' && c < 0x7f && c != '"' && c != '\\'
	}
	if plain {
		return how + `; filename="` + name + `"`
	}
	var b strings.Builder // RFC 8187
	for _, c := range []byte(name) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		const hex = "0123456789ABCDEF"
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return how + "; filename*=utf-8''" + b.String()
}

// contentType is what is served of what the uploader said: that, if it is one.
func contentType(said string) string {
	// A line's end passes for space there, and would end the line here.
	control := strings.ContainsFunc(said, func(c rune) bool { return c < ' ' || c == 0x7f })
	if _, _, err := mime.ParseMediaType(said); err != nil || control || !strings.Contains(said, "/") {
		return "application/octet-stream"
	}
	return said
}

// serve answers with the file, or the part of it that is asked for. The file is
// closed when it has been sent.
func (a *API) serve(r *wire.Req, b *media.Blob, disposition string) error {
	h := &r.Ctx.Response.Header
	tag := `"` + b.Tag + `"`
	h.SetContentType(contentType(b.Type))
	h.Set("Content-Disposition", disposition)
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "private, max-age=86400, immutable")
	h.Set("Accept-Ranges", "bytes")
	h.Set("ETag", tag)
	req := &r.Ctx.Request.Header
	if match := req.Peek("If-None-Match"); len(match) > 0 && (string(match) == "*" || bytes.Contains(match, []byte(tag))) {
		r.Ctx.SetStatusCode(fasthttp.StatusNotModified)
		return b.Close()
	}
	from, n := int64(0), b.Size
	if rng := req.Peek("Range"); len(rng) > 0 {
		if cond := req.Peek("If-Range"); len(cond) > 0 && string(cond) != tag {
			rng = nil
		}
		f, l, ok := parseRange(string(rng), b.Size)
		switch {
		case ok && l == 0:
			h.Set("Content-Range", "bytes */"+strconv.FormatInt(b.Size, 10))
			h.Del("Content-Disposition")
			h.Set("Cache-Control", "no-store") // the error is no part of the file
			return errors.Join(b.Close(), r.Reply(fasthttp.StatusRequestedRangeNotSatisfiable,
				wire.AppendError(r.Out(), fault.Invalid, "the file has no such part")))
		case ok:
			from, n = f, l
			r.Ctx.SetStatusCode(fasthttp.StatusPartialContent)
			h.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(from+n-1, 10)+"/"+strconv.FormatInt(b.Size, 10))
		}
	}
	r.Ctx.Response.SetBodyStream(&sending{
		part: io.NewSectionReader(b, from, n), file: b, conn: r.Ctx.Conn(), until: time.Now().Add(sendTime),
	}, int(n))
	return nil
}

// parseRange reads a Range header of one part. ok says that it is one and is to
// be honoured; n is 0 where the file has no such part. Several parts, other
// units and nonsense are answered with the whole file.
// Spec: RFC 9110, section 14.2.
func parseRange(s string, size int64) (from, n int64, ok bool) {
	s, isBytes := strings.CutPrefix(strings.ToLower(s), "bytes=")
	first, last, isRange := strings.Cut(strings.TrimSpace(s), "-")
	if !isBytes || !isRange || strings.Contains(s, ",") {
		return 0, 0, false
	}
	number := func(s string) (int64, bool) {
		v, err := strconv.ParseInt(s, 10, 64)
		return v, err == nil && s[0] >= '0' && s[0] <= '9'
	}
	if first == "" { // the last so many bytes
		v, good := number(last)
		if !good {
			return 0, 0, false
		}
		n = min(v, size)
		return size - n, n, true
	}
	from, good := number(first)
	if !good {
		return 0, 0, false
	}
	end := size - 1
	if last != "" {
		v, good := number(last)
		if !good || v < from {
			return 0, 0, false
		}
		end = min(end, v)
	}
	return from, max(end-from+1, 0), true
}

// What sending one file may take: the server's own limit for an answer is
// enough for a picture, not for a film on a slow link.
const (
	sendTime  = 15 * time.Minute
	sendPause = 30 * time.Second // without the client taking any of it
)

// sending is the body of an answer: a part of a file, and the client's time to
// take it, which grows as it does.
type sending struct {
	part  io.Reader
	file  io.Closer
	conn  net.Conn // nil where there is none
	until time.Time
}

// Read is called when what was read before has been sent.
func (s *sending) Read(p []byte) (int, error) {
	pause := time.Now().Add(sendPause)
	if pause.After(s.until) {
		pause = s.until
	}
	if s.conn != nil {
		if err := s.conn.SetWriteDeadline(pause); err != nil {
			return 0, err
		}
	}
	return s.part.Read(p)
}

func (s *sending) Close() error { return s.file.Close() }
