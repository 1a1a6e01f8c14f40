package mqttd

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hearth/engine/mqtt"
)

// tool finds a program of the mosquitto-clients package.
func tool(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("HEARTH_MOSQUITTO") == "must" {
			t.Fatalf("%s is not here", name)
		}
		t.Skipf("NOT TESTED: %s is not here (apt-get install mosquitto-clients)", name)
	}
	return p
}

// What the tools that everybody has make of the hub, in both versions.
func TestMosquittoClients(t *testing.T) {
	sub, pub := tool(t, "mosquitto_sub"), tool(t, "mosquitto_pub")
	h := start(t, mqtt.Options{}, Options{})
	host, port, _ := net.SplitHostPort(h.addr)
	for _, version := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			topic := "house/" + version + "/" + qos
			args := []string{"-h", host, "-p", port, "-V", version, "-u", "lamp", "-q", qos}
			listen := exec.Command(sub, append(args, "-t", topic+"/#", "-C", "2", "-W", "20", "-F", "%t %q %r %p", "-i", "listener"+version+qos)...)
			var out bytes.Buffer
			listen.Stdout, listen.Stderr = &out, &out
			if err := listen.Start(); err != nil {
				t.Fatal(err)
			}
			until(t, func() bool { return h.broker.Figures().Subscriptions == 1 })
			for _, text := range []string{"one", "two"} {
				if b, err := exec.Command(pub, append(args, "-t", topic+"/a", "-m", text)...).CombinedOutput(); err != nil {
					t.Fatalf("%v %s", err, b)
				}
			}
			if err := listen.Wait(); err != nil {
				t.Fatalf("%v %s", err, out.String())
			}
			want := topic + "/a " + qos + " 0 one\n" + topic + "/a " + qos + " 0 two\n"
			if out.String() != want {
				t.Errorf("version %s, QoS %s: got %q", version, qos, out.String())
			}
			until(t, func() bool { return h.broker.Figures().Subscriptions == 0 })
		}
		args := []string{"-h", host, "-p", port, "-V", version, "-u", "lamp", "-q", "1"}
		if b, err := exec.Command(pub, append(args, "-r", "-t", "kept/"+version, "-m", "on")...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, b)
		}
		b, err := exec.Command(sub, append(args, "-t", "kept/+", "-t", "kept/"+version, "-C", "1", "-W", "20", "-F", "%t %r %p")...).CombinedOutput()
		if err != nil || !strings.HasSuffix(string(b), " 1 on\n") {
			t.Fatalf("%v %q", err, b)
		}
	}
}

// until waits for something to become true.
func until(t *testing.T, f func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it did not come true")
		}
	}
}
