//! The variables that Kubernetes gives the expressions of admission policies, with their types
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::declared::Declared;
use crate::types::Type;

/// The type of `authorizer`.
pub fn authorizer() -> Type {
    Type::object("kubernetes.authorization.Authorizer")
}

/// The variables of one policy, with their types. An expression reads those that were added before it.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, Type>);

impl Variables {
    /// Adds a variable by the type of its expression, [`Type::Dyn`] for one that does not compile.
    pub fn add(&mut self, name: &str, of: &Type) {
        self.0.insert(name.to_owned(), variable_type(of));
    }

    /// The type of `variables`.
    pub fn declared(&self) -> Arc<Declared> {
        let fields = self.0.iter();
        let fields = fields.map(|(name, of)| (name.clone(), Declared::unbounded(of.clone())));
        Arc::new(Declared::record("kubernetes.variables", fields))
    }
}

/// The type that a variable has for those who read it. Of what is no scalar, list or map they know nothing.
fn variable_type(of: &Type) -> Type {
    match of {
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => of.clone(),
        Type::List(item) => Type::list(variable_type(item)),
        Type::Map(both) => Type::map(variable_type(&both.0), variable_type(&both.1)),
        _ => Type::Dyn,
    }
}

fn of(of: Type) -> Declared {
    Declared::unbounded(of)
}

/// The type of `request`: an AdmissionRequest without its uid and objects.
pub fn request() -> Declared {
    let text = || of(Type::String);
    let named = |name: &str, last: &'static str| {
        Declared::record(name, [("group", text()), ("version", text()), (last, text())])
    };
    let kind = || named("kubernetes.GroupVersionKind", "kind");
    let resource = || named("kubernetes.GroupVersionResource", "resource");
    let user = [
        ("username", text()),
        ("uid", text()),
        ("groups", of(Type::list(Type::String))),
        ("extra", of(Type::map(Type::String, Type::list(Type::String)))),
    ];
    let fields = [
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", text()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", text()),
        ("name", text()),
        ("namespace", text()),
        ("operation", text()),
        ("userInfo", Declared::record("kubernetes.UserInfo", user)),
        ("dryRun", of(Type::Bool)),
        ("options", of(Type::Dyn)),
    ];
    Declared::record("kubernetes.AdmissionRequest", fields)
}

/// The type of `namespaceObject`: what upstream shows of a Namespace.
pub fn namespace() -> Declared {
    let text = || of(Type::String);
    let texts = || of(Type::list(Type::String));
    let map = || of(Type::map(Type::String, Type::String));
    let condition = [
        ("status", text()),
        ("type", text()),
        ("lastTransitionTime", of(Type::Timestamp)),
        ("message", text()),
        ("reason", text()),
    ];
    let conditions = Declared::list(Declared::record("kubernetes.NamespaceCondition", condition));
    let metadata = [
        ("name", text()),
        ("generateName", text()),
        ("namespace", text()),
        ("labels", map()),
        ("annotations", map()),
        ("UID", text()),
        ("creationTimestamp", of(Type::Timestamp)),
        ("deletionGracePeriodSeconds", of(Type::Int)),
        ("deletionTimestamp", of(Type::Timestamp)),
        ("generation", of(Type::Int)),
        ("resourceVersion", text()),
        ("finalizers", texts()),
    ];
    let fields = [
        ("metadata", Declared::record("kubernetes.NamespaceMetadata", metadata)),
        (
            "spec",
            Declared::record("kubernetes.NamespaceSpec", [("finalizers", texts())]),
        ),
        (
            "status",
            Declared::record(
                "kubernetes.NamespaceStatus",
                [("conditions", conditions), ("phase", text())],
            ),
        ),
    ];
    Declared::record("kubernetes.Namespace", fields)
}
