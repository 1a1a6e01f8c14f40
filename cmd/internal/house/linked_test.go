package house

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the list of linked packages anew")

// list is the reviewed list of what the program is linked from.
const list = "../../hearth/packages.txt"

// TestLinked holds the program to the packages of a file that is reviewed:
// every one of them is memory and code that the hub's owner has to trust.
// Packages of ours and of Go itself are not in it, but for those of Go that
// bring a network protocol along.
func TestLinked(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if or (not .Standard) (eq .ImportPath \"net/http\" \"net/rpc\" \"net/smtp\" \"expvar\" \"html/template\")}}{{.ImportPath}}{{end}}", "hearth/cmd/hearth")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(strings.Fields(string(out)), func(p string) bool { return strings.HasPrefix(p, module+"/") })
	slices.Sort(got)
	if *rewrite {
		if err := os.WriteFile(list, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(b))
	for _, p := range got {
		if !slices.Contains(want, p) {
			t.Errorf("%s is linked and not in %s", p, list)
		}
	}
	for _, p := range want {
		if !slices.Contains(got, p) {
			t.Errorf("%s is in %s and no longer linked", p, list)
		}
	}
	if t.Failed() {
		t.Log("if that is meant: make packages, and review the difference")
	}
}
