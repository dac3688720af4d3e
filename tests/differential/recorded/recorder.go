// Package recorder writes what functions that judge objects are given and what they answer, a JSON object a line, to the file that
// RECORDINGS names: function, test, apiVersion and kind, `new` and `old` as versioned objects, errors.
package recorder

import (
	"encoding/json"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

type recording struct {
	Function string         `json:"function"`
	Test     string         `json:"test"`
	Version  string         `json:"apiVersion"`
	Kind     string         `json:"kind"`
	New      map[string]any `json:"new"`
	Old      map[string]any `json:"old,omitempty"`
	Errors   []string       `json:"errors"`
}

var (
	writing sync.Mutex
	// the kind whose specification a type is; a test that asks about one asks about an object that has it
	specs = sync.OnceValue(func() map[reflect.Type]schema.GroupVersionKind {
		made := map[reflect.Type]schema.GroupVersionKind{}
		for kind, one := range legacyscheme.Scheme.AllKnownTypes() {
			if spec, ok := one.FieldByName("Spec"); ok && kind.Version == apiruntime.APIVersionInternal && spec.Type.Kind() == reflect.Struct {
				made[spec.Type] = kind
			}
		}
		return made
	})
)

// Record takes the objects as they are before the function runs; what it returns takes the errors.
func Record(function string, object, old any) func(*field.ErrorList) {
	path := os.Getenv("RECORDINGS")
	made := recording{Function: function}
	if path == "" || !made.fill(&made.New, object) || !isNil(old) && !made.fill(&made.Old, old) {
		return func(*field.ErrorList) {}
	}
	made.Test = test()
	return func(errors *field.ErrorList) {
		if errors != nil {
			for _, one := range *errors {
				made.Errors = append(made.Errors, one.Error())
			}
		}
		text, err := json.Marshal(made)
		if err != nil {
			return
		}
		writing.Lock()
		defer writing.Unlock()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			panic(err)
		}
		defer file.Close()
		if _, err := file.Write(append(text, '\n')); err != nil {
			panic(err)
		}
	}
}

func isNil(value any) bool {
	return value == nil || reflect.ValueOf(value).Kind() == reflect.Pointer && reflect.ValueOf(value).IsNil()
}

// fill sets the tree to the versioned object; false where the API has none.
func (made *recording) fill(tree *map[string]any, value any) bool {
	if isNil(value) {
		return false
	}
	object, ok := value.(apiruntime.Object)
	if !ok {
		kind, ok := specs()[reflect.TypeOf(value).Elem()]
		// a specification inside an object is judged with the object
		if _, caller, _, _ := runtime.Caller(3); !ok || !strings.HasSuffix(caller, "_test.go") {
			return false
		}
		object, _ = legacyscheme.Scheme.New(kind)
		reflect.ValueOf(object).Elem().FieldByName("Spec").Set(reflect.ValueOf(value).Elem())
	}
	kinds, _, err := legacyscheme.Scheme.ObjectKinds(object)
	if err != nil {
		return false
	}
	version := kinds[0].GroupVersion()
	if version.Version == apiruntime.APIVersionInternal {
		found := false
		for _, one := range legacyscheme.Scheme.PrioritizedVersionsForGroup(version.Group) {
			if found = legacyscheme.Scheme.Recognizes(one.WithKind(kinds[0].Kind)); found {
				version = one
				break
			}
		}
		if !found {
			return false
		}
	}
	versioned, err := legacyscheme.Scheme.ConvertToVersion(object.DeepCopyObject(), version)
	if err != nil {
		return false
	}
	text, err := json.Marshal(versioned)
	if err != nil || json.Unmarshal(text, tree) != nil {
		return false
	}
	made.Version, made.Kind = version.String(), kinds[0].Kind
	return true
}

// test is the name of the test that calls, where it does so itself.
func test() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		if _, name, ok := strings.Cut(frame.Function, ".Test"); ok {
			return "Test" + strings.Split(name, ".")[0]
		}
		if !more {
			return ""
		}
	}
}
