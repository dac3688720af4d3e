// Writes crates/api/data/schema.txt: one line per type and per field of every Kubernetes API type, from the struct tags
// of the published Go modules and the list types, keys, defaults and enums of the published OpenAPI v3 documents.
//
//	cd crates/api/gen && go run . "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes@v1.37.2)/api/openapi-spec/v3" > ../data/schema.txt
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	apiregv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

type property map[string]any

var definitions = map[string]map[string]any{}

var special = map[reflect.Type]string{
	reflect.TypeOf(metav1.Time{}):                           "time",
	reflect.TypeOf(metav1.MicroTime{}):                      "microtime",
	reflect.TypeOf(metav1.Duration{}):                       "duration",
	reflect.TypeOf(metav1.FieldsV1{}):                       "fieldsv1",
	reflect.TypeOf(resource.Quantity{}):                     "quantity",
	reflect.TypeOf(intstr.IntOrString{}):                    "intorstring",
	reflect.TypeOf(runtime.RawExtension{}):                  "raw",
	reflect.TypeOf(apiextv1.JSON{}):                         "json",
	reflect.TypeOf(apiextv1.JSONSchemaPropsOrArray{}):       "schemaorarray",
	reflect.TypeOf(apiextv1.JSONSchemaPropsOrBool{}):        "schemaorbool",
	reflect.TypeOf(apiextv1.JSONSchemaPropsOrStringArray{}): "schemaorstrings",
}

// kindsOf maps a Go type to the kinds it is registered as.
var kindsOf = map[reflect.Type][]string{}
var seen = map[reflect.Type]bool{}
var queue []reflect.Type

func packageName(t reflect.Type) (short, open string) {
	p := t.PkgPath()
	parts := strings.Split(p, "/")
	short = strings.Join(parts[len(parts)-2:], ".")
	host := strings.Split(parts[0], ".")
	for i, j := 0, len(host)-1; i < j; i, j = i+1, j-1 {
		host[i], host[j] = host[j], host[i]
	}
	open = strings.Join(append(host, parts[1:]...), ".")
	return
}

func typeName(t reflect.Type) string {
	short, _ := packageName(t)
	return short + "." + t.Name()
}

func visit(t reflect.Type) {
	if !seen[t] {
		seen[t] = true
		queue = append(queue, t)
	}
}

func expression(t reflect.Type) string {
	if s, ok := special[t]; ok {
		if strings.HasPrefix(s, "schemaor") {
			visit(reflect.TypeOf(apiextv1.JSONSchemaProps{}))
		}
		return s
	}
	switch t.Kind() {
	case reflect.Ptr:
		return expression(t.Elem())
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64, reflect.Float32:
		return t.Kind().String()
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		// A named slice is a protobuf message with the field items.
		if t.Name() != "" {
			return "^[]" + expression(t.Elem())
		}
		return "[]" + expression(t.Elem())
	case reflect.Map:
		return "{}" + expression(t.Elem())
	case reflect.Struct:
		visit(t)
		return "@" + typeName(t)
	case reflect.Interface:
		return "any"
	}
	panic("no expression for " + t.String())
}

func facts(p map[string]any) []string {
	var out []string
	text := func(key, name string) {
		if v, ok := p[key].(string); ok && v != "" {
			out = append(out, name+"="+v)
		}
	}
	text("x-kubernetes-list-type", "list")
	if keys, ok := p["x-kubernetes-list-map-keys"].([]any); ok {
		var names []string
		for _, k := range keys {
			names = append(names, k.(string))
		}
		out = append(out, "keys="+strings.Join(names, ","))
	}
	text("x-kubernetes-map-type", "map")
	if d, ok := p["default"]; ok {
		b, _ := json.Marshal(d)
		if string(b) != "{}" {
			out = append(out, "default="+string(b))
		}
	}
	if e, ok := p["enum"].([]any); ok {
		var names []string
		for _, k := range e {
			names = append(names, fmt.Sprint(k))
		}
		sort.Strings(names)
		out = append(out, "enum="+strings.Join(names, "|"))
	}
	if f, ok := p["format"].(string); ok && f != "int32" && f != "int64" && f != "date-time" && f != "double" && f != "byte" && f != "int-or-string" {
		out = append(out, "format="+f)
	}
	return out
}

// inlined has for structs without a definition that of a type that they are a part of.
var inlined = map[reflect.Type]map[string]any{}

func inline(t reflect.Type) {
	_, open := packageName(t)
	def := definitions[open+"."+t.Name()]
	if def == nil {
		def = inlined[t]
	}
	for i := 0; i < t.NumField(); i++ {
		if f := t.Field(i); f.Anonymous || strings.Contains(f.Tag.Get("json"), ",inline") {
			if f.Type.Kind() == reflect.Struct {
				inlined[f.Type] = def
				inline(f.Type)
			}
		}
	}
}

