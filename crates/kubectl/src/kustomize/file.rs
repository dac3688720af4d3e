//! `kustomization.yaml`: what it may say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Result, fail, message};

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
const FIX: &str = "Run 'kustomize edit fix' to update your Kustomization automatically.";
/// Fields that kustomize has and this does not.
const NOT_BUILT: [&str; 13] = [
    "vars",
    "replacements",
    "crds",
    "openapi",
    "helmGlobals",
    "helmCharts",
    "helmChartInflationGenerator",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "buildMetadata",
    "legacySortOptions",
];

pub(crate) type Pairs = BTreeMap<String, String>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Kustomization {
    pub api_version: String,
    pub kind: String,
    pub metadata: Option<Value>,
    pub name_prefix: String,
    pub name_suffix: String,
    pub namespace: String,
    pub common_labels: Option<Pairs>,
    pub labels: Vec<Labels>,
    pub common_annotations: Option<Pairs>,
    pub patches_strategic_merge: Option<Vec<String>>,
    pub patches_json6902: Option<Vec<Patch>>,
    pub patches: Vec<Patch>,
    pub images: Vec<Image>,
    pub image_tags: Option<Vec<Image>>,
    pub replicas: Vec<Replica>,
    pub sort_options: Option<SortOptions>,
    pub resources: Vec<String>,
    pub components: Vec<String>,
    pub bases: Option<Vec<String>>,
    pub config_map_generator: Vec<Generator>,
    pub secret_generator: Vec<Generator>,
    pub generator_options: Option<Options>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Labels {
    pub pairs: Pairs,
    pub include_selectors: bool,
    pub include_templates: bool,
    #[serde(rename = "fields")]
    pub fields: Vec<FieldSpec>,
}

/// A field of some kinds, as configuration names it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldSpec {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub path: String,
    pub create: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Patch {
    pub path: String,
    pub patch: String,
    pub target: Option<Selector>,
    pub options: PatchOptions,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct PatchOptions {
    pub allow_name_change: bool,
    pub allow_kind_change: bool,
}

/// Which objects a patch is for. All but the selectors are regular expressions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub label_selector: String,
    pub annotation_selector: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Image {
    pub name: String,
    pub new_name: String,
    pub new_tag: String,
    pub tag_suffix: String,
    pub digest: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replica {
    pub name: String,
    pub count: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SortOptions {
    pub order: String,
}

/// What a ConfigMap or Secret is generated from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Generator {
    pub name: String,
    pub namespace: String,
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    pub options: Option<Options>,
    /// Of secrets.
    #[serde(rename = "type")]
    pub of_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Options {
    pub labels: Pairs,
    pub annotations: Pairs,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

impl Kustomization {
    /// Reads the file of a directory, with what is deprecated in its new place.
    ///
    /// # Errors
    /// When there is none or more than one, when it cannot be understood or says nothing.
    pub fn load(dir: &Path, warn: &mut dyn FnMut(&str)) -> Result<Kustomization> {
        let shown = dir.display();
        let found: Vec<PathBuf> = NAMES
            .iter()
            .map(|name| dir.join(name))
            .filter(|path| path.is_file())
            .collect();
        let path = match found.as_slice() {
            [] => {
                return fail(format!(
                    "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{shown}'"
                ));
            }
            [path] => path,
            _ => return fail(format!("Found multiple kustomization files under: {shown}\n")),
        };
        let text = std::fs::read_to_string(path).map_err(|e| message(format!("{}: {e}", path.display())))?;
        let mut read = Kustomization::parse(&text)?;
        read.deprecated().iter().for_each(|text| warn(text));
        read.settle();
        let faults = read.faults();
        if !faults.is_empty() {
            return fail(format!(
                "Failed to read kustomization file under {shown}:\n{}",
                faults.join("\n")
            ));
        }
        Ok(read)
    }

    fn parse(text: &str) -> Result<Kustomization> {
        let tree: Value = serde_saphyr::from_str(text).map_err(|e| message(format!("invalid Kustomization: {e}")))?;
        let Value::Object(fields) = &tree else {
            return fail("kustomization.yaml is empty");
        };
        if let Some(field) = fields.keys().find(|key| NOT_BUILT.contains(&key.as_str())) {
            return fail(format!("the field {field} of kustomizations is not supported"));
        }
        if fields.keys().all(|key| matches!(key.as_str(), "apiVersion" | "kind")) {
            return fail("kustomization.yaml is empty");
        }
        serde_json::from_value(tree.clone()).map_err(|e| {
            let text = e.to_string();
            let unknown = text
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split('`').next());
            match unknown {
                Some(field) => message(format!("invalid Kustomization: json: unknown field \"{field}\"")),
                None => message(format!("invalid Kustomization: {text}")),
            }
        })
    }

    fn deprecated(&self) -> Vec<String> {
        let all = [
            ("bases", "resources", self.bases.is_some()),
            ("commonLabels", "labels", self.common_labels.is_some()),
            ("imageTags", "images", self.image_tags.is_some()),
            ("patchesJson6902", "patches", self.patches_json6902.is_some()),
            (
                "patchesStrategicMerge",
                "patches",
                self.patches_strategic_merge.is_some(),
            ),
        ];
        let used = all.into_iter().filter(|(_, _, is_used)| *is_used);
        used.map(|(old, new, _)| format!("# Warning: '{old}' is deprecated. Please use '{new}' instead. {FIX}"))
            .collect()
    }

    fn settle(&mut self) {
        if self.kind.is_empty() {
            "Kustomization".clone_into(&mut self.kind);
        }
        if self.api_version.is_empty() {
            self.version().clone_into(&mut self.api_version);
        }
        self.resources.extend(self.bases.take().unwrap_or_default());
        self.images.extend(self.image_tags.take().unwrap_or_default());
        for generator in self.config_map_generator.iter_mut().chain(&mut self.secret_generator) {
            if !generator.env.is_empty() {
                generator.envs.push(std::mem::take(&mut generator.env));
            }
        }
    }

    fn version(&self) -> &'static str {
        match self.is_component() {
            true => "kustomize.config.k8s.io/v1alpha1",
            false => "kustomize.config.k8s.io/v1beta1",
        }
    }

    pub(crate) fn is_component(&self) -> bool {
        self.kind == "Component"
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !matches!(self.kind.as_str(), "Kustomization" | "Component") {
            faults.push("kind should be Kustomization or Component".to_owned());
        }
        if self.api_version != self.version() {
            faults.push(format!("apiVersion for {} should be {}", self.kind, self.version()));
        }
        faults
    }
}
