//! An owner that an object names twice in the same words is kept once, and the writer is warned (`endpoints/handlers/rest.go`).

use serde_json::Value;

use crate::http::warnings::Warnings;

/// When duplicates are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// In what a client sent whole.
    InRequest,
    /// In what a patch or mutating admission made.
    AfterAdmission,
}

/// Takes duplicates out of an object's owners.
pub fn once(tree: &mut Value, found: Found, warnings: &Warnings) {
    let owners = tree
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut);
    let Some(owners) = owners.filter(|owners| owners.len() > 1) else {
        return;
    };
    let (mut kept, mut twice) = (Vec::with_capacity(owners.len()), Vec::new());
    for owner in std::mem::take(owners) {
        match kept.contains(&owner) {
            true => twice.push(owner["uid"].as_str().unwrap_or_default().to_owned()),
            false => kept.push(owner),
        }
    }
    *owners = kept;
    if !twice.is_empty() {
        let when = match found {
            Found::InRequest => "",
            Found::AfterAdmission => " after mutating admission happens",
        };
        warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such \
             requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_owners_in_the_same_words_are_duplicates() {
        let owner = |uid: &str, kind: &str| json!({ "apiVersion": "v1", "kind": kind, "name": "a", "uid": uid });
        let mut tree = json!({ "metadata": { "ownerReferences": [
            owner("1", "Pod"), owner("1", "Node"), owner("1", "Pod"), owner("2", "Pod"), owner("2", "Pod"), owner("1", "Pod"),
        ] } });
        let warnings = Warnings::default();
        once(&mut tree, Found::InRequest, &warnings);
        let left = json!([owner("1", "Pod"), owner("1", "Node"), owner("2", "Pod")]);
        assert_eq!(tree["metadata"]["ownerReferences"], left);
        let told = warnings.headers();
        assert_eq!(told.len(), 1);
        let told = told[0].to_str().unwrap();
        assert!(told.ends_with("duplicate UID(s) observed: 1, 2, 1\""), "{told}");
        once(&mut tree, Found::AfterAdmission, &warnings);
        assert_eq!(warnings.headers().len(), 1);
    }
}