func emit(t reflect.Type) {
	_, open := packageName(t)
	def := definitions[open+"."+t.Name()]
	line := "type " + typeName(t)
	if def["x-kubernetes-map-type"] == "atomic" {
		line += " map=atomic"
	}
	kinds := append([]string(nil), kindsOf[t]...)
	sort.Strings(kinds)
	for _, k := range kinds {
		line += " kind=" + k
	}
	fmt.Println(line)
	if def == nil {
		def = inlined[t]
	}
	props, _ := def["properties"].(map[string]any)
	required := map[string]bool{}
	if r, ok := def["required"].([]any); ok {
		for _, n := range r {
			required[n.(string)] = true
		}
	}
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if !f.IsExported() || tag == "-" {
			continue
		}
		parts := strings.Split(tag, ",")
		name, flags := parts[0], ""
		inline := false
		for _, o := range parts[1:] {
			switch o {
			case "omitempty":
				flags += "o"
			case "omitzero":
				flags += "z"
			case "inline":
				inline = true
			}
		}
		if f.Anonymous && name == "" {
			inline = true
		}
		if f.Type.Kind() == reflect.Ptr {
			flags += "p"
		}
		proto := strings.Split(f.Tag.Get("protobuf"), ",")
		number := "0"
		if len(proto) > 1 {
			number = proto[1]
		}
		ex := expression(f.Type)
		if len(proto) > 2 && proto[2] == "rep" {
			ex = strings.TrimPrefix(ex, "^")
		}
		if inline {
			flags += "i"
			name = strings.ToLower(f.Name[:1]) + f.Name[1:]
		}
		if required[name] {
			flags += "r"
		}
		if flags == "" {
			flags = "-"
		}
		line := fmt.Sprintf(" %s %s %s %s", name, number, ex, flags)
		if p, ok := props[name].(map[string]any); ok {
			for _, x := range facts(p) {
				line += " " + x
			}
		}
		if s := f.Tag.Get("patchStrategy"); s != "" {
			line += " patch=" + s
		}
		if s := f.Tag.Get("patchMergeKey"); s != "" {
			line += " mergekey=" + s
		}
		fmt.Println(line)
	}
}

func main() {
	files, err := filepath.Glob(filepath.Join(os.Args[1], "*.json"))
	if err != nil || len(files) == 0 {
		panic(fmt.Sprint("no OpenAPI documents in ", os.Args[1], err))
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		var doc struct {
			Components struct {
				Schemas map[string]map[string]any `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			panic(err)
		}
		for k, v := range doc.Components.Schemas {
			definitions[k] = v
		}
	}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextv1.AddToScheme, apiregv1.AddToScheme,
		admissionv1.AddToScheme, admissionv1beta1.AddToScheme, apidiscoveryv2.AddToScheme, apidiscoveryv2beta1.AddToScheme,
		imagepolicyv1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	if err := metav1.AddMetaToScheme(s); err != nil {
		panic(err)
	}
	s.AddKnownTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroup{}, &metav1.APIGroupList{}, &metav1.APIResourceList{})
	var gvks []schema.GroupVersionKind
	for gvk := range s.AllKnownTypes() {
		gvks = append(gvks, gvk)
	}
	sort.Slice(gvks, func(i, j int) bool { return gvks[i].String() < gvks[j].String() })
	for _, gvk := range gvks {
		t := s.AllKnownTypes()[gvk]
		_, open := packageName(t)
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		if strings.HasSuffix(open, "meta.v1") && gvk.Group != "" && gvk.Group != "meta.k8s.io" {
			continue
		}
		kindsOf[t] = append(kindsOf[t], gvk.Group+"/"+gvk.Version+"/"+gvk.Kind)
		visit(t)
	}
	for len(queue) > 0 {
		t := queue[0]
		queue = queue[1:]
		for i := 0; i < t.NumField(); i++ {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				expression(f.Type)
			}
		}
	}
	var all []reflect.Type
	for t := range seen {
		all = append(all, t)
	}
	sort.Slice(all, func(i, j int) bool { return typeName(all[i]) < typeName(all[j]) })
	packages := map[string]string{}
	for _, t := range all {
		short, open := packageName(t)
		if packages[short] == "" {
			packages[short] = open
			fmt.Println("package " + short + " " + open)
		} else if packages[short] != open {
			panic("two packages named " + short)
		}
	}
	for _, t := range all {
		inline(t)
	}
	for _, t := range all {
		emit(t)
	}
}
