package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// No two tables may share a prefix: they would read each other's rows. The
// compiler does not mind, and two people who add one at a time do not see it.
func TestTablesAreDistinct(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "keyspace.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Table" {
			return true
		}
		prefix := v.Values[0].(*ast.BasicLit).Value
		if other := owner[prefix]; other != "" {
			t.Errorf("%s and %s have the same prefix %s", other, v.Names[0].Name, prefix)
		}
		owner[prefix] = v.Names[0].Name
		return true
	})
	if len(owner) < 50 {
		t.Errorf("only %d tables were found", len(owner))
	}
}
