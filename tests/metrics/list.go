// Lists what upstream's components may count and show: reads the source of the folders that it is given and prints, of every
// metric that is STABLE or BETA, name, stability, type, labels, labels of one value and bounds of buckets, separated by tabs.
//
//	go run list.go $(go list -m -f '{{.Dir}}' k8s.io/kubernetes k8s.io/apiserver ...) >upstream.tsv
//
// It stops at a metric that it cannot read: none is left out silently.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// The values that the names of a package stand for.
type names map[string]ast.Expr

type reader struct {
	// By import path: a folder below a module's root, whose path is the module's.
	packages map[string]names
	rows     map[string]bool
	failed   bool
}

type file struct {
	*reader
	path    string
	names   names
	imports map[string]string
}

func main() {
	r := &reader{packages: map[string]names{}, rows: map[string]bool{}}
	var files []file
	for _, root := range os.Args[1:] {
		module, _, _ := strings.Cut(root[strings.Index(root, "k8s.io/"):], "@")
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				switch entry.Name() {
				case "test", "testing", "vendor", "staging", "hack", "cluster":
					return fs.SkipDir
				}
				return nil
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_windows.go") {
				return nil
			}
			tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			below, _ := filepath.Rel(root, filepath.Dir(path))
			here := filepath.ToSlash(filepath.Join(module, below))
			if r.packages[here] == nil {
				r.packages[here] = names{}
			}
			for _, decl := range tree.Decls {
				if decl, ok := decl.(*ast.GenDecl); ok {
					for _, spec := range decl.Specs {
						if spec, ok := spec.(*ast.ValueSpec); ok {
							for i, name := range spec.Names {
								if i < len(spec.Values) {
									r.packages[here][name.Name] = spec.Values[i]
								}
							}
						}
					}
				}
			}
			imports := map[string]string{}
			for _, i := range tree.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				name := path[strings.LastIndex(path, "/")+1:]
				if i.Name != nil {
					name = i.Name.Name
				}
				imports[name] = path
			}
			f := file{r, path, r.packages[here], imports}
			files = append(files, f)
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// constants of other packages are known only now
	for _, f := range files {
		tree, _ := parser.ParseFile(token.NewFileSet(), f.path, nil, parser.SkipObjectResolution)
		ast.Inspect(tree, f.visit)
	}
	sorted := make([]string, 0, len(r.rows))
	for row := range r.rows {
		sorted = append(sorted, row)
	}
	sort.Strings(sorted)
	for _, row := range sorted {
		fmt.Println(row)
	}
	if r.failed {
		os.Exit(1)
	}
}

func (f file) fail(what string, n ast.Expr) string {
	f.failed = true
	fmt.Fprintf(os.Stderr, "%s: cannot read %s: %T\n", f.path, what, n)
	return "?"
}

// visit looks at a call that makes a metric.
func (f file) visit(n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return true
	}
	maker := ""
	switch fun := call.Fun.(type) {
	case *ast.SelectorExpr:
		maker = fun.Sel.Name
	case *ast.Ident:
		maker = fun.Name
	}
	if maker == "NewDesc" && len(call.Args) == 6 {
		if level := selector(call.Args[4]); level == "STABLE" || level == "BETA" {
			f.row(f.text(call.Args[0]), level, "custom", f.list(call.Args[2]), f.constant(call.Args[3]), "")
		}
		return true
	}
	options := call.Args[0]
	if unary, ok := options.(*ast.UnaryExpr); ok {
		options = unary.X
	}
	literal, ok := options.(*ast.CompositeLit)
	if !ok || !strings.HasPrefix(maker, "New") {
		return true
	}
	fields := map[string]ast.Expr{}
	for _, element := range literal.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok {
				fields[key.Name] = pair.Value
			}
		}
	}
	level := selector(fields["StabilityLevel"])
	if level != "STABLE" && level != "BETA" {
		return true
	}
	kind := strings.TrimSuffix(strings.TrimPrefix(maker, "New"), "Vec")
	kind = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(kind, "Func"), "Timing"))
	labels := ""
	if len(call.Args) > 1 && strings.HasSuffix(maker, "Vec") {
		labels = f.list(call.Args[1])
	}
	var parts []string
	for _, key := range []string{"Namespace", "Subsystem", "Name"} {
		if value := fields[key]; value != nil {
			if text := f.text(value); text != "" {
				parts = append(parts, text)
			}
		}
	}
	bounds := ""
	if kind == "histogram" {
		bounds = "0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10"
		if buckets := fields["Buckets"]; buckets != nil {
			bounds = f.bounds(buckets)
		}
	}
	f.row(strings.Join(parts, "_"), level, kind, labels, f.constant(fields["ConstLabels"]), bounds)
	return true
}

