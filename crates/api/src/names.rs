//! What names and label values may look like, with upstream's sentences on why one may not. Each function returns the
//! problems it finds; an empty list means the text is fine.

fn label_regex_text() -> &'static str {
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
}

fn lower_or_digit(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|c| lower_or_digit(*c) || *c == b'-')
        && bytes.first().is_some_and(|c| lower_or_digit(*c))
        && bytes.last().is_some_and(|c| lower_or_digit(*c))
}

fn too_long(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} bytes"))
}

/// A DNS label of RFC 1123, at most 63 bytes: names of namespaces, containers, volumes.
pub fn dns1123_label_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    if !is_label(text) {
        errors.push(label_regex_text().into());
    }
    errors
}

/// A DNS subdomain of RFC 1123, at most 253 bytes: names of most objects.
pub fn dns1123_subdomain_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    if !text.split('.').all(is_label) {
        errors.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

/// A DNS label of RFC 1035, at most 63 bytes: names of Services.
pub fn dns1035_label_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        errors.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
             and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
             '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// A name that may be anything that fits into a URL's path: names of roles.
pub fn path_segment_errors(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%']
        .into_iter()
        .filter(|c| text.contains(*c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let end = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    bytes
        .iter()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && end(bytes.first())
        && end(bytes.last())
}

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// `prefix/name`, the prefix a DNS subdomain and optional: keys of labels and annotations.
pub fn qualified_name_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            errors.extend(
                dns1123_subdomain_errors(prefix)
                    .into_iter()
                    .map(|e| format!("prefix part {e}")),
            );
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if let Some(long) = too_long(name, 63) {
        errors.push(format!("name part {long}"));
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {QUALIFIED}"));
    }
    errors
}

/// The value of a label, at most 63 bytes.
pub fn label_value_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    if !text.is_empty() && !is_qualified_part(text) {
        errors.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and \
             end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    if text.is_empty()
        || !text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
             'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .into(),
        );
    }
    match text {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        t if t.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_and_refused() {
        type Check = fn(&str) -> Vec<String>;
        let cases: [(Check, &str, bool); 14] = [
            (dns1123_label_errors, "a-1", true),
            (dns1123_label_errors, "A", false),
            (dns1123_label_errors, "-a", false),
            (dns1123_label_errors, "", false),
            (dns1123_subdomain_errors, "a.b-c.d", true),
            (dns1123_subdomain_errors, "a..b", false),
            (dns1035_label_errors, "1a", false),
            (qualified_name_errors, "example.com/My_name.x", true),
            (qualified_name_errors, "/x", false),
            (qualified_name_errors, "a/b/c", false),
            (label_value_errors, "", true),
            (label_value_errors, "a b", false),
            (path_segment_errors, "system:node", true),
            (config_map_key_errors, "..data", false),
        ];
        for (check, text, fine) in cases {
            assert_eq!(check(text).is_empty(), fine, "{text:?}");
        }
    }
}
