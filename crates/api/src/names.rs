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

/// Upstream counts bytes either way, but calls them bytes only in the rules of labels.
fn too_long(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
}

fn too_many_bytes(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} bytes"))
}

/// A DNS label of RFC 1123, at most 63 bytes: names of namespaces, containers, volumes.
pub fn dns1123_label_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    errors.extend(label_problem(text));
    errors
}

/// The same rule as fields that declare it have it: they count bytes.
pub fn short_name_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_many_bytes(text, 63).into_iter().collect();
    errors.extend(label_problem(text));
    errors
}

fn label_problem(text: &str) -> Option<String> {
    if is_label(text) {
        return None;
    }
    Some(if text.split('.').all(is_label) {
        "must not contain dots".into()
    } else {
        label_regex_text().into()
    })
}

/// A DNS subdomain of RFC 1123, at most 253 bytes: names of most objects.
pub fn dns1123_subdomain_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    errors.extend(subdomain_problem(text));
    errors
}

/// The same rule as fields that declare it have it: they count bytes.
pub fn long_name_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_many_bytes(text, 253).into_iter().collect();
    errors.extend(subdomain_problem(text));
    errors
}

/// The same rule for fields that declare it without regard to case.
pub fn caseless_long_name_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_many_bytes(text, 253).into_iter().collect();
    if subdomain_problem(&text.to_lowercase()).is_some() {
        errors.push(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character (e.g. 'Example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

fn subdomain_problem(text: &str) -> Option<String> {
    (!text.split('.').all(is_label)).then(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into()
    })
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
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            let problems = too_many_bytes(prefix, 253).into_iter().chain(subdomain_problem(prefix));
            errors.extend(problems.map(|e| format!("prefix part {e}")));
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if let Some(long) = too_many_bytes(name, 63) {
        errors.push(format!("name part {long}"));
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {QUALIFIED}"));
    }
    errors
}

/// The value of a label, at most 63 bytes.
pub fn label_value_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_many_bytes(text, 63).into_iter().collect();
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
    errors.extend(directory_errors(text));
    errors
}

fn directory_errors(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        t if t.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// The name of an environment variable: anything printable but `=`.
pub fn env_name_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() {
        errors.push("environment variable name must be non-empty".into());
    }
    if !text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    errors
}

/// The name of a port, at most 15 bytes.
pub fn port_name_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 15).into_iter().collect();
    if text.is_empty() || !text.bytes().all(|c| lower_or_digit(c) || c == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// `*.example.com`.
pub fn wildcard_subdomain_errors(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    if !text
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(is_label))
    {
        errors.push(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
             regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

/// A name as C has them.
pub fn c_identifier_error(text: &str) -> Option<&'static str> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let starts = text.bytes().next().is_some_and(|c| fine(c) && !c.is_ascii_digit());
    (!starts || !text.bytes().all(fine)).then_some(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' \
         (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
    )
}

/// `50%`.
pub fn percent_errors(text: &str) -> Option<&'static str> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    (digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit())).then_some(
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for \
         validation is '[0-9]+%')",
    )
}

/// An IP address, read as programs of old wrote it too: with leading zeros.
pub fn sloppy_ip(text: &str) -> Option<std::net::IpAddr> {
    let octet = |part: &str| {
        part.bytes()
            .all(|c| c.is_ascii_digit())
            .then(|| part.parse::<u8>().ok())
            .flatten()
    };
    let octets: Option<Vec<u8>> = text.split('.').map(octet).collect();
    match octets.and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
        Some(octets) => Some(octets.into()),
        None => text.parse().ok(),
    }
}

/// What is wrong with an IP address; leading zeros and IPv4 in IPv6 are.
pub fn ip_errors(text: &str) -> Option<&'static str> {
    match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Some("must not be an IPv4-mapped IPv6 address")
        }
        Ok(_) => None,
        Err(_) if sloppy_ip(text).is_some() => Some("must not have leading 0s"),
        Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
    }
}

/// What is wrong with an IP address that must be written in the one way that programs write it.
pub fn canonical_ip_errors(text: &str) -> Option<String> {
    if let Some(problem) = ip_errors(text) {
        return Some(problem.to_owned());
    }
    let canonical = text.parse::<std::net::IpAddr>().ok()?.to_string();
    (canonical != text).then(|| format!("must be in canonical form ({canonical:?})"))
}

/// What is wrong with a subnet.
pub fn cidr_errors(text: &str) -> Option<&'static str> {
    const BAD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let Some((address, length)) = text.split_once('/') else {
        return Some(BAD);
    };
    let digits = !length.is_empty() && length.bytes().all(|c| c.is_ascii_digit());
    let Ok(bits) = length.parse::<u32>() else {
        return Some(BAD);
    };
    match ip_errors(address) {
        Some("must not have leading 0s") => return Some("must not have leading 0s in IP or prefix length"),
        Some("must not be an IPv4-mapped IPv6 address") => return Some("must not have an IPv4-mapped IPv6 address"),
        Some(_) => return Some(BAD),
        None => {}
    }
    let (value, width) = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(v4)) => (u128::from(u32::from(v4)), 32),
        Ok(std::net::IpAddr::V6(v6)) => (u128::from(v6), 128),
        Err(_) => return Some(BAD),
    };
    if !digits || bits > width {
        return Some(BAD);
    }
    if length.len() > 1 && length.starts_with('0') {
        return Some("must not have leading 0s in IP or prefix length");
    }
    let host = if width - bits == 128 {
        u128::MAX
    } else {
        (1u128 << (width - bits)) - 1
    };
    (value & host != 0).then_some("must not have bits set beyond the prefix length")
}

/// What is wrong with a subnet that must be written in the one way that programs write it.
pub fn canonical_cidr_errors(text: &str) -> Option<String> {
    if let Some(problem) = cidr_errors(text) {
        return Some(problem.to_owned());
    }
    let (address, length) = text.split_once('/')?;
    let canonical = format!("{}/{length}", address.parse::<std::net::IpAddr>().ok()?);
    (canonical != text).then(|| format!("must be in canonical form ({canonical:?})"))
}

/// What is wrong with the name of a finalizer that must be Kubernetes' own or have a domain, besides what it is made of.
pub fn finalizer_error(name: &str) -> Option<&'static str> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    (!name.contains('/') && !STANDARD.contains(&name))
        .then_some("name is neither a standard finalizer name nor is it fully qualified")
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
