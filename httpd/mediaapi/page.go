package mediaapi

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// page is what a web page says of itself. Spec: the Open Graph protocol.
type page struct {
	props   []property // og:… in their order, each once
	title   string
	base    string
	charset string
	other   [3]string // fallbacks, by fallback
}

// property is one of a page, with its name.
type property struct{ name, value string }

// What is kept of a page: a preview, not a copy.
const (
	maxProps = 16
	maxValue = 400     // bytes of one value as it is told
	maxRaw   = 2 << 10 // bytes of one attribute as it is read: addresses are long
	maxPage  = 2 << 20 // bytes of the page that are looked at
)

// Kinds of fallback for og:title, og:description and og:image.
const (
	otherTitle = iota
	otherText
	otherImage
)

// get gives a property.
func (p *page) get(name string) string {
	for _, have := range p.props {
		if have.name == name {
			return have.value
		}
	}
	return ""
}

// scanner reads HTML as it comes, tag by tag, and holds no more than a tag. It
// is no parser: what is nested in what does not matter to a preview. The
// tokenizer of golang.org/x/net/html would do as well, for 300 kB of program,
// most of it names of characters.
type scanner struct {
	r    *bufio.Reader
	page page
	done bool
}

// scanPage reads a page as far as it must.
func scanPage(r io.Reader, charset string) *page {
	s := &scanner{r: bufio.NewReader(io.LimitReader(r, maxPage)), page: page{charset: charset}}
	for !s.done {
		if s.next() == '<' {
			s.tag()
		}
	}
	p := &s.page
	for i, name := range [...]string{"og:title", "og:description", "og:image"} {
		if p.get(name) == "" && p.other[i] != "" {
			p.props = append(p.props, property{name, p.other[i]})
		}
	}
	if p.get("og:title") == "" && p.title != "" {
		p.props = append(p.props, property{"og:title", p.title})
	}
	return p
}

// next gives the next byte, 0 at the end.
func (s *scanner) next() byte {
	c, err := s.r.ReadByte()
	if err != nil {
		s.done = true
		return 0
	}
	return c
}

func (s *scanner) peek() byte {
	c, err := s.r.Peek(1)
	if err != nil {
		s.done = true
		return 0
	}
	return c[0]
}

