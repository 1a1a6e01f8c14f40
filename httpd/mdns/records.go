package mdns

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Service is one thing to be found.
type Service struct {
	Type string // as _mqtt._tcp
	Port uint16
	Text []string // KEY=VALUE each
}

// Times that others may remember records for, in seconds. Spec: RFC 6762, 10.
const (
	ttlHost  = 120
	ttlOther = 4500
)

const (
	classINET  = dnsmessage.ClassINET
	classFlush = dnsmessage.ClassINET | 1<<15 // others' records of the name are over
	typeNSEC   = dnsmessage.Type(47)
)

const allTypes = "_services._dns-sd._udp.local."

// record is one that the hub may give.
type record struct {
	name   string
	unique bool // nobody else has one of that name
	ttl    uint32
	typ    dnsmessage.Type
	body   dnsmessage.ResourceBody
}

// key tells records apart.
func (r *record) key() string { return strings.ToLower(r.name) + r.typ.String() + r.body.GoString() }

// zone is all that the hub has to say.
type zone struct {
	label    string // of the host, and of its services
	services []Service
}

func (z *zone) host() string              { return z.label + ".local." }
func (z *zone) instance(s Service) string { return z.label + "." + s.Type + ".local." }

func mustName(text string) dnsmessage.Name {
	name, err := dnsmessage.NewName(text)
	if err != nil {
		panic("mdns: a name of ours is too long: " + text) // labels are cut to 63 bytes
	}
	return name
}

// addresses gives the records of the host on an interface with these addresses.
func (z *zone) addresses(addrs []netip.Addr) (list []record) {
	for _, a := range addrs {
		r := record{name: z.host(), unique: true, ttl: ttlHost, typ: dnsmessage.TypeA}
		if a.Is4() {
			r.body = &dnsmessage.AResource{A: a.As4()}
		} else {
			r.typ, r.body = dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: a.As16()}
		}
		list = append(list, r)
	}
	return list
}

// srv is the record of where a service is.
func (z *zone) srv(s Service) record {
	return record{
		name: z.instance(s), unique: true, ttl: ttlHost, typ: dnsmessage.TypeSRV,
		body: &dnsmessage.SRVResource{Port: s.Port, Target: mustName(z.host())},
	}
}

// all gives every record but NSEC.
func (z *zone) all(addrs []netip.Addr) []record {
	list := z.addresses(addrs)
	for _, s := range z.services {
		text := s.Text
		if len(text) == 0 {
			text = []string{""} // Spec: RFC 6763, 6.1
		}
		list = append(list,
			record{s.Type + ".local.", false, ttlOther, dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: mustName(z.instance(s))}},
			z.srv(s),
			record{z.instance(s), true, ttlOther, dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: text}},
			record{allTypes, false, ttlOther, dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: mustName(s.Type + ".local.")}})
	}
	return list
}

// nothing says which types of the host's address there are, to who asks for the one
// that there is not: they would wait for it otherwise. Spec: RFC 6762, 6.1.
func (z *zone) nothing(addrs []netip.Addr) record {
	var bits [4]byte
	for _, a := range addrs {
		if a.Is4() {
			bits[0] |= 0x40 // type 1
		} else {
			bits[3] |= 0x08 // type 28
		}
	}
	var data []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(z.host(), "."), ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	data = append(append(data, 0, 0, byte(len(bits))), bits[:]...)
	return record{z.host(), true, ttlHost, typeNSEC, &dnsmessage.UnknownResource{Type: typeNSEC, Data: data}}
}

// answers gives what there is to say to a question, and what who asks it will ask
// next.
func (z *zone) answers(q *dnsmessage.Question, addrs []netip.Addr) (list, more []record) {
	name := strings.ToLower(q.Name.String())
	all := z.all(addrs)
	for _, r := range all {
		if strings.ToLower(r.name) == name && (q.Type == r.typ || q.Type == dnsmessage.TypeALL) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		if name == strings.ToLower(z.host()) && (q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeAAAA) && len(addrs) > 0 {
			list = append(list, z.nothing(addrs))
		}
		return list, nil
	}
	for _, r := range list {
		if r.name == allTypes {
			continue
		}
		target := ""
		switch b := r.body.(type) {
		case *dnsmessage.PTRResource:
			target = b.PTR.String()
		case *dnsmessage.SRVResource:
			target = b.Target.String()
		default:
			continue
		}
		for _, o := range all {
			if o.name == target || r.typ == dnsmessage.TypePTR && strings.HasPrefix(target, z.label+".") && o.name == z.host() {
				more = append(more, o)
			}
		}
	}
	return list, more
}

// pack makes a message of records; those of which others are not to forget the same
// name (legacy) have no mark for it. Spec: RFC 6762, 6.7 and 18.
func pack(h dnsmessage.Header, questions []dnsmessage.Question, sections [3][]record, legacy bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	err := b.StartQuestions()
	for i := 0; err == nil && i < len(questions); i++ {
		err = b.Question(questions[i])
	}
	for i, start := range []func() error{b.StartAnswers, b.StartAuthorities, b.StartAdditionals} {
		if err == nil {
			err = start()
		}
		for j := 0; err == nil && j < len(sections[i]); j++ {
			r := &sections[i][j]
			head := dnsmessage.ResourceHeader{Name: mustName(r.name), Class: classINET, TTL: r.ttl}
			if legacy {
				head.TTL = min(head.TTL, 10)
			} else if r.unique && i != 1 {
				head.Class = classFlush
			}
			err = r.add(&b, head)
		}
	}
	if err != nil {
		return nil, err
	}
	return b.Finish()
}

func (r *record) add(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
	switch body := r.body.(type) {
	case *dnsmessage.AResource:
		return b.AResource(h, *body)
	case *dnsmessage.AAAAResource:
		return b.AAAAResource(h, *body)
	case *dnsmessage.SRVResource:
		return b.SRVResource(h, *body)
	case *dnsmessage.PTRResource:
		return b.PTRResource(h, *body)
	case *dnsmessage.TXTResource:
		return b.TXTResource(h, *body)
	case *dnsmessage.UnknownResource:
		return b.UnknownResource(h, *body)
	}
	panic("mdns: a record of a kind that the hub does not make")
}

// label makes a host label of any text: letters, digits and hyphens.
func label(text string) string {
	text, _, _ = strings.Cut(text, ".")
	b := make([]byte, 0, len(text))
	for _, c := range []byte(strings.ToLower(text)) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && len(b) > 0 {
			b = append(b, c)
		}
	}
	return string(bytes.TrimRight(b[:min(len(b), 56)], "-")) // room for what tells namesakes apart
}

// sets compares the addresses of two who want one name at the same time: the one
// that sorts later has it. Spec: RFC 6762, 8.2.
func sets(a, b []netip.Addr) int {
	order := func(x, y netip.Addr) int {
		if x.Is4() != y.Is4() {
			if x.Is4() {
				return -1
			}
			return 1
		}
		return x.Compare(y)
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.CompareFunc(a, b, order)
}
