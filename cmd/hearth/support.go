package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const supportHelp = `hearth support FILE

Writes a file for whoever helps you with a running hub: its version, settings, figures and last log lines, and on a box
the kernel's log, the last crashes and how its card is mounted. There are no messages in it, no tokens, keys or
passwords; names of users and rooms can be. FILE is a new tar.gz; look into it before you hand it on.

An admin gets the same from the hub itself: GET /_hearth/client/v1/support.

      --data-dir FOLDER    HEARTH_DATA_DIR   the hub's data, default hearth-data
      --config FILE        HEARTH_CONFIG     the hub's settings, for its data_dir

Exit codes:
  0    done
  1    no hub is running, or the file cannot be written
  2    wrong usage
`

// supportCmd asks a running hub for the file.
func supportCmd(args []string, s streams) int {
	return told("support", supportHelp, s, func() error {
		f := &hubFlags{}
		fs := f.flags()
		words, err := wordsOf(fs, args)
		switch {
		case err != nil:
			return err
		case len(words) != 1:
			return usage("which file shall it be?")
		}
		c, err := f.settings(s)
		if err != nil {
			return err
		}
		r, err := askHub(c.DataDir, order{Do: "support"})
		if err != nil {
			return err
		}
		out, err := os.OpenFile(words[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err = out.Write(r.Bundle); err == nil {
			err = out.Close()
		}
		if err == nil {
			fmt.Fprintf(s.out, "%s has %d kB. Look into it before you hand it on.\n", words[0], (len(r.Bundle)+999)/1000)
		}
		return err
	})
}

// logTail keeps the last lines that the hub logged.
type logTail struct {
	mu sync.Mutex // guards b
	b  []byte
}

const logKept = 128 << 10 // bytes

func (t *logTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, p...); len(t.b) > 2*logKept {
		t.b = append(t.b[:0], t.b[len(t.b)-logKept:]...)
	}
	return len(p), nil
}

func (t *logTail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b[max(0, len(t.b)-logKept):])
}

