//! A pod's metadata and spec as the checks read them, and how they put what they find into words.

use std::collections::BTreeSet;

use serde_json::Value;

pub use crate::tree::text;

/// A pod, or the template of pods.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    pub metadata: &'a Value,
    pub spec: &'a Value,
}

/// What is set at a path; null is not set.
pub fn at<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(tree, |at, key| at.get(key))
        .filter(|value| !value.is_null())
}

/// The items of a list.
pub fn items<'a>(tree: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(tree, path).and_then(Value::as_array).into_iter().flatten()
}

/// Its `metadata.name`, or a container's or volume's own.
pub fn name(tree: &Value) -> &str {
    text(tree, &["name"]).unwrap_or_default()
}

impl<'a> Pod<'a> {
    /// All its containers in the order that findings name them.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(spec, &[list]))
    }

    /// The annotations, key and value.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let map = at(self.metadata, &["annotations"]).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }

    /// The value of an annotation, if the pod has it.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        text(self.metadata, &["annotations", key])
    }

    /// Whether the pod says that it is for nodes with Windows.
    pub fn is_windows(&self) -> bool {
        text(self.spec, &["os", "name"]) == Some("windows")
    }

    /// Whether root in the pod is not root on its node (KEP-127).
    pub fn has_user_namespace(&self) -> bool {
        at(self.spec, &["hostUsers"]) == Some(&Value::Bool(false))
    }
}

/// A check's setting of the pod and of its containers that names whom it objects to.
#[derive(Debug, Default)]
pub struct Setters<'a> {
    pub pod: bool,
    pub containers: Vec<&'a str>,
}

impl<'a> Setters<'a> {
    /// Those whose security context is bad; `context` is asked only for those that have one.
    pub fn find(pod: Pod<'a>, mut bad: impl FnMut(&'a Value) -> bool) -> Setters<'a> {
        let mut context = |of: &'a Value| at(of, &["securityContext"]).is_some_and(&mut bad);
        Setters {
            pod: context(pod.spec),
            containers: pod.containers().filter(|c| context(c)).map(name).collect(),
        }
    }

    /// `pod`, `containers "a", "b"`.
    pub fn shown(&self) -> Vec<String> {
        let pod = self.pod.then(|| "pod".to_owned());
        let containers = (!self.containers.is_empty()).then(|| containers(&self.containers));
        pod.into_iter().chain(containers).collect()
    }
}

/// `container "a"` or `containers "a", "b"`.
pub fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// `"a", "b"`: between quotes as it stands, as upstream.
pub fn quoted<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> String {
    let each: Vec<String> = list.into_iter().map(|s| format!("\"{}\"", s.as_ref())).collect();
    each.join(", ")
}

/// The word for one or for many things.
pub fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// A set that remembers what was bad and says whether it was.
pub fn note<'a>(bad: bool, value: &'a str, seen: &mut BTreeSet<&'a str>) -> bool {
    if bad {
        seen.insert(value);
    }
    bad
}
