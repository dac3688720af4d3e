//! What objects look like on the terminal.

pub mod columns;
pub mod format;
mod key_order;
pub mod kyaml;
pub mod sort;
pub mod table;
pub mod tabwriter;
pub mod yaml;

pub use ::api::go;
pub use format::Format;
