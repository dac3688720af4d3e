//! Expressions of admission: the variables that they read, and how they are compiled
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).

use std::sync::{Arc, OnceLock};

use api::field::{FieldError, FieldErrorKind};
use cel::{Environment, Fault, Issues, Program, Type, admission};

use crate::expressions;
use crate::kinds::Cursor;

/// Why an expression does not compile, in upstream's words.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExpressionError {
    /// Its text is wrong.
    #[error("compilation failed: {0}")]
    Text(#[from] Issues),
    /// Its value is of another type than those wanted.
    #[error("must evaluate to {wanted} but got {found}")]
    Type {
        /// The one type, or all.
        wanted: String,
        /// Its own.
        found: String,
    },
    /// It was right until its constants were computed.
    #[error("program instantiation failed: {0}")]
    Instantiation(#[from] Fault),
}

/// What is known of an expression before it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// It was accepted before, perhaps by a newer server.
    pub stored: bool,
    /// It reads `params`.
    pub params: bool,
}

/// The environment of an expression that may not ask the authorizer.
pub fn without_authorizer(setting: Setting) -> Environment {
    static ALL: OnceLock<[Environment; 2]> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let (request, namespace) = (Arc::new(admission::request()), Arc::new(admission::namespace()));
        [expressions::for_new(), expressions::for_stored()].map(|base| {
            base.clone()
                .with_variable("object", Type::Dyn)
                .with_variable("oldObject", Type::Dyn)
                .with_declared("namespaceObject", &namespace)
                .with_declared("request", &request)
        })
    });
    let environment = all[usize::from(setting.stored)].clone();
    match setting.params {
        true => environment.with_variable("params", Type::Dyn),
        false => environment,
    }
}

/// The environment of an expression that may ask the authorizer.
pub fn environment(setting: Setting) -> Environment {
    without_authorizer(setting)
        .with_variable("authorizer", admission::authorizer())
        .with_variable(
            "authorizer.requestResource",
            Type::object("kubernetes.authorization.ResourceCheck"),
        )
}

/// Compiles an expression that must be true or false.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn condition(text: &str, setting: Setting) -> Result<Program, ExpressionError> {
    compile(&environment(setting), text, &[Type::Bool]).map(|(program, _)| program)
}

/// Compiles an expression whose value is to be of one of some types; of any when there are none. Returns its type too.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn compile(environment: &Environment, text: &str, returns: &[Type]) -> Result<(Program, Type), ExpressionError> {
    let checked = environment.compile(text)?;
    let of = checked.output();
    if !returns.is_empty() && !returns.contains(of) {
        let wanted: Vec<String> = returns.iter().map(shown).collect();
        return Err(ExpressionError::Type {
            wanted: match wanted.as_slice() {
                [one] => one.clone(),
                all => format!("one of [{}]", all.join(" ")),
            },
            found: shown(of),
        });
    }
    Ok((environment.plan(&checked)?, of.clone()))
}

/// The error of an expression that does not compile: one that was right until its constants were computed counts as the server's own.
pub fn unfit(at: &Cursor, text: &str, why: &ExpressionError) -> FieldError {
    match why {
        ExpressionError::Instantiation(_) => FieldError {
            kind: FieldErrorKind::Internal,
            ..at.unfit(why)
        },
        ExpressionError::Text(_) | ExpressionError::Type { .. } => at.wrong(text, why),
    }
}

/// A type as upstream's messages name it.
fn shown(of: &Type) -> String {
    match of {
        Type::List(item) => format!("list({})", shown(item)),
        Type::Map(both) => format!("map({}, {})", shown(&both.0), shown(&both.1)),
        Type::Type(Some(inner)) => format!("type({})", shown(inner)),
        Type::Opaque(_, params) if !params.is_empty() => of.to_string(),
        other => other.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Setting = Setting {
        stored: false,
        params: false,
    };

    #[test]
    fn conditions_read_the_request_and_ask_the_authorizer() {
        for text in [
            "request.kind.group == 'apps' && request.userInfo.groups.exists(g, g == 'x')",
            "authorizer.requestResource.check('get').allowed()",
            "authorizer.group('').resource('pods').check('list').allowed() || object.metadata.name == oldObject.metadata.name",
            "namespaceObject.metadata.labels['a'] == 'b' && namespaceObject.status.conditions.all(c, c.type != '')",
            "has(request.options.fieldManager)",
        ] {
            assert!(condition(text, NEW).is_ok(), "{text}: {:?}", condition(text, NEW).err());
        }
    }

    #[test]
    fn what_is_no_condition_is_told_as_upstream_tells_it() {
        let why = |text: &str| condition(text, NEW).unwrap_err().to_string();
        assert_eq!(why("'a'"), "must evaluate to bool but got string");
        assert_eq!(why("object"), "must evaluate to bool but got dyn");
        assert_eq!(
            why("request.x == 1"),
            "compilation failed: ERROR: <input>:1:8: undefined field 'x'\n | request.x == 1\n | .......^"
        );
        // what a library brings has functions only
        let failed = "unexpected failed resolution of 'kubernetes.authorization.Authorizer'";
        assert!(why("authorizer.x == 1").contains(failed));
        let params = Setting { params: true, ..NEW };
        assert!(condition("params.a == 1", params).is_ok());
        assert!(why("params.a == 1").contains("undeclared reference to 'params'"));
    }
}
