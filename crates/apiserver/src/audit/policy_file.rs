//! The file of `--audit-policy-file`: read strictly, leniently where that fails for unknown or repeated fields alone, and checked
//! (`k8s.io/apiserver/pkg/audit/policy/reader.go`, `pkg/apis/audit/validation`).

use std::path::Path;

use api::field::FieldError;
use api::names;
use api::schema::Document;
use serde_json::{Map, Value, json};

use crate::audit::policy::{Level, Stage};
use crate::http::json_text;

const VERSION: &str = "audit.k8s.io/v1";
const KIND: &str = "Policy";

/// A policy as it is written.
#[derive(Debug, Default)]
pub struct PolicyFile {
    pub rules: Vec<RuleFile>,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

/// Which requests a rule is for, and what is recorded of them.
#[derive(Debug, Default)]
pub struct RuleFile {
    pub level: Level,
    pub users: Vec<String>,
    pub user_groups: Vec<String>,
    pub verbs: Vec<String>,
    pub resources: Vec<GroupResources>,
    pub namespaces: Vec<String>,
    pub non_resource_urls: Vec<String>,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: Option<bool>,
}

/// Resources of one group; `pods/log`, `*`, `*/scale` and `pods/*` name subresources too.
#[derive(Debug, Default)]
pub struct GroupResources {
    pub group: String,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("loading audit policy file: failed to read file path {path:?}: open {path}: {why}")]
    Read { path: String, why: String },
    #[error("loading audit policy file: {source}: from file {path}")]
    Unfit { path: String, source: Box<TextError> },
}

/// Why a text is no policy, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It is no YAML.
    #[error("failed decoding: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// It is no object: what it is.
    #[error(
        "failed decoding: couldn't get version/kind; json parse error: json: cannot unmarshal {0} into Go value of type struct \
         {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )]
    NoObject(&'static str),
    /// It names no version.
    #[error("unknown group version field audit.k8s.io/__internal, Kind=Policy in policy")]
    NoVersion,
    /// It is of another kind.
    #[error(
        "failed decoding: no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
    )]
    Kind {
        /// The kind that it names.
        kind: String,
        /// The group and version that it names.
        version: String,
    },
    /// A field has another type.
    #[error("failed decoding: {0}")]
    Type(#[from] TypeError),
    /// Values break the rules of policies; told as field errors.
    #[error("{0}")]
    Rules(String),
    /// It has no rules.
    #[error("loaded illegal policy with 0 rules")]
    NoRules,
}

/// A field of a policy has another type, told as Go tells it.
#[derive(Debug, thiserror::Error)]
#[error("json: cannot unmarshal {found} into Go struct field {field} of type {wanted}")]
pub struct TypeError {
    found: &'static str,
    field: String,
    wanted: String,
}

/// Reads a policy.
///
/// # Errors
/// When the file cannot be read, is no policy, or breaks the rules of policies.
pub fn load(path: &Path) -> Result<PolicyFile, PolicyError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| PolicyError::Read {
        path: shown.clone(),
        why: api::go::io_error(&error),
    })?;
    let unfit = |source: TextError| PolicyError::Unfit {
        path: shown,
        source: source.into(),
    };
    let (policy, objections) = read(&text).map_err(unfit)?;
    if !objections.is_empty() {
        let why = objections.join(", ");
        tracing::warn!(why, "the audit policy has errors and is read leniently");
    }
    Ok(policy)
}

/// Reads the text of a policy; with it what strict decoding objects to.
///
/// # Errors
/// In upstream's words, as far as they name the field.
pub fn read(text: &str) -> Result<(PolicyFile, Vec<String>), TextError> {
    let document = Document::from_yaml(text.as_bytes())?;
    let mut reader = Reader::default();
    reader.objections.extend(document.yaml_problem());
    let nothing = Map::new();
    let tree = match &document.value {
        Value::Object(tree) => tree,
        Value::Null => &nothing,
        other => return Err(TextError::NoObject(json_text::kind(other))),
    };
    let said = |key: &str| tree.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = said("kind").unwrap_or(KIND);
    match (kind, said("apiVersion")) {
        (KIND, Some(VERSION)) => {}
        // what names no version is read as the one that has none
        (KIND, None) => return Err(TextError::NoVersion),
        (kind, version) => {
            return Err(TextError::Kind {
                kind: kind.to_owned(),
                version: version.unwrap_or("audit.k8s.io/__internal").to_owned(),
            });
        }
    }
    let draft = reader.policy(tree)?;
    let errors = draft.errors();
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(TextError::Rules(match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }));
    }
    let policy = draft.policy();
    if policy.rules.is_empty() {
        return Err(TextError::NoRules);
    }
    Ok((policy, reader.objections))
}

/// A policy whose words have not been looked at.
#[derive(Default)]
struct Draft {
    rules: Vec<DraftRule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Default)]
