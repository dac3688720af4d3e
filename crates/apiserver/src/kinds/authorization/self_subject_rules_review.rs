//! SelfSubjectRulesReview: a question that `server::access_review` answers. Never stored.

use crate::kinds::Kind;

/// Whoever answers it checks it too.
pub(in crate::kinds) const KIND: Kind = Kind::answered("authorization.k8s.io", "selfsubjectrulesreviews");
