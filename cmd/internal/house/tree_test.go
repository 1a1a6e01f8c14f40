package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "hearth"

// file is one Go file of the module.
type file struct {
	path  string // from the module's root, with slashes
	test  bool
	lines int
	ast   *ast.File
}

// pkg is the Go files of one folder.
type pkg struct {
	dir   string
	files []*file
}

// imports gives the import paths of the package's files; tests only where asked.
func (p *pkg) imports(tests bool) map[string]string {
	all := map[string]string{}
	for _, f := range p.files {
		if f.test && !tests {
			continue
		}
		for _, im := range f.ast.Imports {
			path, _ := strconv.Unquote(im.Path.Value)
			all[path] = f.path
		}
	}
	return all
}

// tree is the whole module, parsed.
type tree struct {
	root string
	fset *token.FileSet
	pkgs map[string]*pkg
}

// load parses every Go file of the module; modules inside it, whose rules are
// their own, are left out.
func load(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	tr := &tree{root: root, fset: token.NewFileSet(), pkgs: map[string]*pkg{}}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, inner := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || inner == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			return tr.add(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr *tree) add(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(tr.root, path)
	if err != nil {
		return err
	}
	rel = filepath.ToSlash(rel)
	parsed, err := parser.ParseFile(tr.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(filepath.Dir(rel))
	p := tr.pkgs[dir]
	if p == nil {
		p = &pkg{dir: dir}
		tr.pkgs[dir] = p
	}
	p.files = append(p.files, &file{
		path: rel, test: strings.HasSuffix(rel, "_test.go"), lines: strings.Count(string(src), "\n"), ast: parsed,
	})
	return nil
}

// at is where a node stands, for messages.
func (tr *tree) at(n ast.Node) token.Position { return tr.fset.Position(n.Pos()) }