func (f file) row(name, level, kind, labels, constant, bounds string) {
	f.rows[strings.Join([]string{name, level, kind, labels, constant, bounds}, "\t")] = true
}

func selector(e ast.Expr) string {
	if e, ok := e.(*ast.SelectorExpr); ok {
		return e.Sel.Name
	}
	return ""
}

// value follows a name to its value, here or in another package.
func (f file) value(e ast.Expr) (ast.Expr, file) {
	switch e := e.(type) {
	case *ast.Ident:
		if v, ok := f.names[e.Name]; ok {
			return f.value(v)
		}
	case *ast.SelectorExpr:
		if of, ok := e.X.(*ast.Ident); ok {
			if other, ok := f.packages[f.imports[of.Name]]; ok {
				if v, ok := other[e.Sel.Name]; ok {
					f.names = other
					return f.value(v)
				}
			}
		}
	}
	return e, f
}

func (f file) text(e ast.Expr) string {
	v, at := f.value(e)
	switch v := v.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(v.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return at.text(v.X) + at.text(v.Y)
	}
	return f.fail("a string", e)
}

func (f file) list(e ast.Expr) string {
	v, at := f.value(e)
	if id, ok := v.(*ast.Ident); ok && id.Name == "nil" {
		return ""
	}
	literal, ok := v.(*ast.CompositeLit)
	if !ok {
		return f.fail("labels", e)
	}
	var out []string
	for _, element := range literal.Elts {
		out = append(out, at.text(element))
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

func (f file) constant(e ast.Expr) string {
	if e == nil {
		return ""
	}
	v, at := f.value(e)
	if id, ok := v.(*ast.Ident); ok && id.Name == "nil" {
		return ""
	}
	literal, ok := v.(*ast.CompositeLit)
	if !ok {
		return f.fail("labels of one value", e)
	}
	var out []string
	for _, element := range literal.Elts {
		pair := element.(*ast.KeyValueExpr)
		out = append(out, at.text(pair.Key)+"="+at.text(pair.Value))
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

func (f file) number(e ast.Expr) float64 {
	v, at := f.value(e)
	switch v := v.(type) {
	case *ast.BasicLit:
		if n, err := strconv.ParseFloat(v.Value, 64); err == nil {
			return n
		}
	case *ast.BinaryExpr:
		x, y := at.number(v.X), at.number(v.Y)
		switch v.Op {
		case token.MUL:
			return x * y
		case token.QUO:
			return x / y
		}
	}
	f.fail("a number", e)
	return 0
}

// bounds of buckets, as Prometheus writes numbers.
func (f file) bounds(e ast.Expr) string {
	v, at := f.value(e)
	var out []float64
	switch v := v.(type) {
	case *ast.CompositeLit:
		for _, element := range v.Elts {
			out = append(out, at.number(element))
		}
	case *ast.CallExpr:
		maker := selector(v.Fun)
		switch {
		case maker == "ExponentialBuckets":
			start, factor, count := at.number(v.Args[0]), at.number(v.Args[1]), int(at.number(v.Args[2]))
			for range count {
				out = append(out, start)
				start *= factor
			}
		case maker == "LinearBuckets":
			start, width, count := at.number(v.Args[0]), at.number(v.Args[1]), int(at.number(v.Args[2]))
			for range count {
				out = append(out, start)
				start += width
			}
		case maker == "MergeBuckets":
			var parts []string
			for _, part := range v.Args {
				parts = append(parts, at.bounds(part))
			}
			return strings.Join(parts, ",")
		default:
			return f.fail("buckets", e)
		}
	default:
		return f.fail("buckets", e)
	}
	var parts []string
	for _, bound := range out {
		parts = append(parts, strconv.FormatFloat(bound, 'g', -1, 64))
	}
	return strings.Join(parts, ",")
}
