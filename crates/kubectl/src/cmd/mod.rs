//! The commands, a file each.

pub mod apply;
pub mod cp;
pub mod create;
pub mod delete;
pub mod describe;
pub mod exec;
pub mod get;
pub mod label;
mod last_applied;
pub mod logs;
pub mod patch;
pub mod port_forward;
pub mod scale;
pub mod wait;
