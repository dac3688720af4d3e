//! The version of Kubernetes that skiff is: the only place in Rust that names it. Macros, so that `concat!` takes them.

use metrics::{Kind, Metric, Page};

/// The release whose behaviour skiff has: `v1.37.2`. The module of upstream's programs (`tests/conformance/go.mod`) requires the same.
#[macro_export]
macro_rules! kubernetes_version {
    () => {
        "v1.37.2"
    };
}

/// Its minor version, as user agents bear it: `1.37`.
#[macro_export]
macro_rules! kubernetes_minor {
    () => {
        "1.37"
    };
}

/// The release whose behaviour skiff has: `v1.37.2`.
pub const VERSION: &str = kubernetes_version!();

/// The metric that says which build a component is. `git_version` has the build's metadata: `v1.37.2+skiff1`.
pub fn show(page: &mut Page, git_version: &str) {
    const BUILD: Metric = Metric::beta("kubernetes_build_info", "Which build of Kubernetes this is.");
    let minor = MINOR.to_string();
    let labels = [
        ("build_date", "1970-01-01T00:00:00Z"),
        ("compiler", "rustc"),
        ("git_commit", ""),
        ("git_tree_state", "clean"),
        ("git_version", git_version),
        ("go_version", "none (rust)"),
        ("major", "1"),
        ("minor", &minor),
        ("platform", "linux/amd64"),
    ];
    page.samples(&BUILD, Kind::Gauge).number(&labels, 1.0);
}

/// The number of the minor version.
pub const MINOR: u32 = 37;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_that_of_the_release() {
        assert!(VERSION.starts_with(concat!("v", kubernetes_minor!(), ".")));
        assert_eq!(kubernetes_minor!(), format!("1.{MINOR}"));
    }

    #[test]
    fn upstreams_programs_are_built_from_the_same_release() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/go.mod");
        let module = std::fs::read_to_string(path).unwrap();
        assert!(module.contains(&format!("\tk8s.io/kubernetes {VERSION}\n")), "{path}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/gen/go.mod");
        let module = std::fs::read_to_string(path).unwrap();
        assert!(
            module.contains(&format!("\tk8s.io/api v0.{}\n", &VERSION["v1.".len()..])),
            "{path}"
        );
    }
}
