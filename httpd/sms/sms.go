// Package sms hands text messages to the owner's gateway: codes by which people
// prove that a phone is theirs.
//
// It owns the one request that a gateway gets, and how many messages the hub
// sends: each costs the owner money, and strangers can ask for them. It refuses
// to know any provider's API: a URL of the owner's gets JSON, and whatever
// stands there speaks to the provider.
package sms

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"hearth/engine/fault"
)

// How many messages go out in a day: to one number, at the wish of one origin,
// and in all.
const (
	perNumber = 5
	perOrigin = 10
	perDay    = 200
)

// sendTime is how long the gateway may take.
const sendTime = 15 * time.Second

// Post sends a body of JSON to a URL of the owner's.
type Post func(ctx context.Context, url string, body []byte) (status int, answer []byte, err error)

// Sender sends messages. All methods may be called at the same time.
type Sender struct {
	url  string
	post Post
	now  func() time.Time

	mu   sync.Mutex
	day  int64          // which of 24 hours the counts below are of
	sent map[string]int // by number and by origin; bounded by perDay
	all  int
}

// New makes a sender for a gateway's URL; now may be nil.
func New(gateway string, post Post, now func() time.Time) (*Sender, error) {
	u, err := url.Parse(gateway)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("sms: %q is not a URL", gateway)
	}
	if now == nil {
		now = time.Now
	}
	return &Sender{url: gateway, post: post, now: now, sent: map[string]int{}}, nil
}

// origin is who is counted as one: of the long addresses, a network of them.
func origin(from netip.Addr) string {
	bits := 32
	if from.Is6() {
		bits = 64
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return "nobody"
	}
	return p.String()
}

// take counts one message, or says that there have been enough.
func (s *Sender) take(from netip.Addr, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if day := now.Unix() / 86400; day != s.day {
		s.day, s.sent, s.all = day, map[string]int{}, 0
	}
	number, who := "+"+to, origin(from)
	if s.sent[number] >= perNumber || s.sent[who] >= perOrigin || s.all >= perDay {
		return fault.Wait("sms.Send", time.Unix((s.day+1)*86400, 0).Sub(now))
	}
	s.sent[number]++
	s.sent[who]++
	s.all++
	return nil
}

// Send gives a message for a number (digits with the country's code, no plus) to
// the gateway, at the wish of whoever asks from an address. It returns when the
// gateway has taken it. Errors: Limit, Remote.
func (s *Sender) Send(from netip.Addr, to, text string) error {
	if err := s.take(from, to); err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		To   string `json:"to"`
		Text string `json:"text"`
	}{"+" + to, text})
	if err != nil {
		return fmt.Errorf("sms: %w", err)
	}
	ctx, end := context.WithTimeout(context.Background(), sendTime)
	defer end()
	status, _, err := s.post(ctx, s.url, body)
	if err != nil {
		return fault.E(fault.Remote, "sms.Send", "the gateway does not answer: %w", err)
	}
	if status/100 != 2 {
		return fault.E(fault.Remote, "sms.Send", "the gateway answers %d", status)
	}
	return nil
}
