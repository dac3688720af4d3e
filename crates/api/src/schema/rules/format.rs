//! Formats of texts that rules name (`k8s-long-name`).

use crate::field::FieldError;
use crate::names;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A DNS label: 63 lower-case letters, digits and dashes at most.
    ShortName,
    /// A DNS subdomain: labels with dots, 253 characters at most.
    LongName,
    /// A DNS subdomain that may have upper-case letters.
    LongNameCaseless,
    /// A label's key, with a prefix or without.
    LabelKey,
    /// A label's value: 63 characters at most, or empty.
    LabelValue,
    /// A label's key that must have a prefix.
    PrefixedLabelKey,
    /// A part of a URL's path: not `.` or `..`, no `/`, no `%`.
    PathSegmentName,
    /// A UUID in lower case, with dashes.
    Uuid,
    /// DNS subdomains with slashes between them, 253 characters at most.
    ResourcePoolName,
    /// The name of an extended resource: a prefix that is not Kubernetes' own, and a name.
    ExtendedResourceName,
    /// A DNS subdomain, a slash and an identifier of C.
    ResourceFullyQualifiedName,
}

impl Format {
    /// The format that tags call so.
    pub(super) fn named(name: &str) -> Option<Format> {
        Some(match name {
            "k8s-short-name" => Format::ShortName,
            "k8s-long-name" => Format::LongName,
            "k8s-long-name-caseless" => Format::LongNameCaseless,
            "k8s-label-key" => Format::LabelKey,
            "k8s-label-value" => Format::LabelValue,
            "k8s-prefixed-label-key" => Format::PrefixedLabelKey,
            "k8s-path-segment-name" => Format::PathSegmentName,
            "k8s-uuid" => Format::Uuid,
            "k8s-resource-pool-name" => Format::ResourcePoolName,
            "k8s-extended-resource-name" => Format::ExtendedResourceName,
            "k8s-resource-fully-qualified-name" => Format::ResourceFullyQualifiedName,
            _ => return None,
        })
    }

    /// What is wrong with a text.
    pub(super) fn errors(self, place: &str, text: &str) -> Vec<FieldError> {
        let all = |found: Vec<String>| found.into_iter().map(|why| invalid(place, text, why)).collect();
        match self {
            Format::ShortName => all(names::short_name_errors(text)),
            Format::LongName => all(names::long_name_errors(text)),
            Format::LongNameCaseless => all(names::caseless_long_name_errors(text)),
            Format::LabelKey => all(names::qualified_name_errors(text)),
            Format::LabelValue => all(names::label_value_errors(text)),
            Format::PrefixedLabelKey => all(prefixed_label_key(text)),
            Format::PathSegmentName => all(names::path_segment_errors(text)),
            Format::Uuid if is_uuid(text) => Vec::new(),
            Format::Uuid => all(vec!["must be a lowercase UUID in 8-4-4-4-12 format".into()]),
            Format::ResourcePoolName => pool_name(place, text),
            Format::ExtendedResourceName => all(extended_resource_name(text)),
            Format::ResourceFullyQualifiedName => fully_qualified_name(place, text),
        }
    }
}

fn invalid(place: &str, text: &str, why: impl Into<String>) -> FieldError {
    FieldError::invalid(place, text.into(), why)
}

fn prefixed_label_key(text: &str) -> Vec<String> {
    let found = names::qualified_name_errors(text);
    if found.is_empty() && !text.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".into()];
    }
    found
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_digit() || (b'a'..=b'f').contains(&c),
        })
}

/// Long names between slashes.
fn pool_name(place: &str, text: &str) -> Vec<FieldError> {
    const LONGEST: usize = 253;
    let mut found = Vec::new();
    if text.len() > LONGEST {
        found.push(FieldError::too_long(place, LONGEST));
    }
    for (index, part) in text.split('/').enumerate() {
        if part.is_empty() {
            found.push(invalid(place, text, format!("segment {index}: must not be empty")));
            continue;
        }
        let problems = names::long_name_errors(part).into_iter();
        found.extend(problems.map(|why| invalid(place, part, format!("segment {index}: {why}"))));
    }
    found
}

fn extended_resource_name(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.contains('/') {
        found.push("a name must be a domain-prefixed path, such as 'example.com/my-prop'".into());
    } else if text.contains("kubernetes.io/") {
        found.push("must not have \"kubernetes.io/\" domain".into());
    }
    if text.starts_with("requests.") {
        found.push("must not have \"requests.\" prefix".into());
    }
    // quotas call it so
    found.extend(names::qualified_name_errors(&format!("requests.{text}")));
    found
}

/// A domain, a slash, an identifier of C.
fn fully_qualified_name(place: &str, text: &str) -> Vec<FieldError> {
    const DOMAIN: usize = 63;
    let mut found = Vec::new();
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => identifier(&mut found, place, name),
        [domain, name] => {
            if domain.is_empty() {
                found.push(invalid(place, "", "prefix must not be empty"));
            } else {
                if domain.len() > DOMAIN {
                    found.push(FieldError::too_long(place, DOMAIN));
                }
                let problems = names::long_name_errors(domain).into_iter();
                found.extend(problems.map(|why| invalid(place, domain, format!("prefix: {why}"))));
            }
            match name.is_empty() {
                true => found.push(invalid(place, "", "name must not be empty")),
                false => identifier(&mut found, place, name),
            }
        }
        // upstream asks nothing of the parts of a name with more slashes
        _ => {}
    }
    if !text.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        found.push(invalid(place, text, why));
    }
    found
}

fn identifier(found: &mut Vec<FieldError>, place: &str, name: &str) {
    const LONGEST: usize = 32;
    if name.len() > LONGEST {
        found.push(FieldError::too_long(place, LONGEST));
    }
    found.extend(names::c_identifier_error(name).map(|why| invalid(place, name, why)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_right_texts_from_wrong_ones() {
        for (name, right, wrong) in [
            ("k8s-short-name", "a-b", "a.b"),
            ("k8s-long-name", "a.b", "A.b"),
            ("k8s-long-name-caseless", "A.b", "A_b"),
            ("k8s-label-key", "a.b/C", "a/b/c"),
            ("k8s-label-value", "", "-"),
            ("k8s-prefixed-label-key", "a.b/c", "c"),
            ("k8s-path-segment-name", "a:b", "a/b"),
            (
                "k8s-uuid",
                "123e4567-e89b-12d3-a456-426614174000",
                "123E4567-e89b-12d3-a456-426614174000",
            ),
            ("k8s-resource-pool-name", "a/b.c", "a//b"),
            ("k8s-extended-resource-name", "a.b/c", "kubernetes.io/c"),
            ("k8s-resource-fully-qualified-name", "a.b/c_d", "c"),
        ] {
            let format = Format::named(name).unwrap();
            assert!(format.errors("x", right).is_empty(), "{name}: {right:?}");
            assert!(!format.errors("x", wrong).is_empty(), "{name}: {wrong:?}");
        }
        let errors = Format::ResourcePoolName.errors("spec.pool", "a/");
        let want = "spec.pool: Invalid value: \"a/\": segment 1: must not be empty";
        assert_eq!(errors[0].to_string(), want);
    }
}
