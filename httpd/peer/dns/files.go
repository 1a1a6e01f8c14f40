package dns

import (
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// watched is a file that is read again when it has changed. Its text is kept as
// it is and searched when asked: block lists make hosts files of a megabyte, of
// which a table would take several.
type watched struct {
	path string

	mu      sync.Mutex
	text    string
	looked  time.Time
	changed time.Time
	size    int64
}

// Bounds of the files.
const (
	maxFile   = 1 << 20 // of it is read
	lookAgain = time.Second
	maxName   = 4 // name servers
)

// read gives the file's text; empty where it cannot be read.
func (w *watched) read(now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if since := now.Sub(w.looked); !w.looked.IsZero() && since >= 0 && since < lookAgain {
		return w.text
	}
	w.looked = now
	st, err := os.Stat(w.path)
	if err != nil {
		w.text, w.changed, w.size = "", time.Time{}, 0
		return ""
	}
	if st.ModTime().Equal(w.changed) && st.Size() == w.size {
		return w.text
	}
	f, err := os.Open(w.path)
	if err != nil {
		return w.text
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return w.text
	}
	w.text, w.changed, w.size = string(b), st.ModTime(), st.Size()
	return w.text
}

// fields gives the words of each line, without remarks.
func fields(text string, each func(words []string)) {
	for line := range strings.Lines(text) {
		if at := strings.IndexAny(line, "#;"); at >= 0 {
			line = line[:at]
		}
		if words := strings.Fields(line); len(words) > 1 {
			each(words)
		}
	}
}

// inHosts gives the addresses of a name in a hosts file.
func inHosts(text, name string) (found []netip.Addr) {
	fields(text, func(words []string) {
		for _, w := range words[1:] {
			if !strings.EqualFold(strings.TrimSuffix(w, "."), name) || len(found) >= maxRecords {
				continue
			}
			if a, err := netip.ParseAddr(words[0]); err == nil {
				found = append(found, a)
			}
			return
		}
	})
	return found
}

// nameServers gives those of a resolv.conf.
func nameServers(text string, port uint16) (found []netip.AddrPort) {
	fields(text, func(words []string) {
		if words[0] != "nameserver" || len(found) >= maxName {
			return
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			found = append(found, netip.AddrPortFrom(a, port))
		}
	})
	return found
}
