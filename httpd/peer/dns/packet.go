package dns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answer is what a name server said: addresses, services, or nothing.
type answer struct {
	addrs    []netip.Addr
	services []service
	next     string // the name to ask for instead; nothing else is there then
	ttl      time.Duration
}

// service is one SRV record.
type service struct {
	Target
	priority, weight uint16
}

// Bounds of one packet.
const (
	maxRecords  = 16  // that are kept of one answer
	maxWalk     = 256 // records that are looked at
	udpAnswer   = 1232
	maxAliasSet = 16
)

var (
	errOther     = errors.New("an answer to something else")
	errTruncated = errors.New("the answer does not fit into one packet")
	errForm      = errors.New("it does not understand the question")
	errPacket    = errors.New("not a DNS packet that can be read")
)

// pack writes a question. Long answers by UDP are asked for by EDNS, which a few
// old routers do not understand.
func pack(id uint16, q question, edns bool) ([]byte, error) {
	name, err := dnsmessage.NewName(q.name + ".")
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: name, Type: q.kind, Class: dnsmessage.ClassINET}); err != nil {
		return nil, err
	}
	if edns {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(udpAnswer, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// parse reads the answer to a question. errOther means that the packet is none,
// and that the right one may still come.
func parse(msg []byte, id uint16, q question) (*answer, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id || !h.Response || h.OpCode != 0 {
		return nil, errOther
	}
	asked, err := p.Question()
	if err != nil && h.RCode == dnsmessage.RCodeFormatError {
		return nil, errForm // such servers do not repeat the question
	}
	if err != nil || same(asked.Name) != q.name || asked.Type != q.kind || asked.Class != dnsmessage.ClassINET {
		return nil, errOther
	}
	switch {
	case h.Truncated:
		return nil, errTruncated
	case h.RCode == dnsmessage.RCodeFormatError, h.RCode == dnsmessage.RCodeNotImplemented:
		return nil, errForm
	case h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError:
		return nil, fmt.Errorf("it answered %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	if p.SkipAllQuestions() != nil {
		return nil, errPacket
	}
	return records(&p, q)
}

// found is the records of an answer before they are put in order.
type found struct {
	aliases map[string]string // name to the name that it stands for
	owner   []string          // of each address
	addrs   []netip.Addr
	a       answer
}

// records reads the answer section, and the authority where nothing is in it.
func records(p *dnsmessage.Parser, q question) (*answer, error) {
	f := found{a: answer{ttl: mostKept}}
	for range maxWalk {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return f.settle(p, q), nil
		}
		if err != nil || f.take(p, h, q) != nil {
			return nil, errPacket
		}
	}
	return nil, errPacket
}

// take reads one record, and skips what was not asked for.
func (f *found) take(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, q question) error {
	if h.Class != dnsmessage.ClassINET || h.Type != q.kind && h.Type != dnsmessage.TypeCNAME {
		return p.SkipAnswer()
	}
	ttl := time.Duration(h.TTL) * time.Second
	if h.TTL > 1<<31-1 { // RFC 2181, 8: such a time is none
		ttl = 0
	}
	f.a.ttl = min(f.a.ttl, max(ttl, leastKept))
	switch h.Type {
	case dnsmessage.TypeCNAME:
		r, err := p.CNAMEResource()
		if err != nil {
			return err
		}
		if f.aliases == nil {
			f.aliases = map[string]string{}
		}
		if len(f.aliases) < maxAliasSet {
			f.aliases[same(h.Name)] = same(r.CNAME)
		}
	case dnsmessage.TypeA:
		r, err := p.AResource()
		if err != nil {
			return err
		}
		f.address(h, netip.AddrFrom4(r.A))
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		if err != nil {
			return err
		}
		f.address(h, netip.AddrFrom16(r.AAAA))
	default:
		r, err := p.SRVResource()
		if err != nil {
			return err
		}
		if len(f.a.services) < maxRecords {
			f.a.services = append(f.a.services, service{Target{same(r.Target), r.Port}, r.Priority, r.Weight})
		}
	}
	return nil
}

func (f *found) address(h dnsmessage.ResourceHeader, a netip.Addr) {
	if len(f.addrs) < maxRecords {
		f.owner, f.addrs = append(f.owner, same(h.Name)), append(f.addrs, a)
	}
}

// settle keeps the records of the name that was asked for, or of the one that it
// stands for.
func (f *found) settle(p *dnsmessage.Parser, q question) *answer {
	name := q.name
	for range maxChain {
		next, ok := f.aliases[name]
		if !ok {
			break
		}
		name = next
	}
	for i, a := range f.addrs {
		if f.owner[i] == name {
			f.a.addrs = append(f.a.addrs, a)
		}
	}
	if len(f.a.addrs)+len(f.a.services) > 0 {
		return &f.a
	}
	ttl, said := soa(p)
	if name != q.name && !said && name != "" {
		f.a.next = name // the name server went no further
		return &f.a
	}
	return &answer{ttl: ttl}
}

// soa says how long it may be believed that there is nothing.
func soa(p *dnsmessage.Parser) (ttl time.Duration, said bool) {
	if p.SkipAllAnswers() != nil {
		return noneKept, false
	}
	for range maxWalk {
		h, err := p.AuthorityHeader()
		if err != nil {
			break
		}
		if h.Type != dnsmessage.TypeSOA {
			if p.SkipAuthority() != nil {
				break
			}
			continue
		}
		r, err := p.SOAResource()
		if err != nil {
			break
		}
		ttl := time.Duration(min(r.MinTTL, h.TTL)) * time.Second
		return min(max(ttl, leastKept), noneMost), true
	}
	return noneKept, false
}

// same gives a name as questions have it.
func same(n dnsmessage.Name) string { return strings.ToLower(strings.TrimSuffix(n.String(), ".")) }

// order puts services as they are to be tried: by priority, and by chance where
// that is equal, the heavier the sooner. Spec: RFC 2782. A service at "." is none.
func order(all []service) []Target {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b service) int { return int(a.priority) - int(b.priority) })
	var out []Target
	for len(all) > 0 {
		group, sum := 0, 0
		for group < len(all) && all[group].priority == all[0].priority {
			sum += int(all[group].weight) + 1 // those without weight have a small chance too
			group++
		}
		pick, left := 0, rand.IntN(sum)
		for left -= int(all[0].weight) + 1; left >= 0; left -= int(all[pick].weight) + 1 {
			pick++
		}
		if t := all[pick].Target; t.Host != "" && t.Port != 0 {
			out = append(out, t)
		}
		all = slices.Delete(all, pick, pick+1)
	}
	return out
}
