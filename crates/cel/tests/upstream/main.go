// Answers questions about expressions as upstream does: a JSON object a line in, one a line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	upstream "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	runtime "k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

type question struct {
	Expr            string          `json:"expr"`
	Schema          json.RawMessage `json:"schema,omitempty"`
	Root            bool            `json:"root,omitempty"`
	Self            json.RawMessage `json:"self,omitempty"`
	OldSelf         json.RawMessage `json:"oldSelf,omitempty"`
	OptionalOldSelf bool            `json:"optionalOldSelf,omitempty"`
	Mutation        bool            `json:"mutation,omitempty"`
	Minor           uint            `json:"minor,omitempty"`
	Limit           uint64          `json:"limit,omitempty"`
	Repeat          int             `json:"repeat,omitempty"`
}

type answer struct {
	Refused string  `json:"refused,omitempty"`
	Compile string  `json:"compile,omitempty"`
	Type    string  `json:"type,omitempty"`
	Min     uint64  `json:"min"`
	Max     uint64  `json:"max"`
	Program string  `json:"program,omitempty"`
	Value   string  `json:"value,omitempty"`
	Error   string  `json:"error,omitempty"`
	Cost    *uint64 `json:"cost,omitempty"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "draw" {
		draw(os.Args[2:])
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for in.Scan() {
		var q question
		a := answer{}
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			a.Refused = err.Error()
		} else {
			a = reply(q)
		}
		if err := encoder.Encode(a); err != nil {
			panic(err)
		}
		out.Flush()
	}
}

var sets = map[string]*environment.EnvSet{}

func reply(q question) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Refused: fmt.Sprintf("panic: %v", r)}
		}
	}()
	minor := q.Minor
	if minor == 0 {
		minor = 37
	}
	base := environment.MustBaseEnvSet(version.MajorMinor(1, minor))
	var options environment.VersionedOptions
	options.IntroducedVersion = version.MajorMinor(1, 0)
	var structural *schema.Structural
	var declared *apiservercel.DeclType
	key := fmt.Sprintf("%d %v %v %v %s", minor, q.Root, q.OptionalOldSelf, q.Mutation, q.Schema)
	if q.Schema != nil {
		var external v1.JSONSchemaProps
		if err := json.Unmarshal(q.Schema, &external); err != nil {
			return answer{Refused: err.Error()}
		}
		var internal apiextensions.JSONSchemaProps
		if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&external, &internal, nil); err != nil {
			return answer{Refused: err.Error()}
		}
		var err error
		if structural, err = schema.NewStructural(&internal); err != nil {
			return answer{Refused: err.Error()}
		}
		declared = model.SchemaDeclType(structural, q.Root)
		if declared == nil {
			return answer{Refused: "no declared type"}
		}
		declared = declared.MaybeAssignTypeName("selfType")
		if q.Root {
			structural = model.WithTypeAndObjectMeta(structural)
		}
	}
	set := sets[key]
	if set == nil {
		self, old := cel.DynType, cel.DynType
		if declared != nil {
			self, old = declared.CelType(), declared.CelType()
			options.DeclTypes = []*apiservercel.DeclType{declared}
			if q.OptionalOldSelf {
				old = types.NewOptionalType(old)
			}
		}
		options.EnvOptions = append(options.EnvOptions, cel.Variable("self", self), cel.Variable("oldSelf", old))
		if declared == nil {
			options.EnvOptions = append(options.EnvOptions,
				cel.Variable("authorizer", library.AuthorizerType),
				cel.Variable("authorizer.requestResource", library.ResourceCheckType))
		}
		if q.Mutation {
			options.EnvOptions = append(options.EnvOptions, library.JSONPatch(), common.ResolverEnvOption(&mutation.DynamicTypeResolver{}))
		}
		var err error
		if set, err = base.Extend(options); err != nil {
			return answer{Refused: err.Error()}
		}
		if len(sets) > 500 {
			sets = map[string]*environment.EnvSet{}
		}
		sets[key] = set
	}
	env := set.NewExpressionsEnv()
	ast, issues := env.Compile(q.Expr)
	if issues != nil && issues.Err() != nil {
		return answer{Compile: issues.String()}
	}
	a.Type = checker.FormatCELType(ast.OutputType())
	estimator := &library.CostEstimator{}
	if declared != nil {
		estimator.SizeEstimator = &sizes{declared}
	}
	estimate, err := env.EstimateCost(ast, estimator)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	a.Min, a.Max = estimate.Min, estimate.Max
	limit := q.Limit
	if limit == 0 {
		limit = 1000000
	}
	program, err := env.Program(ast, cel.CostLimit(limit), cel.CostTracking(estimator), cel.InterruptCheckFrequency(100))
	if err != nil {
		a.Program = err.Error()
		return a
	}
	variables := map[string]any{
		"authorizer":                 library.NewAuthorizerVal(&user.DefaultInfo{Name: "user"}, judge{}),
		"authorizer.requestResource": library.NewResourceAuthorizerVal(&user.DefaultInfo{Name: "user"}, judge{}, requested{}),
	}
	for name, raw := range map[string]json.RawMessage{"self": q.Self, "oldSelf": q.OldSelf} {
		if raw == nil {
			if name == "oldSelf" && q.OptionalOldSelf {
				variables[name] = types.OptionalNone
			}
			continue
		}
		var data any
		if err := utiljson.Unmarshal(raw, &data); err != nil {
			return answer{Refused: err.Error()}
		}
		if structural == nil {
			variables[name] = data
			continue
		}
		value := upstream.UnstructuredToVal(data, structural)
		if name == "oldSelf" && q.OptionalOldSelf {
			value = types.OptionalOf(value)
		}
		variables[name] = value
	}
	for i := 0; i < q.Repeat; i++ {
		program.Eval(variables)
	}
	value, details, err := program.Eval(variables)
	if details != nil {
		a.Cost = details.ActualCost()
	}
	if err != nil {
		a.Error = err.Error()
		return a
	}
	a.Value = show(value)
	return a
}

// judge allows what is got, says why not otherwise, and fails for the verb "fail".
type judge struct{}

func (judge) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch a.GetVerb() {
	case "get":
		return authorizer.DecisionAllow, "it is only looked at", nil
	case "fail":
		return authorizer.DecisionNoOpinion, "", fmt.Errorf("nobody knows")
	}
	return authorizer.DecisionDeny, fmt.Sprintf("%s of %s/%s/%s %s/%s %q for %s", a.GetVerb(), a.GetAPIGroup(), a.GetResource(), a.GetSubresource(), a.GetNamespace(), a.GetName(), a.GetPath(), a.GetUser().GetName()), nil
}

// requested is the resource of the request.
type requested struct{}

func (requested) GetName() string      { return "n" }
func (requested) GetNamespace() string { return "ns" }
func (requested) GetResource() runtime.GroupVersionResource {
	return runtime.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}
func (requested) GetSubresource() string { return "scale" }

// sizes finds the bounds of data by its path.
type sizes struct{ root *apiservercel.DeclType }

func (s *sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	if len(node.Path()) == 0 {
		return nil
	}
	at := s.root
	for _, step := range node.Path()[1:] {
		var next *apiservercel.DeclType
		switch step {
		case "@items", "@values":
			next = at.ElemType
		case "@keys":
			next = at.KeyType
		default:
			if field, ok := at.Fields[step]; ok {
				next = field.Type
			}
		}
		if next == nil {
			return nil
		}
		at = next
	}
	return &checker.SizeEstimate{Max: uint64(at.MaxElements)}
}

func (s *sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

func show(value ref.Val) string {
	switch v := value.(type) {
	case apiservercel.URL:
		return v.URL.String()
	case apiservercel.Quantity:
		return v.Quantity.String()
	case *apiservercel.Quantity:
		return v.Quantity.String()
	case apiservercel.IP:
		return v.Addr.String()
	case apiservercel.CIDR:
		return v.Prefix.String()
	case apiservercel.Semver:
		return v.Version.String()
	case apiservercel.Format:
		return v.Name
	case *types.Optional:
		if !v.HasValue() {
			return "optional.none()"
		}
		return "optional.of(" + show(v.GetValue()) + ")"
	case traits.Lister:
		var items []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			items = append(items, show(it.Next()))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case traits.Mapper:
		type entry struct{ key, value string }
		var entries []entry
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			if key == nil {
				continue
			}
			entries = append(entries, entry{show(key), show(v.Get(key))})
		}
		sort.Slice(entries, func(i, j int) bool { return entries[i].key < entries[j].key })
		var shown []string
		for _, e := range entries {
			shown = append(shown, e.key+": "+e.value)
		}
		return "{" + strings.Join(shown, ", ") + "}"
	case *types.Err:
		return v.Error()
	}
	switch value.Type().TypeName() {
	case "bool", "int", "uint", "double", "string", "bytes", "null_type", "type", "google.protobuf.Timestamp", "google.protobuf.Duration":
		return types.Format(value)
	}
	return value.Type().TypeName()
}
