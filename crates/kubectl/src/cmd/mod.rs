//! The commands, a file each.

pub mod apply;
pub mod create;
pub mod delete;
pub mod describe;
pub mod exec;
pub mod get;
mod last_applied;
pub mod logs;
