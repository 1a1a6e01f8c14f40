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

// oldestNode is the first major version of Node.js that js/ runs on.
const oldestNode = 18

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

// nodeModules installs what js/package-lock.json names, once for each of its contents.
func nodeModules(t *testing.T) {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			lacks(t, err.Error())
		}
	}
	version := strings.TrimSpace(string(must(exec.Command("node", "--version").Output())(t)))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestNode {
		lacks(t, "node is "+version+", and the oldest that will do is "+strconv.Itoa(oldestNode))
	}
	lock := must(os.ReadFile("js/package-lock.json"))(t)
	mark := filepath.Join("js", "node_modules", ".installed-lock.json")
	if done, err := os.ReadFile(mark); err == nil && bytes.Equal(done, lock) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1")
	npm.Dir, npm.WaitDelay = "js", time.Second
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

// TestJSConversation is an encrypted conversation of two users and their devices, in matrix-js-sdk with its Rust
// crypto: js/conversation.mjs tells it step by step.
func TestJSConversation(t *testing.T) {
	nodeModules(t)
	h := startHub(t)
	for _, name := range []string{"alice", "bob"} {
		h.shell("user", "add", name, "--password-file", h.secret, "--data-dir", h.dir).ends(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*deadline)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "js/conversation.mjs", h.url)
	node.Env = append(os.Environ(), "HEARTH_PASSWORD="+password)
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.HasSuffix(bytes.TrimSpace(out), []byte("done")) {
		t.Errorf("it ended before its last step")
	}
	t.Logf("\n%s", out)
}
