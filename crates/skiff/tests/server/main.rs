//! A whole server, driven from outside.

mod common;
mod durability;
mod kubectl;
