//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use std::collections::HashMap;
use std::sync::LazyLock;

use api::gvk::GroupVersionKind;

use crate::admission::configuration;
use crate::registry::resource::Resource;

/// Returns the built-in resource whose objects are of a kind.
pub fn builtin_resource(gvk: &GroupVersionKind) -> Option<&'static Resource> {
    static ALL: LazyLock<HashMap<GroupVersionKind, Resource>> = LazyLock::new(|| {
        // a target that gets no resource ends its run
        let all = crate::registry::builtin_resources().into_iter().flatten();
        let named = |r: Resource| {
            (
                GroupVersionKind::new(r.group.as_str(), r.version.as_str(), r.kind.as_str()),
                r,
            )
        };
        all.map(named).collect()
    });
    ALL.get(gvk)
}

/// Reads an AdmissionConfiguration; how many plugins it configures.
pub fn admission_configuration(text: &str) -> Option<usize> {
    configuration::plugins_of(text).ok().map(|plugins| plugins.len())
}
