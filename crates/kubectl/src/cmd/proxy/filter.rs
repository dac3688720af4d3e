//! Which requests a proxy lets through. Pure.

use regex::Regex;

use crate::error::{Result, message};

/// Expressions, of which one must match somewhere in a text.
#[derive(Debug)]
pub struct Patterns(Vec<Regex>);

impl Patterns {
    /// Reads expressions with commas between them; an empty text has none.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn parse(text: &str) -> Result<Patterns> {
        let parts = text.split(',').filter(|_| !text.is_empty());
        let read = |part: &str| Regex::new(part).map_err(|e| message(format!("Error compiling re: {e}")));
        Ok(Patterns(parts.map(read).collect::<Result<_>>()?))
    }

    fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(text))
    }
}

/// Keeps pages of other sites from using the proxy as the user.
#[derive(Debug)]
pub struct Filter {
    pub accept_paths: Patterns,
    pub reject_paths: Patterns,
    pub accept_hosts: Patterns,
    pub reject_methods: Patterns,
}

impl Filter {
    /// Returns whether a request passes. `host` may name a port, which does not count.
    pub fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        !self.reject_paths.matches(path)
            && !self.reject_methods.matches(method)
            && self.accept_paths.matches(path)
            && self.accept_hosts.matches(without_port(host))
    }
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// Takes the prefix off a path and leaves a slash at its beginning. A prefix that begins with /api stays, as the server has it too. `None` is not
/// below the prefix.
pub fn behind<'p>(path: &'p str, prefix: &str) -> Option<std::borrow::Cow<'p, str>> {
    let rest = path.strip_prefix(prefix)?;
    if prefix.starts_with("/api") {
        return Some(path.into());
    }
    Some(format!("/{rest}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        let patterns = |text: &str| Patterns::parse(text).unwrap();
        Filter {
            accept_paths: patterns("^.*"),
            reject_paths: patterns("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"),
            accept_hosts: patterns(r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"),
            reject_methods: patterns("^$"),
        }
    }

    #[test]
    fn other_hosts_and_ways_into_containers_are_refused() {
        let filter = filter();
        assert!(filter.accepts("GET", "/api/v1/pods", "localhost:8001"));
        assert!(filter.accepts("DELETE", "/version", "127.0.0.1"));
        assert!(!filter.accepts("GET", "/api/v1/pods", "evil.example.org"));
        assert!(!filter.accepts("POST", "/api/v1/namespaces/a/pods/b/exec", "localhost"));
        assert!(Patterns::parse("a,(").is_err());
    }

    #[test]
    fn the_prefix_goes_and_a_slash_stays() {
        assert_eq!(behind("/api/v1", "/").as_deref(), Some("/api/v1"));
        assert_eq!(behind("/custom/api/v1", "/custom/").as_deref(), Some("/api/v1"));
        assert_eq!(behind("/api/v1", "/api/").as_deref(), Some("/api/v1"));
        assert_eq!(behind("/other", "/custom/"), None);
    }
}
