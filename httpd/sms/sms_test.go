package sms

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"hearth/engine/fault"
)

func TestSend(t *testing.T) {
	var got string
	status := 200
	s, err := New("https://sms.example/send", func(_ context.Context, url string, body []byte) (int, []byte, error) {
		if url != "https://sms.example/send" {
			t.Error(url)
		}
		got = string(body)
		if status == 0 {
			return 0, nil, errors.New("nobody there")
		}
		return status, nil, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(netip.MustParseAddr("192.0.2.1"), "447700900001", `code "1"`); err != nil {
		t.Fatal(err)
	}
	if got != `{"to":"+447700900001","text":"code \"1\""}` {
		t.Fatal(got)
	}
	for _, status = range []int{0, 302, 404, 500} {
		if err := s.Send(netip.MustParseAddr("192.0.2.2"), "1"+strconv.Itoa(status), "x"); !fault.Is(err, fault.Remote) {
			t.Errorf("%d: %v", status, err)
		}
	}
	for _, bad := range []string{"", "sms", "ftp://x", "http://"} {
		if _, err := New(bad, nil, nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestDailyLimits(t *testing.T) {
	now := time.Unix(86400*100, 0)
	s, err := New("http://127.0.0.1:1", nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	tries := func(from string, to func(i int) string) (n int) {
		for ; n < 1000; n++ {
			if err := s.take(netip.MustParseAddr(from), to(n)); err != nil {
				if !fault.Is(err, fault.Limit) {
					t.Fatal(err)
				}
				return n
			}
		}
		return n
	}
	one := func(int) string { return "15550001" }
	another := func(i int) string { return "1666" + strconv.Itoa(i) }
	if n := tries("192.0.2.1", one); n != perNumber {
		t.Errorf("%d to one number", n)
	}
	if n := tries("192.0.2.2", one); n != 0 {
		t.Errorf("%d more to the number from elsewhere", n)
	}
	if n := tries("192.0.2.1", another); n != perOrigin-perNumber {
		t.Errorf("%d more from one origin", n)
	}
	if n := tries("2001:db8::1", another) + tries("2001:db8::2", another); n != perOrigin {
		t.Errorf("%d from one network", n)
	}
	all := 0
	for i := range 250 {
		all += tries("198.51.100."+strconv.Itoa(i), func(k int) string { return strconv.Itoa(1000*i + k + 10_000_000) })
	}
	if all != perDay-perOrigin*2 || len(s.sent) > 3*perDay {
		t.Errorf("%d more in all, %d counts", all, len(s.sent))
	}
	now = now.Add(24 * time.Hour)
	if n := tries("192.0.2.1", one); n != perNumber {
		t.Errorf("%d on the next day", n)
	}
}
