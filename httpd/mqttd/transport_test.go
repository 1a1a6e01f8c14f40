package mqttd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"hearth/engine/mqtt"
)

// frameOf is a masked frame as clients send it.
func frameOf(first byte, p []byte) []byte {
	out := []byte{first}
	switch {
	case len(p) < 126:
		out = append(out, 0x80|byte(len(p)))
	default:
		out = append(out, 0x80|126, byte(len(p)>>8), byte(len(p)))
	}
	mask := []byte{1, 2, 3, 4}
	out = append(out, mask...)
	for i, c := range p {
		out = append(out, c^mask[i&3])
	}
	return out
}

// readFrame reads a frame of the server's.
func readFrame(t *testing.T, r io.Reader) (code byte, p []byte) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	p = make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(r, p); err != nil {
		t.Fatal(err)
	}
	return head[0], p
}

func TestWebSocket(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &fasthttp.Server{KeepHijackedConns: true, Handler: h.server.WebSocket(func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(418) })}
	go func() { _ = web.Serve(ln) }()
	defer func() { _ = web.Shutdown() }()
	dial := func(path, protocol string) (net.Conn, *bufio.Reader, string) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: hub\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, protocol)
		r := bufio.NewReader(c)
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "\r\n" {
				return c, r, head.String()
			}
			head.WriteString(line)
		}
	}
	if _, _, head := dial("/other", "mqtt"); !strings.Contains(head, " 418 ") {
		t.Error(head)
	}
	if _, _, head := dial("/mqtt", "chat"); !strings.Contains(head, " 400 ") {
		t.Error(head)
	}
	c, r, head := dial("/mqtt", "other, mqtt")
	if !strings.Contains(head, " 101 ") || !strings.Contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") || !strings.Contains(head, "Protocol: mqtt\r\n") {
		t.Fatal(head)
	}
	// A packet in pieces, with a ping between them, and two packets in a frame.
	hello := (&actor{t: t}).build([]string{"connect", "v4", "clean", "id=w"})
	sub := (&actor{t: t, ver: 4}).build([]string{"subscribe", "id=1", "w/#:00"})
	pub := (&actor{t: t, ver: 4}).build([]string{"publish", "t=w/1", "m=" + strings.Repeat("x", 100)})
	for _, f := range [][]byte{
		frameOf(0x02, hello[:3]), frameOf(0x89, []byte("still there?")), frameOf(0x80, append(bytes.Clone(hello[3:]), sub...)), frameOf(0x82, pub),
	} {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	want := []byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0}
	want = append(want, pub...)
	for len(got) < len(want) {
		code, p := readFrame(t, r)
		switch code {
		case 0x8a:
			if string(p) != "still there?" {
				t.Errorf("%q", p)
			}
		case 0x82:
			got = append(got, p...)
		default:
			t.Fatalf("%x %x", code, p)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
	if _, err := c.Write(frameOf(0x81, []byte("text"))); err != nil {
		t.Fatal(err)
	}
	if code, _ := readFrame(t, r); code != 0x88 {
		t.Errorf("%x", code)
	}
	until(t, func() bool { return h.server.Conns() == 0 })
}

// authority makes certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	dir  string
}

func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		tmpl.IsCA, tmpl.KeyUsage = true, x509.KeyUsageCertSign
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		a.key = key
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// A client with a certificate is known by it, in both versions.
func TestTLS(t *testing.T) {
	sub, pub := tool(t, "mosquitto_sub"), tool(t, "mosquitto_pub")
	a := &authority{dir: t.TempDir()}
	a.file, _ = a.issue(t, "ca")
	serverCert, serverKey := a.issue(t, "server")
	cert, key := a.issue(t, "kettle")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	var mu sync.Mutex
	names := map[string]bool{}
	h := start(t, mqtt.Options{Auth: func(_ context.Context, c *mqtt.Connect) (mqtt.Identity, error) {
		if len(c.Certs) == 0 {
			return mqtt.Identity{}, mqtt.Refuse(mqtt.NotAuthorised, "no certificate")
		}
		mu.Lock()
		defer mu.Unlock()
		names[c.Certs[0].Subject.CommonName] = c.TLS
		return mqtt.Identity{Name: c.Certs[0].Subject.CommonName}, nil
	}}, Options{})
	addr, err := h.server.Listen("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven})
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addr.String())
	for _, version := range []string{"311", "5"} {
		args := []string{"-h", host, "-p", port, "-V", version, "--cafile", a.file, "-q", "1", "-t", "kettle/" + version}
		if b, err := exec.Command(pub, append(args, "-m", "x")...).CombinedOutput(); err == nil {
			t.Errorf("let in without a certificate: %s", b)
		}
		args = append(args, "--cert", cert, "--key", key)
		long := strings.Repeat("hot ", 5000)
		if b, err := exec.Command(pub, append(args, "-r", "-m", long)...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, b)
		}
		b, err := exec.Command(sub, append(args, "-C", "1", "-W", "10")...).CombinedOutput()
		if err != nil || string(b) != long+"\n" {
			t.Fatalf("%v, %d bytes", err, len(b))
		}
	}
	if !names["kettle"] {
		t.Errorf("%v", names)
	}
}

// A client that says nothing is gone after one and a half times its keep alive,
// one that pings stays; who never says CONNECT is gone soon.
func TestKeepAlive(t *testing.T) {
	h := start(t, mqtt.Options{}, Options{ConnectTime: 300 * time.Millisecond})
	silent := h.dial()
	began := time.Now()
	a := &actor{t: t, net: h.dial(), ver: 5}
	b := &actor{t: t, net: h.dial(), ver: 5}
	for _, x := range []*actor{a, b} {
		if err := x.line('>', "connect v5 clean keep=1 id="+string(rune('a'+len(x.name)))+x.net.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		if err := x.line('<', "connack 00"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	done := make(chan error, 1)
	go func() {
		err := a.line('<', "disconnect code=8d")
		if took := time.Since(began); err == nil && took < 1500*time.Millisecond {
			err = fmt.Errorf("it was gone after %v", took)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if err := b.line('|', "quiet"); err != nil {
				t.Error(err)
			}
			return
		case <-time.After(400 * time.Millisecond):
			if err := b.line('|', "quiet"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The parser takes anything without a crash, and says the same about what comes
// in one piece.
func FuzzPacket(f *testing.F) {
	x := &actor{}
	for _, line := range []string{
		"connect v5 id=x clean user=a pass=b will=w:x p=11.00000005", "connect v4 id=x", "publish t=a q=2 id=1 m=x", "subscribe id=1 a/#:01",
		"unsubscribe id=1 a", "disconnect code=04", "puback id=1 code=10",
	} {
		x.ver = 5
		f.Add(x.build(strings.Fields(line)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size, head, bad := header(b)
		if bad || size == 0 || size > len(b) {
			return
		}
		body := b[head:size]
		if q, version, err := parseConnect(body); err == nil && (q == nil || version < 4 || version > 5) {
			t.Errorf("%+v %d", q, version)
		}
		for typ := range byte(16) {
			in := &input{b: body}
			in.u16()
			p := in.properties(typ)
			if in.bad == 0 && p.given&^allowed[typ] != 0 {
				t.Errorf("%x", p.given)
			}
		}
	})
}
