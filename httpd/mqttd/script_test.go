package mqttd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A script is packets that clients send and what the hub answers, one a line:
//
//	a> connect v5 id=x clean         client a sends
//	a< connack 0                     and is sent this, and nothing else before it
//	a> 30 05 00 01 61 ..             any bytes
//	a| closed                        the hub closes the connection
//	a| quiet                         nothing comes: proved by a ping that is answered first
//	a| cut                           the client's end of the connection breaks
//	wait 2s                          the broker's clock goes on
//
// Words with = are fields; what an answer's line does not name is not compared.

// actor is a client in a script.
type actor struct {
	t    *testing.T
	net  net.Conn
	ver  byte
	name string

	most    int    // longest packet that it takes; 0: any
	quietly bool   // it wants to be told no reasons
	seen    []byte // types of the packets that it was sent
}

// build makes a packet of a line's words.
func (a *actor) build(words []string) []byte {
	if _, err := hex.DecodeString(words[0]); err == nil && len(words[0]) == 2 {
		b, err := hex.DecodeString(strings.Join(words, ""))
		if err != nil {
			a.t.Fatalf("%v: %v", words, err)
		}
		return b
	}
	f := fields(words[1:])
	switch words[0] {
	case "connect":
		return a.connect(f)
	case "publish":
		return a.publish(f)
	case "puback", "pubrec", "pubrel", "pubcomp":
		first := map[string]byte{"puback": 0x40, "pubrec": 0x50, "pubrel": 0x62, "pubcomp": 0x70}[words[0]]
		body := u16(f.num("id"))
		if r, ok := f["code"]; ok {
			body = append(body, hexByte(a.t, r))
		}
		return whole(first, body)
	case "subscribe":
		body := a.props(u16(f.num("id")), f)
		for _, w := range words[1:] {
			if filter, opts, ok := strings.Cut(w, ":"); ok && !strings.HasPrefix(w, "p=") {
				body = append(text(body, filter), hexByte(a.t, opts))
			}
		}
		return whole(0x82, body)
	case "unsubscribe":
		body := a.props(u16(f.num("id")), f)
		for _, w := range words[1:] {
			if !strings.Contains(w, "=") {
				body = text(body, w)
			}
		}
		return whole(0xa2, body)
	case "ping":
		return []byte{0xc0, 0}
	case "disconnect":
		var body []byte
		if r, ok := f["code"]; ok {
			body = append(body, hexByte(a.t, r))
		}
		if f.has("p") {
			if len(body) == 0 {
				body = append(body, 0)
			}
			body = a.props(body, f)
		}
		return whole(0xe0, body)
	}
	a.t.Fatalf("no such packet: %v", words)
	return nil
}

// connect: v5 or v4, id, clean, user, pass, keep, will=TOPIC:PAYLOAD, willqos,
// willretain, p= and willp= (properties in hex).
func (a *actor) connect(f words) []byte {
	a.ver = 4
	if f.has("v5") {
		a.ver = 5
		a.wants(f["p"])
	}
	var flags byte
	if f.has("clean") {
		flags |= flagClean
	}
	will, payload, _ := strings.Cut(f["will"], ":")
	if f.has("will") {
		flags |= flagWill | byte(f.num("willqos"))<<3
		if f.has("willretain") {
			flags |= flagRetain
		}
	}
	if f.has("user") {
		flags |= flagUsername
	}
	if f.has("pass") {
		flags |= flagPassword
	}
	body := append(text(nil, "MQTT"), a.ver, flags)
	body = a.props(append(body, u16(f.num("keep"))...), f)
	body = text(body, f["id"])
	if f.has("will") {
		if a.ver == 5 {
			body = a.rawProps(body, f["willp"])
		}
		body = text(text(body, will), payload)
	}
	if f.has("user") {
		body = text(body, f["user"])
	}
	if f.has("pass") {
		body = text(body, f["pass"])
	}
	return whole(0x10, body)
}

// publish: t, m, q, id, retain, dup, p.
func (a *actor) publish(f words) []byte {
	first := byte(0x30) | byte(f.num("q"))<<1
	if f.has("retain") {
		first |= 1
	}
	if f.has("dup") {
		first |= 8
	}
	body := text(nil, f["t"])
	if f.num("q") > 0 {
		body = append(body, u16(f.num("id"))...)
	}
	return whole(first, append(a.props(body, f), f["m"]...))
}

func (a *actor) props(dst []byte, f words) []byte {
	if a.ver != 5 {
		return dst
	}
	return a.rawProps(dst, f["p"])
}

func (a *actor) rawProps(dst []byte, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ".", ""))
	if err != nil {
		a.t.Fatalf("%q: %v", text, err)
	}
	return append(appendVarint(dst, len(b)), b...)
}

// words are the fields of a line.
type words map[string]string

func fields(list []string) words {
	f := words{}
	for _, w := range list {
		k, v, _ := strings.Cut(w, "=")
		f[k] = v
	}
	return f
}

func (f words) has(name string) bool { _, ok := f[name]; return ok }
func (f words) num(name string) int  { n, _ := strconv.Atoi(f[name]); return n }

func u16(n int) []byte { return []byte{byte(n >> 8), byte(n)} }

func text(dst []byte, s string) []byte { return append(append(dst, u16(len(s))...), s...) }

func whole(first byte, body []byte) []byte {
	return append(appendVarint([]byte{first}, len(body)), body...)
}

func hexByte(t *testing.T, s string) byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 1 {
		t.Fatalf("%q is not one byte in hex", s)
	}
	return b[0]
}

