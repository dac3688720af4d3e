//! Names of images, as `distribution` has them: what may be asked for in a container.

use std::sync::LazyLock;

use regex::Regex;

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let part = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let host = format!(r"(?:{part}(?:\.{part})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
    let component = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*";
    let name = format!("(?:{host}/)?{component}(?:/{component})*");
    let tag = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}";
    // a constant: that it is sound is a test's to see
    Regex::new(&format!("^(?:{name})(?::{tag})?(?:@{digest})?$")).ok()
});

/// Returns whether this is the name of an image.
pub fn is_valid(name: &str) -> bool {
    REFERENCE.as_ref().is_some_and(|pattern| pattern.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_told_from_others() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "busybox",
            "a/b_c/d--e:1.0",
            "localhost:5000/x:T_1",
            "[::1]:5000/x",
            "EXAMPLE.org/x",
            &digest,
        ] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "Busybox", "a b", "a:", "a/", "a@sha256:00", "a:b:c", "-a"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
