//! Files and directories that pods and images fill as they like: opened, measured and removed so that neither their kind
//! nor their depth harms the node.

mod open;
mod remove;
mod usage;
mod write;

pub use open::{regular_file, regular_handle};
pub use remove::remove_tree;
pub use usage::{Usage, usage};
pub use write::replace_own;
