package peer

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hearth/engine/fault"
)

var local = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]bool{
		"https://a.example/x": true, "http://[::1]:80": true, "": false, "ftp://x/": false, "https://": false, "//a/b": false,
		"https://u:p@a/": false, "https://a b/": false, "file:///etc/passwd": false, "https:a": false,
	} {
		if err := CheckURL(url); (err == nil) != want || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestExchange(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Header.Get("Content-Type"), r.Header.Get("User-Agent"), body)
		case "/large":
			io.WriteString(w, strings.Repeat("x", 101))
		case "/dripping":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/twice":
			http.Redirect(w, r, "/once", http.StatusFound)
		case "/once":
			http.Redirect(w, r, "/echo", http.StatusFound)
		}
	}))
	defer s.Close()
	c := New(Options{Allow: local, Agent: "hearth"})
	defer c.Close()
	ctx := context.Background()
	a, err := c.Do(ctx, &Request{Method: "POST", URL: s.URL + "/echo", Body: []byte("{}")})
	if err != nil || a.Status != 200 || string(a.Body) != "POST application/json hearth {}" {
		t.Fatal(a, err)
	}
	for _, r := range []*Request{{URL: "/large", MaxAnswer: 100}, {URL: "/dripping", Time: 50 * time.Millisecond}} {
		r.Method, r.URL = "GET", s.URL+r.URL
		if _, err := c.Do(ctx, r); !fault.Is(err, fault.Remote) || strings.Contains(err.Error(), s.URL) {
			t.Errorf("%s: %v", r.URL, err)
		}
	}
	for most, want := range []int{302, 302, 200} {
		a, err := c.Do(ctx, &Request{Method: "GET", URL: s.URL + "/twice", Redirects: most})
		if err != nil || a.Status != want {
			t.Errorf("%d redirects: %v %v", most, a, err)
		}
	}
}

// Names that lead into the hub's own network are found out when they are dialled.
func TestClosedAddress(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	c := New(Options{})
	for _, url := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "http://[::ffff:127.0.0.1]:8080/"} {
		if _, err := c.Do(context.Background(), &Request{Method: "GET", URL: url}); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if _, err := New(Options{Allow: local}).Do(context.Background(), &Request{Method: "GET", URL: s.URL}); !fault.Is(err, fault.Remote) {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	a, err := New(Options{Allow: local, Roots: roots}).Do(context.Background(), &Request{Method: "GET", URL: s.URL})
	if err != nil || a.Status != 404 {
		t.Fatal(a, err)
	}
}
