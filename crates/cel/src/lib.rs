//! The Common Expression Language as Kubernetes v1.37 uses it: parsing, type checks, estimates of cost, and an evaluator that
//! counts what it does and stops at a limit. The language is <https://github.com/google/cel-spec>; messages, limits and costs are
//! those of upstream's API server.
//!
//! An expression goes through three steps, of which the last is repeated: [`Environment::compile`] parses and checks it,
//! [`Environment::plan`] makes a [`Program`], and [`Program::evaluate`] evaluates it over values that are read where the data
//! stands.
//!
//! ```
//! use std::sync::Arc;
//! use cel::{Declared, Environment, Limits, Schema, Value, View};
//!
//! let schema = Schema::from_openapi(&serde_json::json!({
//!     "type": "object",
//!     "properties": { "min": { "type": "integer" }, "max": { "type": "integer" } }
//! }));
//! let declared = Arc::new(Declared::from_schema(&schema, false, "selfType").unwrap());
//! let environment = Environment::kubernetes(37).with_declared("self", &declared);
//! let checked = environment.compile("self.min <= self.max").unwrap();
//! assert_eq!(environment.estimate(&checked).max, 5);
//!
//! let program = environment.plan(&checked).unwrap();
//! let data = serde_json::json!({ "min": 1, "max": 2 });
//! let variables = [("self", cel::read(View::of(&data), Some(&schema)).unwrap())];
//! let evaluation = program.evaluate(&variables[..], &Limits::default());
//! assert!(matches!(evaluation.outcome, Ok(Value::Bool(true))));
//! ```
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::needless_pass_by_value, clippy::unwrap_used))]

pub mod admission;
mod ast;
mod checker;
mod cost;
mod declared;
mod environment;
mod escape;
mod eval;
mod library;
pub mod limits;
mod parser;
mod schema;
mod source;
mod types;
mod value;
mod work;

pub use checker::Checked;
pub use cost::Range;
pub use declared::Declared;
pub use environment::Environment;
pub use escape::{escape, is_keyword, unescape};
pub use eval::{Activation, Evaluation, Interrupt, Limits, Program};
pub use library::authorizer::{Authorizer, Check, Decision};
pub use schema::{ListType, Schema, SchemaType};
pub use source::{Issue, Issues};
pub use types::Type;
pub use value::data::{Mapping, Sequence, View};
pub use value::{Fault, Host, List, Map, Object, Opaque, Outcome, Text, Timestamp, Value, read};
