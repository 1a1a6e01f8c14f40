package house

import (
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The limits of section 7 of the style guide.
const (
	maxFileLines = 600
	maxFuncLines = 100
	maxNesting   = 4
	maxParameter = 6 // four is the aim; more than six is a struct that nobody named
)

// grabBags are package names that say nothing about what is inside.
var grabBags = []string{"util", "utils", "common", "types", "manager", "service", "helpers", "shared", "misc", "base", "lib", "internal"}

// badFiles are file names that say nothing about what is inside.
var badFiles = []string{"types", "util", "utils", "helpers", "common", "misc"}

func TestShape(t *testing.T) {
	tr := load(t)
	for dir, p := range tr.pkgs {
		if slices.Contains(grabBags, path.Base(dir)) {
			t.Errorf("%s: the name says nothing", dir)
		}
		docs, code := 0, 0
		for _, f := range p.files {
			if !f.test {
				code++
			}
			if !f.test && f.ast.Doc != nil {
				docs++
				checkDoc(t, f)
			}
			checkFile(t, tr, f)
		}
		if docs != 1 && code > 0 {
			t.Errorf("%s: %d of its files have a package comment, it must be one", dir, docs)
		}
	}
}

func checkDoc(t *testing.T, f *file) {
	text := f.ast.Doc.Text()
	want := "Package " + f.ast.Name.Name + " "
	if f.ast.Name.Name == "main" {
		want = "Command "
	}
	if !strings.HasPrefix(text, want) {
		t.Errorf("%s: the package comment begins with %q", f.path, want)
	}
	if len(strings.Fields(text)) < 20 {
		t.Errorf("%s: the package comment must say what the package owns, what it refuses, and why", f.path)
	}
}

var todo = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func checkFile(t *testing.T, tr *tree, f *file) {
	if f.lines >= maxFileLines {
		t.Errorf("%s: %d lines, at most %d", f.path, f.lines, maxFileLines)
	}
	if base := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test"); slices.Contains(badFiles, base) {
		t.Errorf("%s: a file is named for what it holds", f.path)
	}
	for _, c := range f.ast.Comments {
		if todo.MatchString(c.Text()) {
			t.Errorf("%s: unfinished work goes into an issue", tr.at(c))
		}
	}
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			checkFunc(t, tr, f, d)
		case *ast.GenDecl:
			if !f.test {
				checkDecl(t, tr, d)
			}
		}
	}
}

func checkFunc(t *testing.T, tr *tree, f *file, d *ast.FuncDecl) {
	if d.Name.Name == "init" && d.Recv == nil {
		t.Errorf("%s: no init functions: what happens before main is seen by nobody", tr.at(d))
	}
	if d.Body == nil {
		return
	}
	if n := tr.fset.Position(d.End()).Line - tr.at(d).Line + 1; n > maxFuncLines {
		t.Errorf("%s: %s has %d lines, at most %d", tr.at(d), d.Name.Name, n, maxFuncLines)
	}
	if f.test {
		return
	}
	if n := nesting(d.Body); n > maxNesting {
		t.Errorf("%s: %s is nested %d deep, at most %d", tr.at(d), d.Name.Name, n, maxNesting)
	}
	if n := d.Type.Params.NumFields(); n > maxParameter {
		t.Errorf("%s: %s has %d parameters, at most %d", tr.at(d), d.Name.Name, n, maxParameter)
	}
	if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !obvious[d.Name.Name] {
		t.Errorf("%s: %s is exported and has no comment", tr.at(d), d.Name.Name)
	}
}

// obvious are methods whose meaning the standard library has fixed.
var obvious = map[string]bool{"Error": true, "String": true, "Len": true, "Less": true, "Swap": true,
	"Read": true, "Write": true, "Close": true, "UnmarshalText": true, "MarshalText": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch x := typ.(type) {
	case *ast.IndexExpr:
		typ = x.X
	case *ast.IndexListExpr:
		typ = x.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// nesting is how deep blocks lie in each other; a chain of else if is as deep
// as its first if, and a switch with its cases counts once.
func nesting(n ast.Node) int {
	deepest := 0
	ast.Inspect(n, func(c ast.Node) bool {
		if c == n || c == nil {
			return true
		}
		d := 0
		switch c := c.(type) {
		case *ast.IfStmt:
			d = 1 + nesting(c.Body)
			if c.Else != nil {
				d = max(d, nesting(&ast.BlockStmt{List: []ast.Stmt{c.Else}}))
			}
		case *ast.ForStmt:
			d = 1 + nesting(c.Body)
		case *ast.RangeStmt:
			d = 1 + nesting(c.Body)
		case *ast.SwitchStmt:
			d = 1 + nesting(c.Body)
		case *ast.TypeSwitchStmt:
			d = 1 + nesting(c.Body)
		case *ast.SelectStmt:
			d = 1 + nesting(c.Body)
		case *ast.FuncLit:
			d = nesting(c.Body)
		default:
			return true
		}
		deepest = max(deepest, d)
		return false
	})
	return deepest
}

// checkDecl finds package variables that hold what changes.
func checkDecl(t *testing.T, tr *tree, d *ast.GenDecl) {
	if d.Tok != token.VAR {
		return
	}
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		if sel, ok := v.Type.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "sync" && sel.Sel.Name != "Pool" || x.Name == "atomic") {
				t.Errorf("%s: no package variables that change", tr.at(v))
			}
		}
	}
}

// TestGlobals finds assignments to package variables in the package's own code.
func TestGlobals(t *testing.T) {
	tr := load(t)
	for _, p := range tr.pkgs {
		vars := map[string]bool{}
		for _, f := range p.files {
			for _, d := range f.ast.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR || f.test {
					continue
				}
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						vars[n.Name] = true
					}
				}
			}
		}
		for _, f := range p.files {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && !f.test {
					checkWrites(t, tr, vars, fn)
				}
			}
		}
	}
}

// checkWrites reports assignments in fn to one of vars that fn does not shadow.
func checkWrites(t *testing.T, tr *tree, vars map[string]bool, fn *ast.FuncDecl) {
	local := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				local[id.Name] = true
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				mark(local, n.Key, n.Value)
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				mark(local, n.Lhs...)
			}
		}
		return true
	})
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		var targets []ast.Expr
		switch n := n.(type) {
		case *ast.AssignStmt:
			targets = n.Lhs
		case *ast.IncDecStmt:
			targets = []ast.Expr{n.X}
		}
		for _, x := range targets {
			if id := rootOf(x); id != nil && vars[id.Name] && !local[id.Name] {
				t.Errorf("%s: %s changes the package variable %s", tr.at(x), fn.Name.Name, id.Name)
			}
		}
		return true
	})
}

func mark(local map[string]bool, all ...ast.Expr) {
	for _, x := range all {
		if id, ok := x.(*ast.Ident); ok {
			local[id.Name] = true
		}
	}
}

// rootOf is the variable that an assignment changes in the end.
func rootOf(x ast.Expr) *ast.Ident {
	switch x := x.(type) {
	case *ast.Ident:
		return x
	case *ast.IndexExpr:
		return rootOf(x.X)
	case *ast.SelectorExpr:
		return rootOf(x.X)
	case *ast.StarExpr:
		return rootOf(x.X)
	case *ast.ParenExpr:
		return rootOf(x.X)
	}
	return nil
}
