package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unreachable are npm's words for a registry that did not answer, as against one that said no.
var unreachable = regexp.MustCompile(`(?m)^npm (ERR!|error) code (ENOTFOUND|EAI_AGAIN|ECONN\w+|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|E50[234])$`)

// lacks ends a test that needs what the machine has not: it is skipped, or fails where HEARTH_NODE=must promises
// that Node.js is there.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HEARTH_NODE") == "must" {
		t.Fatal(what)
	}
	t.Skip("NOT TESTED: " + what)
}

// nodeModules installs what the package-lock.json of a folder names, once for each of its contents. oldest is the
// first major version of Node.js that the folder runs on.
func nodeModules(t *testing.T, dir string, oldest int) {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			lacks(t, err.Error())
		}
	}
	version := strings.TrimSpace(string(must(exec.Command("node", "--version").Output())(t)))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldest {
		lacks(t, "node is "+version+", and the oldest that will do is "+strconv.Itoa(oldest))
	}
	lock := must(os.ReadFile(filepath.Join(dir, "package-lock.json")))(t)
	mark := filepath.Join(dir, "node_modules", ".installed-lock.json")
	if done, err := os.ReadFile(mark); err == nil && bytes.Equal(done, lock) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1")
	npm.Dir, npm.WaitDelay = dir, time.Second
	out, err := npm.CombinedOutput()
	switch {
	case err != nil && (ctx.Err() != nil || unreachable.Match(out)):
		t.Skipf("NOT TESTED: npm cannot reach its registry: %v\n%s", err, out)
	case err != nil:
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(mark, lock, 0o600); err != nil {
		t.Fatal(err)
	}
}

// script runs a program of js/ on the hub, as far as its last step.
func (h *hub) script(file string, env ...string) {
	h.t.Helper()
	for _, name := range []string{"alice", "bob"} {
		h.shell("user", "add", name, "--password-file", h.secret, "--data-dir", h.dir).ends(0)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 4*deadline)
	defer cancel()
	node := exec.CommandContext(ctx, "node", file, h.url)
	node.Env = append(append(os.Environ(), "HEARTH_PASSWORD="+password), env...)
	out, err := node.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.HasSuffix(bytes.TrimSpace(out), []byte("done")) {
		h.t.Errorf("it ended before its last step")
	}
	h.t.Logf("\n%s", out)
}

// TestJSConversation is an encrypted conversation of two users and their devices, in matrix-js-sdk with its Rust
// crypto: js/conversation.mjs tells it step by step.
func TestJSConversation(t *testing.T) {
	nodeModules(t, "js", 18)
	startHub(t).script("js/conversation.mjs")
}

// TestJSSliding is a conversation of two users whose clients know nothing but sliding sync, in matrix-js-sdk:
// js/sliding.mjs tells it step by step.
func TestJSSliding(t *testing.T) {
	nodeModules(t, "js", 18)
	startHub(t).script("js/sliding.mjs")
}

// TestJSSignIn is signing in by OAuth 2.0 with matrix-js-sdk: js/signin.mjs tells it step by step.
func TestJSSignIn(t *testing.T) {
	nodeModules(t, "js", 18)
	startHub(t).script("js/signin.mjs")
}

// TestWebClient is a first evening of two users with a web client, Hydrogen, in a headless browser: js/web/walk.mjs
// tells it step by step. HEARTH_CHROMIUM names the browser where it is not found by itself; HEARTH_SHOTS, a folder
// for pictures of each step.
func TestWebClient(t *testing.T) {
	browser := os.Getenv("HEARTH_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil && browser == "" {
			browser = path
		}
	}
	if browser == "" {
		lacks(t, "there is no chromium")
	}
	nodeModules(t, "js/web", 20)
	startHub(t).script("js/web/walk.mjs", "HEARTH_CHROMIUM="+browser)
}
