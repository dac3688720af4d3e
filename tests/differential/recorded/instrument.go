// Puts a recorder into upstream's functions that judge an object: `instrument FOLDER...`, Go files below which are changed in place.
//
// These are the exported `Validate...` that return a field.ErrorList and take a value of another package's type, or a pointer to one,
// first, and a strategy's methods. Prints the folders of what it changed.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const recorder = "k8s.io/kubernetes/pkg/recorder"

// what a strategy is asked, and whether it answers
var methods = map[string]bool{"Validate": true, "ValidateUpdate": true, "PrepareForCreate": false, "PrepareForUpdate": false}

type insertion struct {
	at   int
	text string
}

func main() {
	changed := map[string]bool{}
	for _, root := range os.Args[1:] {
		check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			check(err)
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && instrument(path) {
				changed[filepath.Dir(path)] = true
			}
			return nil
		}))
	}
	for folder := range changed {
		fmt.Println(folder)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func instrument(path string) bool {
	source, err := os.ReadFile(path)
	check(err)
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, 0)
	check(err)
	var made []insertion
	for _, one := range file.Decls {
		function, ok := one.(*ast.FuncDecl)
		if !ok || function.Body == nil {
			continue
		}
		name, objects, returns := function.Name.Name, names(function.Type.Params), "nil"
		if function.Recv != nil {
			answers, known := methods[name]
			// (ctx, object) or (ctx, object, old)
			if !known || len(objects) < 2 || len(objects) > 3 || objects[1].kind != "runtime.Object" || answers != isErrors(function.Type.Results) {
				continue
			}
			name, objects = receiver(function.Recv)+"."+name, objects[1:]
		} else {
			if !strings.HasPrefix(name, "Validate") || !isErrors(function.Type.Results) || len(objects) == 0 || objects[0].kind == "" {
				continue
			}
			if len(objects) > 1 && objects[1].kind == objects[0].kind {
				objects = objects[:2]
			} else {
				objects = objects[:1]
			}
		}
		if objects[0].name == "_" || objects[len(objects)-1].name == "_" {
			continue
		}
		if len(objects) == 2 && strings.HasPrefix(strings.ToLower(objects[0].name), "old") {
			objects[0], objects[1] = objects[1], objects[0]
		}
		given := []string{"nil", "nil"}
		for at, one := range objects {
			given[at] = one.name
			if function.Recv == nil && !strings.HasPrefix(one.kind, "*") {
				given[at] = "&" + one.name
			}
		}
		if results := function.Type.Results; results != nil {
			returns = "recordedErrors"
			if len(results.List[0].Names) > 0 {
				returns = results.List[0].Names[0].Name
			} else {
				at := files.Position(results.List[0].Pos()).Offset
				end := files.Position(results.List[0].End()).Offset
				made = append(made, insertion{at, "(recordedErrors "}, insertion{end, ")"})
			}
			returns = "&" + returns
		}
		made = append(made, insertion{files.Position(function.Body.Lbrace).Offset + 1,
			fmt.Sprintf("\ndefer recorder.Record(%q, %s, %s)(%s)\n", name, given[0], given[1], returns)})
	}
	if len(made) == 0 {
		return false
	}
	made = append(made, insertion{files.Position(file.Name.End()).Offset, fmt.Sprintf("\nimport %q\n", recorder)})
	var out bytes.Buffer
	at := 0
	for len(made) > 0 {
		first := 0
		for i := range made {
			if made[i].at < made[first].at {
				first = i
			}
		}
		out.Write(source[at:made[first].at])
		out.WriteString(made[first].text)
		at = made[first].at
		made = append(made[:first], made[first+1:]...)
	}
	out.Write(source[at:])
	check(os.WriteFile(path, out.Bytes(), 0o644))
	return true
}

type parameter struct{ name, kind string }

// names has a parameter for each name, with its type where that is of another package.
func names(fields *ast.FieldList) (made []parameter) {
	for _, one := range fields.List {
		for _, name := range one.Names {
			made = append(made, parameter{name.Name, kind(one.Type)})
		}
	}
	return made
}

func kind(expression ast.Expr) string {
	switch one := expression.(type) {
	case *ast.StarExpr:
		if inner := kind(one.X); inner != "" {
			return "*" + inner
		}
	case *ast.SelectorExpr:
		if name, ok := one.X.(*ast.Ident); ok {
			return name.Name + "." + one.Sel.Name
		}
	}
	return ""
}

func isErrors(results *ast.FieldList) bool {
	return results != nil && len(results.List) == 1 && kind(results.List[0].Type) == "field.ErrorList"
}

func receiver(fields *ast.FieldList) string {
	expression := fields.List[0].Type
	if star, ok := expression.(*ast.StarExpr); ok {
		expression = star.X
	}
	if name, ok := expression.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
