package mdns

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// port is where all speak. Who asks from another one knows no multicast DNS, and
// is answered alone.
const port = 5353

// came takes a packet that came in on an interface.
func (r *Responder) came(ifi int, from netip.AddrPort, packet []byte, now time.Time) {
	r.mu.Lock()
	at := slices.IndexFunc(r.ifaces, func(i Interface) bool { return i.Index == ifi })
	if at < 0 || !r.ifaces[at].near(from.Addr().Unmap().WithZone("")) || !r.packets.take(now, maxPackets) ||
		slices.Contains(r.ours[:], maphash.Bytes(r.seed, packet)) {
		r.mu.Unlock()
		return
	}
	iface, z, ready := r.ifaces[at], r.zone, r.ready
	r.mu.Unlock()
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.OpCode != 0 || h.RCode != 0 {
		return
	}
	if h.Response {
		if p.SkipAllQuestions() == nil {
			r.heard(&z, &p)
		}
		return
	}
	var questions []dnsmessage.Question
	for {
		q, err := p.Question()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil || len(questions) == maxQuestions {
			return
		}
		questions = append(questions, q)
	}
	if !ready {
		r.rival(&z, &p, iface.addrs())
		return
	}
	r.reply(&asked{iface, &z, from, h.ID, questions, known(&p), now})
}

// asked is a query.
type asked struct {
	iface     Interface
	zone      *zone
	from      netip.AddrPort
	id        uint16
	questions []dnsmessage.Question
	known     map[string]bool
	now       time.Time
}

// known are the records that who asks has already. Spec: RFC 6762, 7.1.
func known(p *dnsmessage.Parser) map[string]bool {
	var have map[string]bool
	for range maxRecords {
		res, err := p.Answer()
		if err != nil {
			return have
		}
		r := record{name: res.Header.Name.String(), typ: res.Header.Type, body: res.Body, ttl: ttlOther}
		switch r.typ {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeSRV:
			r.ttl = ttlHost
		}
		if res.Header.TTL >= r.ttl/2 {
			if have == nil {
				have = map[string]bool{}
			}
			have[r.key()] = true
		}
	}
	return have
}

// reply answers a query.
func (r *Responder) reply(a *asked) {
	legacy := a.from.Port() != port
	var list, more []record
	seen := map[string]bool{}
	for i := range a.questions {
		q := &a.questions[i]
		if class := q.Class &^ (1 << 15); class != classINET && class != dnsmessage.ClassANY {
			continue
		}
		found, also := a.zone.answers(q, a.iface.addrs())
		for _, one := range found {
			if key := one.key(); !seen[key] && !a.known[key] && (legacy || r.due(a.iface.Index, key, a.now)) {
				seen[key] = true
				list = append(list, one)
			}
		}
		more = append(more, also...)
	}
	if len(list) == 0 {
		return
	}
	more = slices.DeleteFunc(more, func(one record) bool {
		key := one.key()
		gone := seen[key]
		seen[key] = true
		return gone
	})
	r.mu.Lock()
	ok := r.answered.take(a.now, maxAnswers)
	r.mu.Unlock()
	if !ok {
		return
	}
	h := dnsmessage.Header{Response: true, Authoritative: true}
	var to netip.AddrPort
	var questions []dnsmessage.Question
	if legacy {
		h.ID, to, questions = a.id, a.from, a.questions
	}
	if packet, err := pack(h, questions, [3][]record{0: list, 2: more}, legacy); err == nil {
		r.out(a.iface.Index, to, packet)
	}
}

// due says whether a record may go out to an interface now, and notes it.
func (r *Responder) due(ifi int, key string, now time.Time) bool {
	key = strconv.Itoa(ifi) + " " + key
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.told[key]; ok && now.Sub(last) < answerEvery && now.After(last) {
		return false
	}
	if len(r.told) > 1024 { // as many as there are records, but for interfaces that came and went
		clear(r.told)
	}
	r.told[key] = now
	return true
}

// heard looks at what others say for a name that the hub has or wants.
func (r *Responder) heard(z *zone, p *dnsmessage.Parser) {
	for range maxRecords {
		res, err := p.Answer()
		if err != nil {
			return
		}
		if res.Header.TTL == 0 || !r.contradicts(z, &res) {
			continue
		}
		r.mu.Lock()
		r.taken = true
		ready := r.ready
		r.mu.Unlock()
		if ready {
			r.rouse() // asks for the name again; who has it answers
		}
		return
	}
}

// contradicts says whether a record of somebody else's is for a name of the hub's,
// and says another thing. The same machine's addresses are the hub's, whoever tells
// them.
func (r *Responder) contradicts(z *zone, res *dnsmessage.Resource) bool {
	name := strings.ToLower(res.Header.Name.String())
	switch body := res.Body.(type) {
	case *dnsmessage.AResource:
		return name == z.host() && !r.own(netip.AddrFrom4(body.A))
	case *dnsmessage.AAAAResource:
		return name == z.host() && !r.own(netip.AddrFrom16(body.AAAA))
	case *dnsmessage.SRVResource:
		for _, s := range z.services {
			if name == strings.ToLower(z.instance(s)) {
				return body.Port != s.Port || !strings.EqualFold(body.Target.String(), z.host())
			}
		}
	}
	return false
}

// own says whether an address is this machine's.
func (r *Responder) own(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.ifaces, func(i Interface) bool { return slices.Contains(i.addrs(), a) })
}

// rival looks at who else asks for the name just now.
func (r *Responder) rival(z *zone, p *dnsmessage.Parser, addrs []netip.Addr) {
	if p.SkipAllAnswers() != nil {
		return
	}
	var theirs []netip.Addr
	for range maxRecords {
		res, err := p.Authority()
		if err != nil {
			break
		}
		if strings.ToLower(res.Header.Name.String()) != z.host() {
			continue
		}
		switch body := res.Body.(type) {
		case *dnsmessage.AResource:
			theirs = append(theirs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			theirs = append(theirs, netip.AddrFrom16(body.AAAA))
		}
	}
	if len(theirs) == 0 || !slices.ContainsFunc(theirs, func(a netip.Addr) bool { return !r.own(a) }) || sets(theirs, addrs) <= 0 {
		return
	}
	r.mu.Lock()
	r.lost = true
	r.mu.Unlock()
}