// read reads one packet and describes it in the words of a script.
func (a *actor) read() (string, error) {
	_ = a.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head [5]byte
	if _, err := io.ReadFull(a.net, head[:2]); err != nil {
		return "", err
	}
	n := 2
	for head[n-1] >= 0x80 {
		if _, err := io.ReadFull(a.net, head[n:n+1]); err != nil {
			return "", err
		}
		n++
	}
	size, at, bad := header(head[:n])
	if bad {
		return "", fmt.Errorf("a header of %x", head)
	}
	body := make([]byte, size-at)
	if _, err := io.ReadFull(a.net, body); err != nil {
		return "", err
	}
	if wrong := a.check(head[0], body, size); wrong != "" {
		return "", fmt.Errorf("the hub may not send this: %x: %s", append(head[:at:at], body...), wrong)
	}
	return a.describe(head[0], body), nil
}

func (a *actor) describe(first byte, b []byte) string {
	in := &input{b: b}
	var out strings.Builder
	names := [16]string{2: "connack", 3: "publish", 4: "puback", 5: "pubrec", 6: "pubrel", 7: "pubcomp", 9: "suback", 11: "unsuback",
		13: "pong", 14: "disconnect", 15: "auth"}
	out.WriteString(names[first>>4])
	switch first >> 4 {
	case typeConnAck:
		present := in.byte()
		fmt.Fprintf(&out, " %02x present=%d", in.byte(), present)
		if a.ver == 5 && len(in.b) > 0 {
			out.WriteString(" p=" + a.readProps(in))
		}
	case typePublish:
		fmt.Fprintf(&out, " t=%s q=%d", in.text(), first>>1&3)
		if first&6 != 0 {
			fmt.Fprintf(&out, " id=%d", in.u16())
		}
		if first&1 != 0 {
			out.WriteString(" retain")
		}
		if first&8 != 0 {
			out.WriteString(" dup")
		}
		if a.ver == 5 {
			if p := a.readProps(in); p != "" {
				out.WriteString(" p=" + p)
			}
		}
		fmt.Fprintf(&out, " m=%s", in.b)
	case typeSubAck, typeUnsubAck:
		fmt.Fprintf(&out, " id=%d", in.u16())
		if a.ver == 5 {
			a.readProps(in)
		}
		for _, c := range in.b {
			fmt.Fprintf(&out, " %02x", c)
		}
	case typeDisconnect:
		fmt.Fprintf(&out, " code=%02x", in.byte())
	case typePingResp:
	default:
		fmt.Fprintf(&out, " id=%d", in.u16())
		if len(in.b) > 0 {
			fmt.Fprintf(&out, " code=%02x", in.byte())
		}
	}
	return out.String()
}

func (a *actor) readProps(in *input) string {
	n := int(in.varint())
	p := hex.EncodeToString(in.b[:n])
	in.b = in.b[n:]
	return p
}

// matches says whether what came has all words of what was to come.
func matches(got, want string) bool {
	g, w := strings.Fields(got), strings.Fields(want)
	if len(g) == 0 || len(w) == 0 || g[0] != w[0] {
		return false
	}
	have := fields(g[1:])
	for _, word := range w[1:] {
		k, v, isField := strings.Cut(word, "=")
		no := strings.HasPrefix(word, "!")
		switch {
		case no:
			if have.has(word[1:]) {
				return false
			}
		case isField && strings.HasPrefix(v, "~"):
			if !strings.Contains(have[k], v[1:]) {
				return false
			}
		case !have.has(k) || isField && have[k] != v:
			return false
		}
	}
	return true
}

// play runs a script against a hub. Lines of \n or ; apart.
func (h *hub) play(t *testing.T, script string) {
	t.Helper()
	actors := map[string]*actor{}
	for line := range strings.FieldsFuncSeq(script, func(r rune) bool { return r == '\n' || r == ';' }) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if d, ok := strings.CutPrefix(line, "wait "); ok {
			h.later(t, d)
			continue
		}
		name, rest := line[:1], strings.TrimSpace(line[2:])
		a := actors[name]
		if rest == "open" || a == nil || line[1] == '>' && strings.HasPrefix(rest, "connect ") && !strings.HasSuffix(rest, " here") {
			if a != nil {
				_ = a.net.Close()
			}
			a = &actor{t: t, net: h.dial(), name: name, ver: 5}
			actors[name] = a
		}
		if rest == "open" {
			continue
		}
		before := h.broker.Figures().Connected
		if err := a.line(line[1], rest); err != nil {
			t.Errorf("%s: %v", line, err)
			break
		}
		if rest == "cut" {
			until(t, func() bool { return h.broker.Figures().Connected < before })
		}
	}
	for _, a := range actors {
		_ = a.net.Close()
	}
	until(t, func() bool { return h.broker.Figures().Connected == 0 })
}

func (a *actor) line(way byte, rest string) error {
	switch {
	case way == '>':
		_, _ = a.net.Write(a.build(strings.Fields(rest))) // what comes back tells
		return nil
	case way == '<':
		got, err := a.read()
		if err != nil || !matches(got, rest) {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return nil
	case rest == "closed":
		got, err := a.read()
		if errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return nil
	case rest == "refused": // what a version that is not known is told is that of 3.1.1
		got, err := a.read()
		if err != nil || got != "connack 01 present=0" {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return a.line(way, "closed")
	case rest == "quiet":
		_, _ = a.net.Write([]byte{0xc0, 0})
		if got, err := a.read(); err != nil || got != "pong" {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return nil
	case rest == "cut":
		return a.net.Close()
	}
	return fmt.Errorf("not a line of a script")
}

// later moves the broker's clock.
func (h *hub) later(t *testing.T, text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	h.skew.Add(int64(d))
}
