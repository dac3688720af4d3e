//! What objects look like on the terminal.

pub mod columns;
pub mod format;
pub mod kyaml;
pub mod sort;
pub mod table;
pub mod tabwriter;

pub use ::api::{go, yaml};
pub use format::Format;
