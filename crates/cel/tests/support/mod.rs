//! Both sides of a question: upstream's program, and our crate.

pub mod generator;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use cel::{Authorizer, Check, Decision, Declared, Environment, Fault, Limits, List, Map, Schema, Type, Value, View};
use serde_json::{Value as Json, json};

/// Upstream's program, which answers line by line.
pub struct Upstream {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Upstream {
    pub fn start(program: &Path) -> Upstream {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/upstream/build.sh builds the program");
        Upstream {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub fn ask(&mut self, question: &Json) -> Json {
        let questions = self.questions.as_mut().unwrap();
        writeln!(questions, "{question}").unwrap();
        questions.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.questions.take());
        self.child.wait().unwrap();
    }
}

/// Allows what is got, as the judge of upstream's program does.
struct Judge;

impl Authorizer for Judge {
    fn authorize(&self, check: &Check) -> Decision {
        match check.verb.as_str() {
            "get" => Decision {
                allowed: true,
                reason: "it is only looked at".into(),
                error: None,
            },
            "fail" => Decision {
                error: Some("nobody knows".into()),
                ..Decision::default()
            },
            verb => {
                let user = check
                    .service_account
                    .as_ref()
                    .map_or("user".into(), |(namespace, name)| {
                        format!("system:serviceaccount:{namespace}:{name}")
                    });
                let path = check.path.clone().unwrap_or_default();
                Decision {
                    reason: format!(
                        "{verb} of {}/{}/{} {}/{} {path:?} for {user}",
                        check.group, check.resource, check.subresource, check.namespace, check.name
                    ),
                    ..Decision::default()
                }
            }
        }
    }
}

/// What our crate answers.
pub fn answer(question: &Json) -> Json {
    let flag = |key: &str| question[key].as_bool().unwrap_or_default();
    let minor = question["minor"].as_u64().unwrap_or(37) as u32;
    let mut environment = Environment::kubernetes(minor);
    let mut schema = None;
    if question["schema"].is_object() {
        let mut read = Schema::from_openapi(&question["schema"]);
        if flag("root") {
            read = read.with_type_and_meta();
        }
        let Some(declared) = Declared::from_schema(&read, flag("root"), "selfType") else {
            return json!({ "refused": "no declared type", "min": 0, "max": 0 });
        };
        let declared = Arc::new(declared);
        environment = environment
            .with_declared("self", &declared)
            .with_declared("oldSelf", &declared);
        if flag("optionalOldSelf") {
            environment = environment.with_variable("oldSelf", Type::optional(declared.of.clone()));
        }
        schema = Some(read);
    } else {
        environment = environment
            .with_variable("self", Type::Dyn)
            .with_variable("oldSelf", Type::Dyn)
            .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
            .with_variable(
                "authorizer.requestResource",
                Type::object("kubernetes.authorization.ResourceCheck"),
            );
    }
    if flag("mutation") {
        environment = environment.with_mutation();
    }
    evaluate(question, &environment, schema.as_ref())
}

fn evaluate(question: &Json, environment: &Environment, schema: Option<&Schema>) -> Json {
    let checked = match environment.compile(question["expr"].as_str().unwrap()) {
        Ok(checked) => checked,
        Err(issues) => return json!({ "compile": issues.to_string(), "min": 0, "max": 0 }),
    };
    let estimate = environment.estimate(&checked);
    let mut out = json!({ "type": checked.output().to_string(), "min": estimate.min, "max": estimate.max });
    let program = match environment.plan(&checked) {
        Ok(program) => program,
        Err(fault) => {
            out["program"] = fault.to_string().into();
            return out;
        }
    };
    let mut variables: HashMap<&str, Result<Value<'_>, Fault>> = HashMap::new();
    let request = Check {
        group: "apps".into(),
        resource: "deployments".into(),
        subresource: "scale".into(),
        namespace: "ns".into(),
        name: "n".into(),
        ..Check::default()
    };
    variables.insert("authorizer", Ok(Value::authorizer(Arc::new(Judge))));
    variables.insert(
        "authorizer.requestResource",
        Ok(Value::resource_check(Arc::new(Judge), request)),
    );
    let optional = question["optionalOldSelf"].as_bool().unwrap_or_default();
    for name in ["self", "oldSelf"] {
        let old = optional && name == "oldSelf";
        match question.get(name) {
            Some(data) => {
                let value = cel::read(View::of(data), schema);
                let wrapped = |value| Value::Optional(Some(Arc::new(value)));
                variables.insert(name, if old { value.map(wrapped) } else { value });
            }
            None if old => {
                variables.insert(name, Ok(Value::Optional(None)));
            }
            None => {}
        }
    }
    let limits = Limits {
        cost: question["limit"].as_u64().filter(|n| *n > 0).unwrap_or(1_000_000),
        ..Limits::default()
    };
    let known = |name: &str| variables.get(name).cloned();
    for _ in 0..question["repeat"].as_u64().unwrap_or_default() {
        program.evaluate(&known, &limits);
    }
    let evaluation = program.evaluate(&known, &limits);
    out["cost"] = evaluation.cost.into();
    match evaluation.outcome {
        Ok(value) => {
            let shown = show(&value);
            if !shown.is_empty() {
                out["value"] = shown.into();
            }
        }
        Err(fault) => out["error"] = fault.to_string().into(),
    }
    out
}

/// A value as upstream's program shows it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::List(list) => shown_list(list),
        Value::Map(map) => shown_map(map),
        Value::Optional(Some(inner)) => format!("optional.of({})", show(inner)),
        Value::Object(object) => object.name.to_string(),
        Value::Unknown(_) => "unknown".into(),
        other => other.show(),
    }
}

fn shown_list(list: &List<'_>) -> String {
    let items = list
        .iter()
        .map(|item| item.map_or_else(|f| f.to_string(), |v| show(&v)));
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn shown_map(map: &Map<'_>) -> String {
    let mut entries: Vec<(String, String)> = Vec::new();
    for key in map.keys() {
        let value = map
            .find(&key)
            .map_or_else(String::new, |v| v.map_or_else(|f| f.to_string(), |v| show(&v)));
        entries.push((show(&key), value));
    }
    entries.sort();
    let entries = entries.into_iter().map(|(k, v)| format!("{k}: {v}"));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}
