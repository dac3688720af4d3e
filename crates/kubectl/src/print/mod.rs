//! What objects look like on the terminal.

pub mod columns;
pub mod format;
pub mod go;
pub mod sort;
pub mod table;
pub mod tabwriter;
pub mod yaml;

pub use format::Format;
