//! A whole server, driven from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod admission;
mod admission_plugins;
mod aggregation;
mod audit;
mod bad_input;
mod common;
mod controllers;
mod conversion;
mod durability;
mod extension;
mod flow_control;
mod health;
mod https;
mod join;
mod kube_rs;
mod kubectl;
mod metrics;
mod openapi;
mod prometheus;
mod requests;
mod sample_api_server;
mod services;
mod webhooks;