struct DraftRule {
    level: String,
    omit_stages: Vec<String>,
    rest: RuleFile,
}

/// Reads trees, and notes the fields that it does not know.
#[derive(Default)]
struct Reader {
    objections: Vec<String>,
}

/// Where something stands: the struct and the path in it, as Go's reader names them.
type Place<'a> = (&'a str, String);

fn mismatch(found: &Value, (of, path): &Place<'_>, wanted: &str) -> TypeError {
    TypeError {
        found: json_text::kind(found),
        field: format!("{of}.{path}"),
        wanted: wanted.to_owned(),
    }
}

fn text(value: &Value, place: &Place<'_>, kind: &str) -> Result<String, TypeError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(mismatch(other, place, kind)),
    }
}

fn flag(value: &Value, place: &Place<'_>) -> Result<Option<bool>, TypeError> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        other => Err(mismatch(other, place, "bool")),
    }
}

fn items<'v>(value: &'v Value, place: &Place<'_>, kind: &str) -> Result<&'v [Value], TypeError> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        other => Err(mismatch(other, place, &format!("[]{kind}"))),
    }
}

fn texts(value: &Value, place: &Place<'_>, kind: &str) -> Result<Vec<String>, TypeError> {
    let items = items(value, place, kind)?.iter();
    items.map(|item| text(item, place, kind)).collect()
}

fn object<'v>(value: &'v Value, place: &Place<'_>, kind: &str) -> Result<Option<&'v Map<String, Value>>, TypeError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        other => Err(mismatch(other, place, kind)),
    }
}

impl Reader {
    fn unknown(&mut self, path: &str) {
        self.objections.push(format!("unknown field {path:?}"));
    }

    fn policy(&mut self, tree: &Map<String, Value>) -> Result<Draft, TypeError> {
        let mut draft = Draft::default();
        for (key, value) in tree {
            let place = ("Policy", key.clone());
            match key.as_str() {
                "apiVersion" | "kind" | "metadata" => {}
                "omitStages" => draft.omit_stages = texts(value, &place, "v1.Stage")?,
                "omitManagedFields" => draft.omit_managed_fields = flag(value, &place)?.unwrap_or_default(),
                "rules" => {
                    for (n, item) in items(value, &place, "v1.PolicyRule")?.iter().enumerate() {
                        let rule = object(item, &place, "v1.PolicyRule")?;
                        draft
                            .rules
                            .push(rule.map_or(Ok(DraftRule::default()), |rule| self.rule(rule, n))?);
                    }
                }
                other => self.unknown(other),
            }
        }
        Ok(draft)
    }

    fn rule(&mut self, tree: &Map<String, Value>, n: usize) -> Result<DraftRule, TypeError> {
        let mut draft = DraftRule::default();
        for (key, value) in tree {
            let place = ("PolicyRule", format!("rules.{key}"));
            let rule = &mut draft.rest;
            match key.as_str() {
                "level" => draft.level = text(value, &place, "v1.Level")?,
                "users" => rule.users = texts(value, &place, "string")?,
                "userGroups" => rule.user_groups = texts(value, &place, "string")?,
                "verbs" => rule.verbs = texts(value, &place, "string")?,
                "namespaces" => rule.namespaces = texts(value, &place, "string")?,
                "nonResourceURLs" => rule.non_resource_urls = texts(value, &place, "string")?,
                "omitStages" => draft.omit_stages = texts(value, &place, "v1.Stage")?,
                "omitManagedFields" => rule.omit_managed_fields = flag(value, &place)?,
                "resources" => {
                    for (m, item) in items(value, &place, "v1.GroupResources")?.iter().enumerate() {
                        let group = object(item, &place, "v1.GroupResources")?;
                        let at = format!("rules[{n}].resources[{m}]");
                        let group = group.map_or(Ok(GroupResources::default()), |group| self.group(group, &at))?;
                        rule.resources.push(group);
                    }
                }
                other => self.unknown(&format!("rules[{n}].{other}")),
            }
        }
        Ok(draft)
    }

    fn group(&mut self, tree: &Map<String, Value>, at: &str) -> Result<GroupResources, TypeError> {
        let mut group = GroupResources::default();
        for (key, value) in tree {
            let place = ("GroupResources", format!("rules.resources.{key}"));
            match key.as_str() {
                "group" => group.group = text(value, &place, "string")?,
                "resources" => group.resources = texts(value, &place, "string")?,
                "resourceNames" => group.resource_names = texts(value, &place, "string")?,
                other => self.unknown(&format!("{at}.{other}")),
            }
        }
        Ok(group)
    }
}

fn stage_named(name: &str) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| stage.name() == name)
}

fn level_named(name: &str) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level.name() == name)
}

