//! The file that names mirrors of registries and their credentials.

use runtime::registry::Registries;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("registries", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(registries) = Registries::parse(text) else {
        return;
    };
    for host in ["docker.io", "registry.k8s.io", "localhost:5000", "[::1]:5000"] {
        registries.endpoints(host, "library/a");
        let _ = (registries.tls(host), registries.credentials(host));
    }
}