// support writes the file.
func (h *hub) support(w io.Writer) error {
	if !h.serving.Load() {
		return errors.New("the hub is still starting")
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	now := time.Now()
	for _, part := range []struct{ name, text string }{
		{"hub.txt", h.describe(now)}, {"settings.txt", h.settingsText()}, {"metrics.txt", string(h.metrics(nil))}, {"log.txt", h.kept.text()}, {"box.txt", boxText()},
	} {
		if part.text == "" {
			continue
		}
		text := h.scrub(part.text)
		err := t.WriteHeader(&tar.Header{Name: "hearth-support/" + part.name, Mode: 0o600, Size: int64(len(text)), ModTime: now, Format: tar.FormatPAX})
		if err == nil {
			_, err = io.WriteString(t, text)
		}
		if err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// describe is what the hub is and stands on.
func (h *hub) describe(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hearth %s, %s, %s/%s, %d processors\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintf(&b, "hub %s, at %s, running for %s, log at position %d\n", h.engine.Server, now.UTC().Format(time.RFC3339), now.Sub(h.began).Round(time.Second), h.engine.Tip())
	if err := h.engine.Healthy(); err != nil {
		fmt.Fprintf(&b, "a small commit does not work: %v\n", err)
	}
	for _, d := range h.doors {
		fmt.Fprintf(&b, "listens: %s %s %s\n", d.what, d.url, d.note)
	}
	for _, p := range h.config.Check() {
		fmt.Fprintf(&b, "setting: %s\n", p)
	}
	if c, ok := h.wearing.now(); ok {
		fmt.Fprintf(&b, "writes to %s\n", c.String(h.wearing.disk))
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Fprintf(&b, "kernel: %s %s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	for _, name := range []string{"/proc/loadavg", "/proc/meminfo", "/proc/self/mounts"} {
		if text, err := os.ReadFile(name); err == nil {
			fmt.Fprintf(&b, "\n%s\n%s", name, text)
		}
	}
	return b.String()
}

// settingsText is what the owner set, without what only the owner and another service should know.
func (h *hub) settingsText() string {
	var b strings.Builder
	h.config.Each(func(key, value, origin string) { fmt.Fprintf(&b, "%s = %s   (%s)\n", key, publicPart(value), origin) })
	return b.String()
}

// publicPart is a setting without what stands in an address beside the host: names, passwords, and paths that only who is
// let in knows.
func publicPart(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return value
	}
	text := u.Scheme + "://" + u.Host
	if u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		text += " (and more)"
	}
	return text
}

// secretForms are the shapes of what must not be handed on, wherever it turns up: claim codes, tokens, keys, passwords in
// addresses, and what is said to be one.
var secretForms = []*regexp.Regexp{
	regexp.MustCompile(`\b[a-z2-7]{4}(-[a-z2-7]{4}){3}\b`),
	regexp.MustCompile(`(?i)\bbearer\s+\S+`),
	regexp.MustCompile(`(?i)([a-z_]*(?:token|password|passwd|secret|psk|api_?key)[a-z_]*)("?\s*[=:]\s*)("[^"\n]*"|[^\s"&,]+)`),
	regexp.MustCompile(`://[^/\s@]+@`),
	regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}=*`), // 30 bytes and more in base64: nothing that helps is so long
}

// scrub takes secrets out of a text.
func (h *hub) scrub(text string) string {
	if code, err := h.engine.Accounts.ClaimCode(); err == nil && code != "" {
		text = strings.ReplaceAll(text, code, "[removed]")
	}
	for i, form := range secretForms {
		with := "[removed]"
		switch i {
		case 2:
			with = "${1}${2}[removed]"
		case 3:
			with = "://[removed]@"
		}
		text = form.ReplaceAllString(text, with)
	}
	return text
}

// claimEnv names the claim code that the hub is to have, where the owner of a box has written one into hearth.txt.
const claimEnv = "HEARTH_CLAIM_CODE"

// boxSocket names the socket at which the box around the hub tells what only it may read.
const boxSocket = "HEARTH_BOX_SOCKET"

// boxText asks the box; empty where the hub is in none.
func boxText() string {
	path := os.Getenv(boxSocket)
	if path == "" {
		return ""
	}
	c, err := net.DialTimeout("unix", path, dialTime)
	if err != nil {
		return "the box does not answer: " + err.Error() + "\n"
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(c, 4<<20))
	if err != nil {
		return string(text) + "\nthe box stopped answering: " + err.Error() + "\n"
	}
	return string(text)
}

// metrics are the hub's figures in the text form of Prometheus.
func (h *hub) metrics(dst []byte) []byte {
	add := func(name, kind, help string, value float64) {
		dst = fmt.Appendf(dst, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\nhearth_%s %g\n", name, help, name, kind, name, value)
	}
	add("up_seconds", "gauge", "How long the hub runs.", time.Since(h.began).Seconds())
	add("log_position", "counter", "The position up to which everything is on disk.", float64(h.engine.Tip()))
	add("connections", "gauge", "Open HTTP connections.", float64(h.server.Conns()))
	add("polls_waiting", "gauge", "Requests that wait for something to happen.", float64(h.mux.Load().Waiting()))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	add("heap_bytes", "gauge", "Memory that the hub's data takes.", float64(m.HeapInuse))
	add("goroutines", "gauge", "What runs at once.", float64(runtime.NumGoroutine()))
	var st unix.Statfs_t
	if unix.Statfs(h.config.DataDir, &st) == nil {
		add("disk_free_bytes", "gauge", "What the disk of the data folder has left.", float64(st.Bavail)*float64(st.Bsize))
	}
	if c, ok := h.wearing.now(); ok {
		add("disk_written_bytes_total", "counter", "Written to the disk of the data folder since it was first counted.", float64(c.Bytes))
		add("disk_written_bytes_per_day", "gauge", "How much that is a day; 0 in the first hour.", c.PerDay())
		add("disk_life_years", "gauge", "How long a new disk of this size lasts at that, if it takes 250 times its size.", c.Years(h.wearing.disk))
		if used, _ := h.wearing.disk.Used(); used >= 0 {
			add("disk_life_used_percent", "gauge", "How much of its life the disk says is used, at most.", float64(used))
		}
	}
	return dst
}
