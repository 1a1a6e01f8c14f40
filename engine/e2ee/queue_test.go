package e2ee

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hearth/engine/fault"
	"hearth/engine/store"
	"hearth/engine/stream"
)

func (h *hub) send(txn, text string, to ...Owner) error {
	var list []Message
	for _, o := range to {
		list = append(list, Message{o.User, o.Num, fmt.Appendf(nil, `{"text":%q}`, text)})
	}
	s := Sent{Sender: "@c:hub", Type: "m.test"}
	if txn != "" {
		s.Device, s.Txn = 3<<32|1, txn
	}
	return h.Send(&s, list)
}

// receive gives the texts that a device is told after a position.
func (h *hub) receive(o Owner, after stream.Pos) (texts string, last stream.Pos, more bool) {
	h.t.Helper()
	dst, last, more, err := h.AppendMessages(nil, o.Num, after, h.log.Tip())
	must(h.t, err)
	for i, m := range strings.Split(string(dst), `{"content":{"text":"`)[1:] {
		text, rest, _ := strings.Cut(m, `"`)
		if i > 0 {
			texts += " "
		}
		texts += text
		if !strings.HasPrefix(rest, `},"sender":"@c:hub","type":"m.test"}`) {
			h.t.Fatal(m)
		}
	}
	return texts, last, more
}

func TestMessagesAreDeliveredUntilAcknowledged(t *testing.T) {
	h := fresh(t)
	a, b := device(1, 1), device(2, 1)
	must(t, h.send("t1", "one", a, b))
	must(t, h.send("t1", "one", a, b))
	must(t, h.send("t2", "two", a, a))
	if got, _, _ := h.receive(b, 0); got != "one" {
		t.Fatal(got)
	}
	got, last, more := h.receive(a, 0)
	if got != "one two" || more {
		t.Fatal(got)
	}
	if again, _, _ := h.receive(a, 0); again != got {
		t.Fatal(again)
	}
	must(t, h.send("t3", "three", a))
	must(t, h.Acknowledge(a.Num, last))
	if got, last, _ = h.receive(a, 0); got != "three" {
		t.Fatal(got)
	}
	if got, same, _ := h.receive(a, last); got != "" || same != last {
		t.Fatal(got, same)
	}
	must(t, h.Acknowledge(a.Num, last))
	if w := h.waiting[a.Num]; w != (waiting{}) {
		t.Fatal(w)
	}
	if got, _, _ := h.receive(b, 0); got != "one" {
		t.Fatal(got)
	}
	wants(t, h.Send(&Sent{Sender: "@c:hub"}, nil), fault.Invalid)
	wants(t, h.Send(&Sent{Sender: "@c:hub", Type: "t"}, []Message{{1, a.Num, make([]byte, maxMessage+1)}}), fault.TooLarge)
}

// A transaction is known through the next day, and its row is gone after that.
func TestTransactionsEnd(t *testing.T) {
	h := fresh(t)
	a := device(1, 1)
	must(t, h.send("t", "one", a))
	h.time = h.time.Add(24 * time.Hour)
	must(t, h.send("t", "two", a))
	h.time = h.time.Add(24 * time.Hour)
	must(t, h.send("t", "three", a))
	if got, _, _ := h.receive(a, 0); got != "one three" {
		t.Fatal(got)
	}
	rows := 0
	must(t, h.st.ScanPrefix(store.ToDeviceTxn.Prefix(), func(_, _ []byte) (bool, error) { rows++; return true, nil }))
	if rows != 1 {
		t.Fatal(rows)
	}
}

func TestQueueIsBounded(t *testing.T) {
	h := fresh(t)
	a := device(1, 1)
	big := strings.Repeat("x", maxMessage-100)
	for i := range maxQueueBytes/maxMessage + 10 {
		must(t, h.send("", fmt.Sprint(i, "-", big), a))
	}
	w := h.waiting[a.Num]
	if w.over() || w.bytes < maxQueueBytes/2 {
		t.Fatal(w)
	}
	delete(h.waiting, a.Num)
	h.queue.Lock()
	counted, err := h.size(a.Num)
	h.queue.Unlock()
	if err != nil || counted != w {
		t.Fatal(counted, w, err)
	}
	// What is left are the newest; one answer tells of a part.
	got, _, more := h.receive(a, 0)
	if strings.HasPrefix(got, "0-") || !more || len(got) > maxToldBytes {
		t.Fatal(got[:10], more, len(got))
	}
}

func TestAnswerIsBounded(t *testing.T) {
	h := fresh(t)
	a := device(1, 1)
	for i := range 2*MaxTold + 1 {
		must(t, h.send("", fmt.Sprint(i), a))
	}
	var at stream.Pos
	for i, n := range []int{MaxTold, MaxTold, 1} {
		got, last, more := h.receive(a, at)
		if len(strings.Fields(got)) != n || more != (i < 2) {
			t.Fatal(i, got, more)
		}
		must(t, h.Acknowledge(a.Num, last))
		at = last
	}
}

// Power is cut between steps chosen at random. What was sent is received, each
// message in order and, for a client that keeps its position, once.
func TestPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	fs := vfs.NewCrashableMem()
	h := open(t, fs)
	a := device(1, 1)
	var sent, received []string
	var at stream.Pos
	for i := range 300 {
		switch rng.IntN(5) {
		case 0, 1:
			text := fmt.Sprint(i)
			must(t, h.send(text, text, a))
			sent = append(sent, text)
			if rng.IntN(3) == 0 { // the answer was lost: the client sends again
				must(t, h.send(text, text, a))
			}
		case 2, 3: // a sync: what the token proves is deleted, the rest is told
			must(t, h.Acknowledge(a.Num, at))
			got, last, _ := h.receive(a, at)
			if rng.IntN(3) > 0 { // the answer reached the client
				received, at = append(received, strings.Fields(got)...), last
			}
		case 4:
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			h.close()
			fs = crashed
			h = open(t, fs)
			if len(sent) > 0 { // a retry across the cut makes no second message
				must(t, h.send(sent[len(sent)-1], sent[len(sent)-1], a))
			}
		}
	}
	for {
		must(t, h.Acknowledge(a.Num, at))
		got, last, _ := h.receive(a, at)
		if got == "" {
			break
		}
		received, at = append(received, strings.Fields(got)...), last
	}
	h.close()
	if strings.Join(received, " ") != strings.Join(sent, " ") {
		t.Fatalf("sent %v\nreceived %v", sent, received)
	}
}

// A one-time key that was given away is not there after a power cut.
func TestClaimedKeysStayClaimed(t *testing.T) {
	fs := vfs.NewCrashableMem()
	h := open(t, fs)
	o := device(1, 1)
	must(t, h.upload(o, `{"one_time_keys":{"s:1":"one","s:2":"two"}}`))
	first := h.claim(o, "s")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	h.close()
	h = open(t, crashed)
	defer h.close()
	if got := h.counts(o); got != `{"s":1} []` {
		t.Fatal(got)
	}
	if second := h.claim(o, "s"); second == first || second == "" {
		t.Fatal(first, second)
	}
}
