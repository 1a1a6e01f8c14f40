package e2e

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// mosquitto finds a program of Debian's mosquitto-clients. HEARTH_MOSQUITTO=must
// says that it has to be there.
func mosquitto(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("HEARTH_MOSQUITTO") == "must" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED: %s is not here (apt-get install mosquitto-clients)", name)
	}
	return p
}

const porchMappings = `
[[mapping]]
topic = "porch/temperature"
room = "#porch:%[1]s"
mode = "event"
type = "m.room.message"

[[mapping]]
topic = "porch/light"
room = "#porch:%[1]s"
mode = "command"
`

// A reading that mosquitto_pub publishes is seen by a Matrix client's /sync and on a
// second hub that shares the room; what is said there comes out of mosquitto_sub at
// the first, and its answer is related to it. With both versions of MQTT, in the
// clear with a password and by TLS with a client certificate.
func TestMosquittoAcrossHubs(t *testing.T) {
	pub, sub := mosquitto(t, "mosquitto_pub"), mosquitto(t, "mosquitto_sub")
	ca, dir, plain, secure := newAuthority(t), t.TempDir(), vacant(t), vacant(t)
	var first *member
	a, b := startPairWith(t, ca, func(m *member) {
		if first != nil {
			return
		}
		first = m
		file := filepath.Join(dir, "hearth.toml")
		if err := os.WriteFile(file, fmt.Appendf(nil, porchMappings, m.name), 0o600); err != nil {
			t.Fatal(err)
		}
		m.args[slices.Index(m.args, "--mqtt-listen")+1] = plain + ",tls://" + secure
		m.args = append(m.args, "--config", file)
	})
	alice, bob := a.ownedBy("alice"), b.register("bob")
	porch := must(alice.CreateRoom(t.Context(), &mautrix.ReqCreateRoom{Preset: "public_chat", RoomAliasName: "porch"}))(t).RoomID
	must(bob.JoinRoom(t.Context(), "#porch:"+a.name, &mautrix.ReqJoinRoom{Via: []string{a.name}}))(t)
	toAlice, toBob := follow(t, alice), follow(t, bob)
	secret := a.thing("add", "porch").Password
	block, key := pem.Decode([]byte(a.thing("cert", "porch").PEM))
	certFile, keyFile := filepath.Join(dir, "porch.crt"), filepath.Join(dir, "porch.key")
	for file, text := range map[string][]byte{certFile: pem.EncodeToMemory(block), keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, way := range []struct {
		name, addr string
		args       []string
	}{
		{"password", plain, []string{"-u", "porch", "-P", secret}},
		{"certificate", secure, []string{"--cafile", ca.file(), "--cert", certFile, "--key", keyFile}},
	} {
		for _, version := range []string{"311", "5"} {
			t.Run(way.name+"/"+version, func(t *testing.T) {
				host, port, _ := net.SplitHostPort(way.addr)
				args := append([]string{"-h", host, "-p", port, "-V", version, "-q", "1"}, way.args...)
				// With a session that is kept no command comes before it listens.
				listen := append(slices.Clone(args), "-t", "porch/light", "-c", "-i", "porch-"+version)
				if out, err := exec.Command(sub, append(listen, "-E")...).CombinedOutput(); err != nil {
					t.Fatalf("mosquitto_sub: %v %s", err, out)
				}
				var said bytes.Buffer
				s := exec.Command(sub, append(listen, "-C", "1", "-W", "60")...)
				s.Stdout, s.Stderr = &said, &said
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				reading := "21.5 by " + t.Name()
				if out, err := exec.Command(pub, append(args, "-t", "porch/temperature", "-m", reading)...).CombinedOutput(); err != nil {
					t.Fatalf("mosquitto_pub: %v %s", err, out)
				}
				for who, to := range map[string]<-chan *event.Event{"alice": toAlice, "bob": toBob} {
					await(t, to, who+" sees the reading", func(e *event.Event) bool {
						return e.Sender == id.NewUserID("porch", a.name) && e.Content.AsMessage().Body == reading
					})
				}
				asked := must(bob.SendText(t.Context(), porch, "on by "+t.Name()))(t).EventID
				if err := s.Wait(); err != nil || said.String() != "on by "+t.Name()+"\n" {
					t.Errorf("mosquitto_sub: %v, it printed %q", err, said.String())
				}
				if out, err := exec.Command(pub, append(args, "-t", "porch/light/reply", "-m", "is on")...).CombinedOutput(); err != nil {
					t.Fatalf("mosquitto_pub: %v %s", err, out)
				}
				await(t, toBob, "bob sees the answer", func(e *event.Event) bool {
					rel := e.Content.AsMessage().RelatesTo
					return e.Content.AsMessage().Body == "is on" && rel != nil && rel.EventID == asked
				})
			})
		}
	}
	if out, err := exec.Command(pub, "-h", "127.0.0.1", "-p", secure[strings.LastIndex(secure, ":")+1:], "--cafile", ca.file(), "-t", "porch/temperature", "-m", "x").CombinedOutput(); err == nil {
		t.Errorf("somebody without a certificate and a name is let in: %s", out)
	}
}
