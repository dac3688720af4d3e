//! Binding: gives a pod its node (`subresource::binding`). Never stored.

use crate::kinds::Kind;

/// Upstream checks it where it writes the pod, as `subresource::binding` does.
pub(in crate::kinds) const KIND: Kind = Kind::answered("", "bindings");
