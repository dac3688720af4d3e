//! A whole server, driven from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod admission;
mod bad_input;
mod common;
mod durability;
mod health;
mod kube_rs;
mod kubectl;
mod openapi;
mod requests;
mod services;
