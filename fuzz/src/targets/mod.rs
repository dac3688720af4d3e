//! The targets, one file each.

mod admission_configuration;
mod apply;
mod archive;
mod audit_policy;
mod cel;
mod certificate;
mod cni;
mod cri;
mod custom;
mod dns;
mod field_selector;
mod image;
mod json;
mod json_patch;
mod jsonpath;
mod kinds;
mod kubeconfig;
mod kubelet;
mod label_selector;
mod layer;
mod list;
mod log_lines;
mod manifest;
mod merge_patch;
mod netlink;
mod object;
mod projection;
mod protobuf;
mod quantity;
mod registries;
mod request;
mod seccomp;
mod spdy;
mod store;
mod strategic_merge;
mod streams;
mod template;
mod time;
mod websocket;
mod yaml;

use crate::Target;

/// All targets, in the order of their names.
pub static ALL: &[Target] = &[
    admission_configuration::TARGET,
    apply::TARGET,
    archive::TARGET,
    audit_policy::TARGET,
    cel::TARGET,
    certificate::TARGET,
    cni::TARGET,
    cri::TARGET,
    custom::TARGET,
    dns::TARGET,
    field_selector::TARGET,
    image::TARGET,
    json::TARGET,
    json_patch::TARGET,
    jsonpath::TARGET,
    kinds::TARGET,
    kubeconfig::TARGET,
    kubelet::TARGET,
    label_selector::TARGET,
    layer::TARGET,
    list::TARGET,
    log_lines::TARGET,
    manifest::TARGET,
    merge_patch::TARGET,
    netlink::TARGET,
    projection::TARGET,
    protobuf::TARGET,
    quantity::TARGET,
    registries::TARGET,
    request::TARGET,
    seccomp::TARGET,
    spdy::TARGET,
    store::TARGET,
    strategic_merge::TARGET,
    streams::TARGET,
    template::TARGET,
    time::TARGET,
    websocket::TARGET,
    yaml::TARGET,
];

/// The text of an input, where it is one.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}
