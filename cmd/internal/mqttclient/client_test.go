package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/mqtt"
	"hearth/httpd/mqttd"
)

// start runs a broker where "wrong" is everybody's wrong password.
func start(t *testing.T) (*mqtt.Broker, string) {
	t.Helper()
	e, err := engine.Open(engine.Options{Dir: t.TempDir(), Server: "hub.test"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.OpenBroker(mqtt.Options{
		Auth: func(_ context.Context, c *mqtt.Connect) (mqtt.Identity, error) {
			if string(c.Password) == "wrong" {
				return mqtt.Identity{}, mqtt.Refuse(mqtt.BadCredentials, "no such thing")
			}
			return mqtt.Identity{Name: c.Username}, nil
		},
		May: func(_ mqtt.Identity, _ mqtt.Op, topic string) bool { return topic != "forbidden" },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := mqttd.New(mqttd.Options{Broker: b})
	addr, err := s.Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close(time.Second)
		for _, err := range []error{b.Close(), e.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return b, addr.String()
}

// flaky is a way to addr whose connections break after some bytes from the
// client, the first few of them.
func flaky(t *testing.T, addr string, times, after int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	var n atomic.Int32
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				_ = c.Close()
				continue
			}
			left := 1 << 30
			if int(n.Add(1)) <= times {
				left = after
			}
			go carry(c, far, 1<<30)
			go carry(far, c, left)
		}
	}()
	return ln.Addr().String()
}

// carry copies up to n bytes, and ends both.
func carry(to, from net.Conn, n int) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64)
	for n > 0 {
		got, err := from.Read(buf[:min(n, len(buf))])
		n -= got
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:got]); err != nil {
			return
		}
	}
}

// Whatever breaks, what was published comes out: with QoS 2 once.
func TestBrokenConnections(t *testing.T) {
	b, addr := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for qos := byte(1); qos < 3; qos++ {
		topic := fmt.Sprint("t/", qos)
		ready, got := make(chan struct{}, 100), make(chan string, 1000)
		reader := New(Options{Addr: flaky(t, addr, 2, 150), ClientID: fmt.Sprint("reader", qos), User: "a", Expiry: 60, Clean: true})
		end := make(chan error, 1)
		go func() {
			n := 0
			end <- reader.Follow(ctx, []string{topic}, qos, func() { ready <- struct{}{} }, func(m Message) error {
				got <- string(m.Payload)
				if n++; qos == 2 && n == 20 || string(m.Payload) == "19" {
					return ErrStop
				}
				return nil
			})
		}()
		<-ready
		writer := New(Options{Addr: flaky(t, addr, 3, 140), ClientID: fmt.Sprint("writer", qos), User: "a", Expiry: 60, Clean: true})
		for i := range 20 {
			if err := writer.Publish(ctx, Message{Topic: topic, Payload: fmt.Append(nil, i), QoS: qos}); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-end; err != nil {
			t.Fatal(err)
		}
		close(got)
		seen, all := map[string]int{}, ""
		for text := range got {
			seen[text]++
			all += " " + text
		}
		for i := range 20 {
			if n := seen[fmt.Sprint(i)]; n == 0 || qos == 2 && n > 1 {
				t.Errorf("QoS %d: message %d came %d times:%s", qos, i, n, all)
			}
		}
		writer.Close(true)
		reader.Close(true)
	}
	for late := time.Now().Add(20 * time.Second); b.Figures().Sessions > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("sessions are left: %+v", b.Loads(10))
		}
	}
}

func TestRefusals(t *testing.T) {
	_, addr := start(t)
	ctx := t.Context()
	var refused *RefusedError
	c := New(Options{Addr: addr, ClientID: "x", User: "a", Password: "wrong"})
	if err := c.Publish(ctx, Message{Topic: "a"}); !errors.As(err, &refused) || refused.Reason != mqtt.BadCredentials || refused.Text != "no such thing" {
		t.Error(err)
	}
	c = New(Options{Addr: addr, ClientID: "x", User: "a", Password: "right"})
	for qos := byte(1); qos < 3; qos++ {
		if err := c.Publish(ctx, Message{Topic: "forbidden", QoS: qos}); !errors.As(err, &refused) || refused.Reason != mqtt.NotAuthorised {
			t.Error(err)
		}
	}
	if err := c.Follow(ctx, []string{"forbidden"}, 1, func() {}, nil); !errors.As(err, &refused) || refused.What != "subscribe" {
		t.Error(err)
	}
	if err := c.Publish(ctx, Message{Topic: "a/+"}); err != nil { // QoS 0: nobody answers
		t.Error(err)
	}
	if err := c.Publish(ctx, Message{Topic: "a/+", QoS: 1}); !errors.As(err, &refused) || refused.Reason != mqtt.BadTopic {
		t.Error(err)
	}
}

// A retained message comes as one, and its payload is what it was.
func TestRetained(t *testing.T) {
	_, addr := start(t)
	c := New(Options{Addr: addr, ClientID: "x", User: "a"})
	payload := make([]byte, 70_000)
	payload[69_999] = 0xff
	if err := c.Publish(t.Context(), Message{Topic: "kept", Payload: payload, QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	var came Message
	if err := c.Follow(t.Context(), []string{"kept"}, 0, func() {}, func(m Message) error { came = m; return ErrStop }); err != nil {
		t.Fatal(err)
	}
	if !came.Retain || string(came.Payload) != string(payload) || came.QoS != 0 {
		t.Errorf("%v, %d bytes", came.Retain, len(came.Payload))
	}
	c.Close(true)
}

func FuzzPackets(f *testing.F) {
	f.Add(publishPacket(&Message{Topic: "a", QoS: 2, Payload: []byte("x")}, 1, true)[1:])
	f.Add([]byte{0, 1, 0x87, 5, 0x1f, 0, 2, 'n', 'o'})
	f.Fuzz(func(t *testing.T, b []byte) {
		for first := range 256 {
			_, _, _ = readMessage(packet{byte(first), b})
		}
		_, _, _ = answered(packet{0x40, b})
		_ = subscribed(packet{0x90, b}, []string{"a"})
	})
}