fn stage_errors(errors: &mut Vec<FieldError>, at: &str, stages: &[String]) {
    for (n, name) in stages.iter().enumerate() {
        if stage_named(name).is_none() {
            let known = Stage::ALL.map(Stage::name).join(",");
            let why = format!("allowed stages are {known}");
            errors.push(FieldError::invalid(format!("{at}[{n}]"), json!(name), why));
        }
    }
}

impl Draft {
    fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        stage_errors(&mut errors, "omitStages", &self.omit_stages);
        for (n, rule) in self.rules.iter().enumerate() {
            rule.errors(&mut errors, &format!("rules[{n}]"));
        }
        errors
    }

    /// The policy, once it has no errors.
    fn policy(self) -> PolicyFile {
        let stages = |names: &[String]| names.iter().filter_map(|name| stage_named(name)).collect();
        PolicyFile {
            omit_stages: stages(&self.omit_stages),
            omit_managed_fields: self.omit_managed_fields,
            rules: (self.rules.into_iter())
                .map(|rule| RuleFile {
                    level: level_named(&rule.level).unwrap_or_default(),
                    omit_stages: stages(&rule.omit_stages),
                    ..rule.rest
                })
                .collect(),
        }
    }
}

impl DraftRule {
    fn errors(&self, errors: &mut Vec<FieldError>, at: &str) {
        let rule = &self.rest;
        if self.level.is_empty() {
            errors.push(FieldError::required(format!("{at}.level"), ""));
        } else if level_named(&self.level).is_none() {
            let known = Level::ALL.map(Level::name);
            errors.push(FieldError::not_supported(
                format!("{at}.level"),
                json!(self.level),
                &known,
            ));
        }
        let urls = format!("{at}.nonResourceURLs");
        for (n, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let mut invalid = |why: &str| {
                errors.push(FieldError::invalid(format!("{urls}[{n}]"), json!(url), why));
            };
            if !url.starts_with('/') {
                invalid("non-resource URL rules must begin with a '/' character");
            }
            let mut all_but_last = url.chars();
            all_but_last.next_back();
            if all_but_last.as_str().contains('*') {
                invalid("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
        for group in &rule.resources {
            if !group.group.is_empty() && group.group != "*" {
                let problems = names::dns1123_subdomain_errors(&group.group);
                if !problems.is_empty() {
                    let at = format!("{at}.resources.group");
                    errors.push(FieldError::invalid(at, json!(group.group), problems.join(",")));
                }
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                let at = format!("{at}.resources.resourceNames");
                errors.push(FieldError::invalid(at, json!(group.resource_names), why));
            }
        }
        stage_errors(errors, &format!("{at}.omitStages"), &self.omit_stages);
        let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
        if !rule.non_resource_urls.is_empty() && of_resources {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(urls, json!(rule.non_resource_urls), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rest: &str) -> String {
        read(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rest}"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_no_policy_is_refused_in_upstreams_words() {
        let why = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            why("kind: Policy\napiVersion: audit.k8s.io/v1beta1"),
            "failed decoding: no kind \"Policy\" is registered for version \"audit.k8s.io/v1beta1\" in scheme \"pkg/runtime/scheme.go:111\""
        );
        assert_eq!(
            why("rules: []"),
            "unknown group version field audit.k8s.io/__internal, Kind=Policy in policy"
        );
        for (policy, want) in [
            ("", "loaded illegal policy with 0 rules"),
            ("rules: [{}]", "rules[0].level: Required value"),
            (
                "rules: [{level: Some}]",
                "rules[0].level: Unsupported value: \"Some\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
            ),
            (
                "omitStages: [X]\nrules: [{level: None, omitStages: [W]}]",
                "[omitStages[0]: Invalid value: \"X\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic, \
                 rules[0].omitStages[0]: Invalid value: \"W\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic]",
            ),
            (
                "rules: [{level: None, nonResourceURLs: ['/a*b']}]",
                "rules[0].nonResourceURLs[0]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule",
            ),
            (
                "rules: [{level: None, resources: [{group: x, resourceNames: [a]}]}]",
                "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
            ),
            (
                "rules: [{level: None, users: x}]",
                "failed decoding: json: cannot unmarshal string into Go struct field PolicyRule.rules.users of type []string",
            ),
        ] {
            assert_eq!(refused(policy), want, "{policy}");
        }
    }

    #[test]
    fn unknown_and_repeated_fields_are_objected_to_and_read_over() {
        let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nodd: 1\nrules:\n- {level: None, levels: x, resources: [{names: []}]}\n";
        let (policy, objections) = read(text).unwrap();
        assert_eq!(policy.rules.len(), 1);
        assert_eq!(
            objections,
            [
                "unknown field \"odd\"",
                "unknown field \"rules[0].levels\"",
                "unknown field \"rules[0].resources[0].names\""
            ]
        );
    }
}
