//! What Go has in a field where nothing is: it shows that in errors, where JSON has nothing to show.

use serde_json::Value;

use crate::schema::{Schema, Shape, TypeId, scalar};

impl Schema {
    /// The value of an absent scalar at a place such as `spec.containers[0].name`, unless absence is a value of its own there.
    pub fn zero_at(&self, root: TypeId, place: &str) -> Option<Value> {
        let mut ty = root;
        let mut pointer = false;
        let mut rest = place;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (_, after) = inner.split_once(']')?;
                ty = match self.shape(ty) {
                    Shape::List { item, .. } | Shape::WrappedList { item } => *item,
                    Shape::Map { value } => *value,
                    _ => return None,
                };
                pointer = false;
                rest = after;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                let field = self.field(ty, name)?;
                (ty, pointer, rest) = (field.ty, field.pointer, after);
            }
        }
        match self.shape(ty) {
            Shape::Scalar(scalar) if !pointer => Some(scalar::zero(*scalar)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    #[test]
    fn an_absent_text_is_shown_as_the_empty_one_and_an_absent_pointer_as_null() {
        let schema = Schema::builtin();
        let pod = schema
            .type_for(&GroupVersionKind::from_api_version("v1", "Pod"))
            .unwrap();
        let zero = |place: &str| schema.zero_at(pod, place);
        assert_eq!(zero("spec.containers[0].name"), Some(json!("")));
        assert_eq!(zero("spec.containers[0].ports[1].containerPort"), Some(json!(0)));
        assert_eq!(zero("spec.activeDeadlineSeconds"), None);
        assert_eq!(zero("spec.nothing"), None);
    }
}
