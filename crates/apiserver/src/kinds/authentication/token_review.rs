//! TokenReview: a question that `server::reviews` answers. Never stored.

use crate::kinds::Kind;

/// Whoever answers it checks it too.
pub(in crate::kinds) const KIND: Kind = Kind::answered("authentication.k8s.io", "tokenreviews");
