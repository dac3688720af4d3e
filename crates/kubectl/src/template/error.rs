//! What is wrong with a template.

/// Why a text is no template, or a template makes nothing of an object, in the words of `text/template`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub(super) String);

/// The refusal of a template for a reason.
pub(super) fn refuse<T>(why: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError(why.into()))
}