// skip reads up to and including a text, whatever its case.
func (s *scanner) skip(text string) {
	for n := 0; n < len(text) && !s.done; {
		switch c := lower(s.next()); {
		case c == text[n]:
			n++
		case c == '-' && text == "-->" && n == 2: // "--->" ends a comment, too
		case c == text[0]:
			n = 1
		default:
			n = 0
		}
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }

// tag reads what follows a <.
func (s *scanner) tag() {
	switch c := lower(s.peek()); {
	case c == '!':
		s.next()
		if b, err := s.r.Peek(2); err == nil && string(b) == "--" {
			s.skip("-->")
			return
		}
		s.skip(">")
		return
	case c == '/' || c == '?':
		s.skip(">")
		return
	case c < 'a' || c > 'z':
		return
	}
	name := strings.ToLower(s.word(32, " \t\r\n\f/>"))
	var meta map[string]string
	if name == "meta" || name == "base" {
		meta = map[string]string{}
	}
	s.attributes(meta)
	switch name {
	case "meta":
		s.meta(meta)
	case "base":
		if s.page.base == "" {
			s.page.base = meta["href"]
		}
	case "title":
		text := s.text(s.word(maxRaw, "<"))
		if s.page.title == "" {
			s.page.title = text
		}
	case "script", "style", "textarea", "iframe", "noembed", "xmp":
		s.skip("</" + name)
	}
}

// word reads up to one of the bytes in ends, which is left to be read, and
// keeps at most most of it.
func (s *scanner) word(most int, ends string) string {
	var b []byte
	for !s.done {
		c := s.peek()
		if s.done || strings.IndexByte(ends, c) >= 0 {
			break
		}
		s.next()
		if len(b) < most {
			b = append(b, c)
		}
	}
	return string(b)
}

// attributes reads to the end of a tag, and keeps what it reads where into is
// not nil.
func (s *scanner) attributes(into map[string]string) {
	for n := 0; !s.done; n++ {
		for space(s.peek()) || s.peek() == '/' && !s.done {
			s.next()
		}
		if s.peek() == '>' || s.done {
			s.next()
			return
		}
		key := strings.ToLower(s.word(32, " \t\r\n\f/>="))
		for space(s.peek()) {
			s.next()
		}
		val := ""
		if s.peek() == '=' {
			s.next()
			val = s.value()
		}
		if _, twice := into[key]; into != nil && !twice && n < 32 {
			into[key] = val
		}
	}
}

func (s *scanner) value() string {
	for space(s.peek()) {
		s.next()
	}
	if q := s.peek(); q == '"' || q == '\'' {
		s.next()
		v := s.word(maxRaw, string(q))
		s.next()
		return v
	}
	return s.word(maxRaw, " \t\r\n\f>")
}

// meta takes what one meta element says.
func (s *scanner) meta(attr map[string]string) {
	p := &s.page
	if c := attr["charset"]; c != "" && p.charset == "" {
		p.charset = c
	}
	if _, c, ok := strings.Cut(strings.ToLower(attr["content"]), "charset="); ok && p.charset == "" && strings.EqualFold(attr["http-equiv"], "content-type") {
		p.charset = c
	}
	name := strings.ToLower(strings.TrimSpace(attr["property"]))
	if name == "" {
		name = strings.ToLower(strings.TrimSpace(attr["name"]))
	}
	value := s.text(attr["content"])
	if value == "" {
		return
	}
	switch name {
	case "twitter:title":
		p.other[otherTitle] = value
	case "twitter:description":
		p.other[otherText] = value
	case "description":
		if p.other[otherText] == "" {
			p.other[otherText] = value
		}
	case "twitter:image", "twitter:image:src":
		p.other[otherImage] = value
	default:
		if strings.HasPrefix(name, "og:") && len(name) < 32 && len(p.props) < maxProps && p.get(name) == "" {
			p.props = append(p.props, property{name, value})
		}
	}
}

// text makes readable text of what stands in the page: entities decoded, runs of
// space made one, in UTF-8.
func (s *scanner) text(raw string) string {
	return strings.Join(strings.Fields(unentity(utf8Of(raw, s.page.charset))), " ")
}

// utf8Of makes UTF-8 of a page's text. Pages of western Europe that are not in
// UTF-8 are read, others give nothing: tables for all the charsets of the past
// are larger than the rest of the hub's text handling.
func utf8Of(s, charset string) string {
	if utf8.ValidString(s) {
		return s
	}
	switch strings.ToLower(strings.Trim(charset, " \"'")) {
	case "", "iso-8859-1", "iso8859-1", "latin1", "windows-1252", "cp1252", "iso-8859-15":
	case "utf-8", "utf8":
		return strings.ToValidUTF8(s, "\ufffd")
	default:
		return ""
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 0x80 && c < 0xa0 {
			for _, r := range string([]rune(windows)[c-0x80]) {
				b.WriteRune(r)
			}
			continue
		}
		b.WriteRune(rune(c))
	}
	return b.String()
}

// windows are the characters of windows-1252 that Latin-1 lacks.
const windows = "€\ufffd‚ƒ„…†‡ˆ‰Š‹Œ\ufffdŽ\ufffd\ufffd‘’“”•–—˜™š›œ\ufffdžŸ"

// entities are the names of characters that titles are written with.
const entities = " amp=& lt=< gt=> quot=\" apos=' nbsp=\u00a0 ndash=– mdash=— hellip=… lsquo=‘ rsquo=’ ldquo=“ rdquo=” sbquo=‚ bdquo=„" +
	" laquo=« raquo=» lsaquo=‹ rsaquo=› bull=• middot=· copy=© reg=® trade=™ euro=€ pound=£ yen=¥ cent=¢ sect=§ para=¶ deg=° plusmn=±" +
	" times=× divide=÷ frac12=½ frac14=¼ sup2=² sup3=³ micro=µ larr=← rarr=→ iexcl=¡ iquest=¿" +
	" auml=ä ouml=ö uuml=ü Auml=Ä Ouml=Ö Uuml=Ü szlig=ß euml=ë iuml=ï aacute=á eacute=é iacute=í oacute=ó uacute=ú Eacute=É" +
	" agrave=à egrave=è igrave=ì ograve=ò ugrave=ù acirc=â ecirc=ê icirc=î ocirc=ô ucirc=û atilde=ã ntilde=ñ otilde=õ" +
	" ccedil=ç Ccedil=Ç aring=å Aring=Å aelig=æ AElig=Æ oslash=ø Oslash=Ø yacute=ý "

// unentity decodes the entities that it knows, and leaves the others.
func unentity(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '&')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, ';')
		if end > 1 && end < 12 {
			if text := entity(s[1:end]); text != "" {
				b.WriteString(text)
				s = s[end+1:]
				continue
			}
		}
		b.WriteByte('&')
		s = s[1:]
	}
}

func entity(name string) string {
	if num, ok := strings.CutPrefix(name, "#"); ok {
		base := 10
		if hex, ok := strings.CutPrefix(strings.ToLower(num), "x"); ok {
			num, base = hex, 16
		}
		n, err := strconv.ParseUint(num, base, 32)
		if err != nil || n < ' ' || n > utf8.MaxRune {
			return ""
		}
		return string(rune(n))
	}
	if strings.ContainsAny(name, " =") {
		return ""
	}
	_, rest, ok := strings.Cut(entities, " "+name+"=")
	if !ok {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return string(r)
}
