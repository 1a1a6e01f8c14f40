package federation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hearth/engine/fault"
	"hearth/engine/mxid"
)

// An origin has one transaction worked on and two waiting, all together have eight;
// who gives up waiting leaves no trace.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		in := func(ctx context.Context, origin mxid.Server) chan *caller {
			got := make(chan *caller, 1)
			go func() {
				one, err := turns.enter(ctx, origin)
				if err != nil {
					one = nil
				}
				got <- one
			}()
			synctest.Wait()
			return got
		}
		var first []*caller
		for i := range maxReceiving {
			got := in(ctx, mxid.Server(fmt.Sprintf("s%d.test", i)))
			if len(got) != 1 {
				t.Fatalf("%d are let in", i)
			}
			first = append(first, <-got)
		}
		second, quitter := in(ctx, "s0.test"), in(ctx, "s0.test")
		if len(second)+len(quitter) != 0 {
			t.Error("an origin has two worked on at once")
		}
		_, err := turns.enter(ctx, "s0.test")
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Limit || f.Retry <= 0 {
			t.Errorf("a fourth: %v", err)
		}
		gone, cancelGone := context.WithCancel(ctx)
		other := in(gone, "s1.test")
		cancelGone()
		if one := <-other; one != nil {
			t.Error("who gave up got in")
		}
		var ends []func()
		for i := range maxReceiving {
			done, err := turns.work(ctx)
			if err != nil {
				t.Fatalf("%d are at work: %v", i, err)
			}
			ends = append(ends, done)
		}
		gone, cancelGone = context.WithCancel(ctx)
		cancelGone()
		if _, err := turns.work(gone); !fault.Is(err, fault.Busy) {
			t.Errorf("nine are worked on at once: %v", err)
		}
		for _, done := range ends {
			done()
		}
		if len(turns.all) != 0 {
			t.Error("a place is free and nobody may have it")
		}
		turns.leave(first[0])
		synctest.Wait()
		if len(second)+len(quitter) != 1 {
			t.Error("the origin's next does not come")
		}
		cancel()
		synctest.Wait()
		for _, one := range turns.origins {
			want := 0
			for _, holds := range append(first[1:], turns.origins["s0.test"]) {
				if one == holds {
					want = 1
				}
			}
			if one.users != want {
				t.Errorf("%d users, want %d", one.users, want)
			}
		}
	})
}

// What is remembered of origins is bounded; who owes is remembered longest.
func TestOriginsForgotten(t *testing.T) {
	turns := newTurns()
	for i := range 3 * maxOrigins {
		one, err := turns.enter(context.Background(), mxid.Server(fmt.Sprintf("s%d.test", i)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			turns.pay(one, make([]edu, eduBurst+1), time.Unix(1, 0))
		}
		turns.leave(one)
	}
	if n := len(turns.origins); n > maxOrigins {
		t.Errorf("%d origins", n)
	}
	if turns.origins["s5.test"] == nil {
		t.Error("a debt is forgotten")
	}
}

// Who tells too much is told when to come again, and nothing of it is done twice;
// what would be out of date soon is passed over, events are not held up, and
// nobody else is.
func TestTooManyEDUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		n := 0
		send := func(origin mxid.Server, edus string) error {
			n++
			_, err := w.Receive(t.Context(), origin, fmt.Sprint(n), []byte(`{"pdus":[],"edus":[`+edus+`]}`))
			return err
		}
		full := strings.TrimSuffix(strings.Repeat(`{"edu_type":"m.direct_to_device","content":{"sender":"@x:far.test","type":"m","message_id":"1","messages":{}}},`, maxEDUs), ",")
		// Beyond what it may tell at once it is slowed down, not refused.
		began := time.Now()
		for range 60 {
			if err := send("far.test", full); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 20*time.Second || took > time.Minute {
			t.Errorf("6,000 EDUs took %v", took)
		}
		// Who would have to wait long is refused.
		long := `{"edu_type":"m.direct_to_device","content":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`
		var err error
		for n = 0; err == nil && n < 100; {
			err = send("far.test", long)
		}
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Limit || f.Retry <= 0 || f.Retry > time.Minute {
			t.Fatal(err)
		}
		if err := send("far.test", ""); err != nil {
			t.Errorf("without EDUs: %v", err)
		}
		if err := send("far.test", `{"edu_type":"m.typing","content":{}}`); err != nil {
			t.Errorf("with what may be left out: %v", err)
		}
		if err := send("else.test", full); err != nil {
			t.Errorf("somebody else: %v", err)
		}
		time.Sleep(f.Retry)
		if err := send("far.test", full); err != nil {
			t.Errorf("when it was told to come: %v", err)
		}
	})
}

// Who tells us to wait is left alone for that long.
func TestToldToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		num := w.create()
		w.member(num, "@b:one.example", "@b:one.example", "join")
		w.took("one.example")
		w.fail("one.example", refusal(&Request{Dest: "one.example"}, 429, []byte(`{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":600000}`)))
		w.say(num, "1")
		synctest.Wait()
		w.fail("one.example", nil)
		time.Sleep(9 * time.Minute)
		w.want("one.example", "")
		time.Sleep(2 * time.Minute)
		w.want("one.example", "1")
	})
}

// Few are made to wait at once, none for long, and who gives up is let go.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		if turns.linger(t.Context(), slowTime+1) {
			t.Error("a long wait")
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range maxSlow {
			go turns.linger(ctx, slowTime)
		}
		synctest.Wait()
		if turns.linger(t.Context(), time.Second) {
			t.Error("one more than may wait")
		}
		cancel()
		synctest.Wait()
		if !turns.linger(t.Context(), time.Second) {
			t.Error("the places are not free again")
		}
	})
}
