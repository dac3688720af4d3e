package main

import (
	"bufio"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// draw prints the string literals of test files in folders, each once, as questions: what upstream's tests ask of expressions
// stands among them, and the rest is as good a question as any.
func draw(folders []string) {
	seen := map[string]bool{}
	var found []string
	for _, folder := range folders {
		filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return nil
			}
			ast.Inspect(file, func(node ast.Node) bool {
				literal, ok := node.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(literal.Value)
				if err == nil && text != "" && !seen[text] {
					seen[text] = true
					found = append(found, text)
				}
				return true
			})
			return nil
		})
	}
	sort.Strings(found)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for _, text := range found {
		encoder.Encode(question{Expr: text})
	}
}
