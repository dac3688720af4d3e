//! A directory with its kustomization: what it takes in, generates and changes, in this order.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file::Kustomization;
use super::resource::Resource;
use super::{Order, change, generate, names, patch};
use crate::error::{Result, fail, message};

/// The objects of a directory, with names that are not yet settled.
pub fn accumulate(dir: &Path, warn: &mut dyn FnMut(&str)) -> Result<Vec<Resource>> {
    let dir = root(dir)?;
    let mut target = Target { warn, open: Vec::new() };
    let mut resources = Vec::new();
    target.directory(&dir, &mut resources, false)?;
    Ok(resources)
}

/// The order that the file of a directory asks for.
pub(super) fn order(dir: &Path) -> Result<Option<Order>> {
    let file = Kustomization::load(&root(dir)?, &mut |_| {})?;
    match file.sort_options.as_ref().map(|options| options.order.as_str()) {
        None => Ok(None),
        Some("fifo") => Ok(Some(Order::Read)),
        Some("legacy") => Ok(Some(Order::Kinds)),
        Some(_) => fail("the field 'sortOptions.order' must be one of [fifo, legacy]"),
    }
}

/// The directory of a kustomization that is named from outside.
fn root(dir: &Path) -> Result<PathBuf> {
    if let Err(error) = std::fs::canonicalize(dir) {
        let (shown, why) = (dir.display(), crate::print::go::io_error(&error));
        let absolute = std::path::absolute(dir)?;
        return fail(format!(
            "must build at directory: not a valid directory: evalsymlink failure on '{shown}' : lstat {}: {why}",
            absolute.display()
        ));
    }
    real(dir)
}

/// A directory without links and dots in its path.
fn real(dir: &Path) -> Result<PathBuf> {
    let shown = dir.display();
    let path = std::fs::canonicalize(dir).map_err(|_| message(format!("'{shown}' doesn't exist")))?;
    match path.is_dir() {
        true => Ok(path),
        false => fail(format!("'{shown}' must resolve to a directory")),
    }
}

/// Reads a file of a kustomization, which must be in its directory or below it.
pub fn read(dir: &Path, path: &str) -> Result<Vec<u8>> {
    if path.contains("://") || path.starts_with("github.com/") || path.starts_with("git@") {
        return fail(format!("{path}: resources of other machines are not supported"));
    }
    let joined = dir.join(path);
    let unreadable =
        |e: &std::io::Error| message(format!("open {}: {}", joined.display(), crate::print::go::io_error(e)));
    let real = std::fs::canonicalize(&joined).map_err(|e| unreadable(&e))?;
    if !real.starts_with(dir) {
        return fail(format!(
            "security; file '{}' is not in or below '{}'",
            real.display(),
            dir.display()
        ));
    }
    std::fs::read(&real).map_err(|e| unreadable(&e))
}

pub(crate) fn load(dir: &Path, path: &str) -> Result<String> {
    String::from_utf8(read(dir, path)?).map_err(|_| message(format!("{path}: invalid UTF-8")))
}

/// The objects of a text in YAML or JSON, lists taken apart.
pub fn documents(source: &str, text: &str) -> Result<Vec<Value>> {
    let objects = crate::manifest::objects(source, text)?;
    Ok(objects.into_iter().map(|manifest| manifest.object).collect())
}

struct Target<'w> {
    warn: &'w mut dyn FnMut(&str),
    /// Directories that are being read: one that takes itself in would never end.
    open: Vec<PathBuf>,
}

impl Target<'_> {
    fn directory(&mut self, dir: &Path, resources: &mut Vec<Resource>, as_component: bool) -> Result<()> {
        if self.open.iter().any(|open| open == dir) {
            return fail(format!(
                "cycle detected: candidate root '{}' contains visited root",
                dir.display()
            ));
        }
        let file = Kustomization::load(dir, self.warn)?;
        if as_component && !file.is_component() {
            return fail(format!(
                "expected kind 'Component' for path '{}' but got '{}'",
                dir.display(),
                file.kind
            ));
        }
        if !as_component && file.is_component() && !self.open.is_empty() {
            return fail(format!("expected kind != 'Component' for path '{}'", dir.display()));
        }
        self.open.push(dir.to_owned());
        let done = self.steps(dir, &file, resources);
        self.open.pop();
        done
    }

    fn steps(&mut self, dir: &Path, file: &Kustomization, resources: &mut Vec<Resource>) -> Result<()> {
        for path in &file.resources {
            self.resource(dir, path, resources)
                .map_err(|e| message(format!("accumulating resources: {e}")))?;
        }
        let global = file.generator_options.as_ref();
        for from in &file.config_map_generator {
            generate::absorb(resources, generate::config_map(dir, from, global)?)?;
        }
        for from in &file.secret_generator {
            generate::absorb(resources, generate::secret(dir, from, global)?)?;
        }
        for path in &file.components {
            let component = real(&dir.join(path)).map_err(|e| message(format!("accumulating components: {e}")))?;
            self.directory(&component, resources, true)
                .map_err(|e| message(format!("accumulating components: {e}")))?;
        }
        transform(dir, file, resources)
    }

    /// A file of objects, or a directory with a kustomization of its own.
    fn resource(&mut self, dir: &Path, path: &str, resources: &mut Vec<Resource>) -> Result<()> {
        let joined = dir.join(path);
        if !joined.is_dir() {
            let found = load(dir, path)
                .and_then(|text| documents(path, &text))
                .map_err(|e| message(format!("accumulation err='accumulating resources from '{path}': {e}'")))?;
            return found
                .into_iter()
                .try_for_each(|object| append(resources, Resource::new(object)));
        }
        let mut inner = Vec::new();
        self.directory(&real(&joined)?, &mut inner, false)?;
        inner.into_iter().try_for_each(|resource| append(resources, resource))
    }
}

fn append(resources: &mut Vec<Resource>, resource: Resource) -> Result<()> {
    let id = resource.id();
    let text = |pointer: &str| {
        resource
            .object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("/kind").is_empty() {
        return fail("missing Resource metadata");
    }
    if text("/metadata/name").is_empty() && text("/metadata/generateName").is_empty() {
        return fail(format!("missing metadata.name in object {id}"));
    }
    if resources.iter().any(|other| other.id().equals(&id)) {
        return fail(format!("may not add resource with an already registered id: {id}"));
    }
    resources.push(resource);
    Ok(())
}

/// The changes of a kustomization, in kustomize's order.
fn transform(dir: &Path, file: &Kustomization, resources: &mut Vec<Resource>) -> Result<()> {
    patch::strategic(
        resources,
        dir,
        file.patches_strategic_merge.as_deref().unwrap_or_default(),
    )?;
    for one in &file.patches {
        patch::apply(resources, dir, one)?;
    }
    if !file.namespace.is_empty() {
        change::set_namespace(resources, &file.namespace)?;
    }
    if !file.name_prefix.is_empty() {
        names::add_prefix(resources, &file.name_prefix);
    }
    if !file.name_suffix.is_empty() {
        names::add_suffix(resources, &file.name_suffix);
    }
    change::add_labels(resources, file)?;
    if let Some(annotations) = &file.common_annotations {
        change::add_annotations(resources, annotations)?;
    }
    for one in file.patches_json6902.iter().flatten() {
        patch::apply(resources, dir, one)?;
    }
    for replica in &file.replicas {
        change::set_replicas(resources, replica)?;
    }
    for image in &file.images {
        change::set_image(resources, image)?;
    }
    Ok(())
}
