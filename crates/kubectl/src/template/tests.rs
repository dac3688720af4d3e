//! What upstream's kubectl was seen to print.

use serde_json::json;

use super::{Template, TemplateError};

fn run(text: &str) -> Result<String, TemplateError> {
    let object = json!({
        "kind": "Pod", "metadata": {"name": "a", "labels": {"b": "2", "a": "1"}, "gone": null}, "spec": {"replicas": 3, "big": 1_000_000,
        "containers": [{"name": "x", "image": "i"}, {"name": "y"}], "on": true, "empty": [], "half": 0.5},
    });
    let template = Template::parse(text)?;
    template.execute(&object).map_err(|failed| failed.why)
}

#[test]
fn templates_print_what_go_prints() {
    for (text, printed) in [
        ("{{.metadata.name}}", "a"),
        (
            "{{.spec.replicas}} {{.spec.big}} {{.spec.half}} {{.spec.on}}",
            "3 1e+06 0.5 true",
        ),
        (
            "{{.nope}} {{.nope.deeper}} {{.metadata.gone}}",
            "<no value> <no value> <no value>",
        ),
        ("{{.metadata.labels}}", "map[a:1 b:2]"),
        ("{{.spec.containers}}", "[map[image:i name:x] map[name:y]]"),
        ("{{range .spec.containers}}{{.name}}{{\"\\n\"}}{{end}}", "x\ny\n"),
        (
            "{{range $i, $c := .spec.containers}}{{if $i}},{{end}}{{$i}}={{$c.name}}{{end}}",
            "0=x,1=y",
        ),
        ("{{range $k, $v := .metadata.labels}}{{$k}}{{$v}} {{end}}", "a1 b2 "),
        ("{{range .spec.empty}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            "{{range .spec.containers}}{{if eq .name \"x\"}}{{continue}}{{end}}{{.name}}{{end}}",
            "y",
        ),
        ("{{with .metadata}}{{.name}}{{$.kind}}{{end}}", "aPod"),
        ("{{with .nope}}x{{else with .kind}}{{.}}{{end}}", "Pod"),
        ("{{if .spec.on}}yes{{else}}no{{end}}", "yes"),
        ("{{if and .spec.on (not .nope)}}yes{{end}}", "yes"),
        ("{{if or .nope .kind}}{{or .nope .kind}}{{end}}", "Pod"),
        ("{{len .spec.containers}} {{len .metadata.name}}", "2 1"),
        (
            "{{index .metadata.labels \"a\"}} {{(index .spec.containers 1).name}}",
            "1 y",
        ),
        ("{{slice .kind 1}}", "od"),
        (
            "{{printf \"%s-%d-%v-%5.2f|%-4s|%q\" .kind 7 .spec.half .spec.half \"z\" \"q\"}}",
            "Pod-7-0.5- 0.50|z   |\"q\"",
        ),
        ("{{printf \"%d\" .spec.replicas}}", "%!d(float64=3)"),
        ("{{printf \"%s\" .nope}}", "%!s(<nil>)"),
        ("{{print 1 2 \"a\" \"b\"}}{{println 1 \"x\"}}", "1 2ab1 x\n"),
        ("{{\"YWI=\" | base64decode}}", "ab"),
        (
            "{{exists . \"spec\" \"replicas\"}}{{exists . \"spec\" \"nope\"}}",
            "truefalse",
        ),
        (
            "{{html \"<a>\"}} {{js \"'\"}} {{urlquery \"a b\"}}",
            "&lt;a&gt; \\' a+b",
        ),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .kind}}", "<Pod>"),
        ("{{block \"b\" .kind}}[{{.}}]{{end}}", "[Pod]"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a {{- .kind -}} b", "aPodb"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        (
            "{{eq .kind \"a\" \"Pod\"}} {{ne 1 2}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
            "true true true true",
        ),
        ("{{.kind | printf \"%s%s\" \"x\"}}", "xPod"),
    ] {
        assert_eq!(run(text).as_deref(), Ok(printed), "{text}");
    }
}

#[test]
fn errors_say_where_and_why_in_gos_words() {
    for (text, why) in [
        (
            "{{.metadata.gone.x}}",
            "template: output:1:11: executing \"output\" at <.metadata.gone.x>: nil pointer evaluating interface {}.x",
        ),
        (
            "{{.kind.x}}",
            "template: output:1:7: executing \"output\" at <.kind.x>: can't evaluate field x in type interface {}",
        ),
        (
            "{{range .kind}}{{end}}",
            "template: output:1:8: executing \"output\" at <.kind>: range can't iterate over Pod",
        ),
        (
            "{{index .spec.containers 5}}",
            "template: output:1:2: executing \"output\" at <index .spec.containers 5>: error calling index: index out of range: 5",
        ),
        (
            "{{len .nope}}",
            "template: output:1:2: executing \"output\" at <len .nope>: error calling len: reflect: call of reflect.Value.Type on zero Value",
        ),
        (
            "{{eq .spec.replicas 3}}",
            "template: output:1:2: executing \"output\" at <eq .spec.replicas 3>: error calling eq: incompatible types for comparison: float64 and int",
        ),
        (
            "{{template \"x\"}}",
            "template: output:1:11: executing \"output\" at <{{template \"x\"}}>: template \"x\" not defined",
        ),
        ("{{.a", "template: output:1: unclosed action"),
        ("{{nope}}", "template: output:1: function \"nope\" not defined"),
        ("{{$x}}", "template: output:1: undefined variable \"$x\""),
        ("{{if .a}}", "template: output:1: unexpected EOF"),
        ("{{end}}", "template: output:1: unexpected {{end}}"),
        ("{{}}", "template: output:1: missing value for command"),
        ("{{break}}", "template: output:1: {{break}} outside {{range}}"),
        ("{{.a}} }} {{\"x}}", "template: output:1: unterminated quoted string"),
        (
            "{{.a | 3}}",
            "template: output:1: non executable command in pipeline stage 2",
        ),
    ] {
        assert_eq!(run(text).unwrap_err().to_string(), why, "{text}");
    }
    let strict = Template::parse("{{.nope}}").unwrap().allow_missing(false);
    let failed = strict.execute(&json!({})).unwrap_err();
    assert_eq!(
        failed.why.to_string(),
        "template: output:1:2: executing \"output\" at <.nope>: map has no entry for key \"nope\""
    );
}
