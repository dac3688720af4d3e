//! What objects look like on the terminal.

pub mod go;
pub mod tabwriter;
pub mod yaml;
