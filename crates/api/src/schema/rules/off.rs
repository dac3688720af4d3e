//! Fields of features that are off.

use crate::features;
use crate::schema::rules::Rules;
use crate::schema::{Schema, Shape, TypeId};

/// The keys that lead to a field; `*` stands for every item of a list or map.
pub type FieldPath = Vec<Box<str>>;

impl Rules {
    /// The fields of objects of a type that belong to features that are off.
    pub fn switched_off(&self, schema: &Schema, root: TypeId) -> Vec<FieldPath> {
        let mut found = Vec::new();
        self.collect(schema, root, &mut Vec::new(), &mut Vec::new(), &mut found);
        found
    }

    fn collect(
        &self,
        schema: &Schema,
        ty: TypeId,
        path: &mut FieldPath,
        within: &mut Vec<TypeId>,
        found: &mut Vec<FieldPath>,
    ) {
        // a type that contains itself has been looked at
        if within.contains(&ty) || !self.reaching.get(ty.0 as usize).copied().unwrap_or_default() {
            return;
        }
        within.push(ty);
        match schema.shape(ty) {
            Shape::Scalar(_) => {}
            Shape::List { item: inner, .. } | Shape::WrappedList { item: inner } | Shape::Map { value: inner } => {
                path.push("*".into());
                self.collect(schema, *inner, path, within, found);
                path.pop();
            }
            Shape::Struct(structure) => {
                for field in &structure.fields {
                    if field.inline {
                        self.collect(schema, field.ty, path, within, found);
                        continue;
                    }
                    path.push(field.name.clone());
                    match self.is_off(ty, &field.name) {
                        // of an object within another, as a claim's template, the status is nobody's
                        true if path.iter().skip(1).any(|key| &**key == "status") => {}
                        true => found.push(path.clone()),
                        false => self.collect(schema, field.ty, path, within, found),
                    }
                    path.pop();
                }
            }
        }
        within.pop();
    }

    /// Whether a feature that a field needs is off. Some are named that have no gate.
    fn is_off(&self, ty: TypeId, field: &str) -> bool {
        let gates = self.of.get(&ty).and_then(|own| own.gates.get(field));
        let off = |name: &str| features::all().get(name).is_some_and(|gate| !gate.enabled);
        gates.into_iter().flatten().any(|name| off(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::GroupVersionKind;

    #[test]
    fn fields_of_features_that_are_off_are_found_wherever_their_type_stands() {
        let schema = Schema::builtin();
        let of = |group: &str, kind: &str| {
            let root = schema.type_for(&GroupVersionKind::new(group, "v1", kind)).unwrap();
            let paths = Rules::builtin().unwrap().switched_off(schema, root);
            paths.iter().map(|path| path.join(".")).collect::<Vec<_>>()
        };
        let pod = of("", "Pod");
        for path in [
            "spec.schedulingGroup",
            "spec.initContainers.*.volumeMounts.*.bindMountOptions",
            "spec.volumes.*.emptyDir.mode",
            "status.volumeHealth",
        ] {
            assert!(pod.iter().any(|p| p == path), "{path}: {pod:?}");
        }
        assert!(
            !pod.iter()
                .any(|p| p.ends_with("clusterTrustBundle") || p.ends_with("fileKeyRef")),
            "{pod:?}"
        );
        let job = of("batch", "Job");
        assert!(job.iter().any(|p| p == "spec.scheduling"), "{job:?}");
        assert!(job.iter().any(|p| p == "spec.template.spec.schedulingGroup"), "{job:?}");
        let set = of("apps", "StatefulSet");
        assert!(!set.iter().any(|p| p.contains("status")), "{set:?}");
        assert!(of("coordination.k8s.io", "Lease").contains(&"spec.strategy".to_owned()));
    }
}
