//! Whether a request concerns something that is configured for admission: rules, selectors, conditions, and what of many
//! configured things may be concerned at all.

pub mod conditions;
pub mod criteria;
pub mod index;
pub mod request;
pub mod rule;
mod shown;

pub use conditions::{Asker, Conditions, Variables};
pub use criteria::{Criteria, Version};
pub use index::Index;
pub use shown::Shown;
