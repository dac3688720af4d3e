//! What the expressions of a policy may read: its variables, beside what all expressions of admission read
//! (`k8s.io/apiserver/pkg/admission/plugin/cel/composition.go`).

use cel::admission::Variables;
use cel::{Environment, Program, Type};

use super::expression::{self, ExpressionError, Setting};

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It decides, and may ask the authorizer.
    Decision,
    /// It makes a message, and may not.
    Message,
    /// It makes a patch.
    Mutation,
}

/// The scope of a policy's expressions. A variable is in it for the expressions after its own.
#[derive(Debug, Clone)]
pub struct Scope {
    params: bool,
    /// None when there is no `variables`.
    variables: Option<Variables>,
}

impl Scope {
    /// The scope of a policy: with `params` when it has a kind of them, with `variables` when these may be read.
    pub fn new(params: bool, variables: bool) -> Scope {
        Scope {
            params,
            variables: variables.then(Variables::default),
        }
    }

    fn environment(&self, stored: bool, purpose: Purpose) -> Environment {
        let setting = Setting {
            stored,
            params: self.params,
        };
        let mut environment = match purpose {
            Purpose::Message => expression::without_authorizer(setting),
            Purpose::Decision => expression::environment(setting),
            Purpose::Mutation => expression::environment(setting).with_mutation(),
        };
        if let Some(variables) = &self.variables {
            environment = environment.with_declared("variables", &variables.declared());
        }
        environment
    }

    /// Compiles an expression whose value is to be of one of these types.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn compile(
        &self,
        text: &str,
        stored: bool,
        purpose: Purpose,
        returns: &[Type],
    ) -> Result<Program, ExpressionError> {
        let (program, _) = expression::compile(&self.environment(stored, purpose), text, returns)?;
        Ok(program)
    }

    /// Compiles a variable, and adds it to the scope. One that does not compile is there nevertheless: who reads it fails.
    ///
    /// # Errors
    /// What is wrong with its expression.
    pub fn variable(&mut self, name: &str, text: &str, stored: bool) -> Result<Program, ExpressionError> {
        let compiled = expression::compile(&self.environment(stored, Purpose::Decision), text, &[]);
        let (program, of) = match compiled {
            Ok((program, of)) => (Ok(program), of),
            Err(why) => (Err(why), Type::Dyn),
        };
        if let Some(variables) = &mut self.variables {
            variables.add(name, &of);
        }
        program
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_known_with_its_type_to_those_after_it() {
        let mut scope = Scope::new(false, true);
        assert!(scope.variable("b", "variables.a + 1", false).is_err());
        assert!(scope.variable("a", "object.spec.replicas == 1 ? 1 : 2", false).is_ok());
        assert!(scope.variable("c", "variables.a + 1", false).is_ok());
        let compile = |text: &str| scope.compile(text, false, Purpose::Decision, &[Type::Bool]);
        assert!(compile("variables.c > 1 && variables.a == 1").is_ok());
        assert!(compile("variables.c == 'x'").is_err_and(|why| why.to_string().contains("found no matching overload")));
        assert!(compile("variables.d").is_err_and(|why| why.to_string().contains("undefined field 'd'")));
        let message = |text: &str| scope.compile(text, false, Purpose::Message, &[Type::String]);
        assert!(message("string(variables.a)").is_ok());
        assert!(message("string(authorizer.group('').resource('x').check('y').allowed())").is_err());
        let none = Scope::new(false, false);
        assert!(
            none.compile("variables.a", false, Purpose::Decision, &[Type::Bool])
                .is_err()
        );
    }
}
