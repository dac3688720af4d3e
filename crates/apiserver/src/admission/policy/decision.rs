//! What a policy says of a request (`policy/validating/validator.go`).

use cel::{Activation, Fault, Limits, Outcome, Program, Value as Cel};

use super::OUT_OF_BUDGET;
use super::compiled::{AuditAnnotation, Policy, Validation};
use super::variables::{self, Composed, Known, Reads};
use crate::kinds::admissionregistration::expression::ExpressionError;

/// Bytes that a message may have.
const LONGEST_MESSAGE: usize = 5 * 1024;
/// Bytes that the value of an annotation may have.
const LONGEST_ANNOTATION: usize = 10 * 1024;

/// What one validation comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Admit,
    Deny { message: String, reason: &'static str },
}

/// What one annotation comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Annotation {
    Made { key: String, value: String },
    Failed(String),
}

/// What a policy says.
#[derive(Debug, Default)]
pub struct Verdict {
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotation>,
}

impl Policy {
    /// Holds a request against the policy.
    pub fn validate<'a>(&self, request: &dyn Activation<'a>) -> Verdict {
        match self.conditions.hold(request) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(why) => return self.failed(why.to_string()),
        }
        variables::with(&self.variables, request, None, &mut |known| self.decide(request, known))
    }

    fn on_error(&self, message: String) -> Decision {
        match self.fails {
            true => Decision::Deny {
                message,
                reason: "Invalid",
            },
            false => Decision::Admit,
        }
    }

    fn failed(&self, why: String) -> Verdict {
        Verdict {
            decisions: vec![self.on_error(why)],
            annotations: Vec::new(),
        }
    }

    fn decide<'k, 'a: 'k>(&self, request: &'k dyn Activation<'a>, known: Option<&'k Known<'k>>) -> Verdict {
        let composed = Composed::new(known);
        let mut meter = Meter {
            reads: Reads {
                request,
                composed: &composed,
                authorizer: true,
            },
            left: cel::limits::RUNTIME_BUDGET,
        };
        let mut results = Vec::with_capacity(self.validations.len());
        for validation in &self.validations {
            match meter.evaluate(&validation.text, &validation.program) {
                Ok(result) => results.push(result),
                Err(Spent) => return self.failed(OUT_OF_BUDGET.into()),
            }
        }
        composed.forget();
        meter.reads.authorizer = false;
        let messages = self.messages(&mut meter);
        let decisions = self.validations.iter().zip(results).enumerate();
        let decisions = decisions.map(|(n, (validation, result))| match (result, &messages) {
            (Err(why), _) => self.on_error(why.to_string()),
            (Ok(_), Err(Spent)) => self.on_error(format!("failed messageExpression: {OUT_OF_BUDGET}")),
            (Ok(Cel::Bool(true)), _) => Decision::Admit,
            (Ok(_), Ok(messages)) => Decision::Deny {
                message: message(validation, messages[n].as_deref()),
                reason: validation.reason,
            },
        });
        let decisions = decisions.collect();
        composed.forget();
        meter.reads.authorizer = true;
        meter.left = cel::limits::RUNTIME_BUDGET;
        let mut annotations = Vec::new();
        for annotation in &self.annotations {
            match meter.evaluate(&annotation.text, &annotation.program) {
                Ok(result) => annotations.extend(self.annotation(annotation, result)),
                Err(Spent) => return self.failed(OUT_OF_BUDGET.into()),
            }
        }
        Verdict { decisions, annotations }
    }

    /// The messages that expressions make, whether they are needed or not.
    fn messages(&self, meter: &mut Meter<'_, '_>) -> Result<Vec<Option<String>>, Spent> {
        let all = self.validations.iter().map(|validation| {
            let Some(program) = &validation.message_program else {
                return Ok(None);
            };
            match meter.evaluate("", program)? {
                Ok(Cel::String(text)) => Ok(Some(text.trim().to_owned())),
                _ => Ok(None),
            }
        });
        all.collect()
    }

    fn annotation(&self, annotation: &AuditAnnotation, result: Result<Cel<'_>, EvaluationError>) -> Option<Annotation> {
        match result {
            Ok(Cel::String(text)) => {
                let text = text.trim();
                let value = text[..text.floor_char_boundary(LONGEST_ANNOTATION)].to_owned();
                let key = annotation.key.clone();
                (!value.is_empty()).then_some(Annotation::Made { key, value })
            }
            Ok(_) => None,
            Err(why) => self.fails.then(|| Annotation::Failed(why.to_string())),
        }
    }
}

/// The message of a validation that failed.
fn message(validation: &Validation, made: Option<&str>) -> String {
    let made = made.filter(|text| !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n'));
    let own = Some(validation.message.trim()).filter(|text| !text.is_empty());
    match made.or(own) {
        Some(text) => text.to_owned(),
        None => format!("failed expression: {}", validation.text.trim()),
    }
}

/// Why an expression has no value, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// It does not compile.
    #[error("compilation error: {0}")]
    Compilation(ExpressionError),
    /// It failed.
    #[error("expression '{text}' resulted in error: {fault}")]
    Fault {
        /// The expression.
        text: String,
        /// What went wrong.
        fault: Fault,
    },
}

/// Nothing more is evaluated.
struct Spent;

/// A group of expressions that share a budget.
struct Meter<'k, 'a> {
    reads: Reads<'k, 'a>,
    left: u64,
}

impl<'k, 'a: 'k> Meter<'k, 'a> {
    /// The value of an expression, or why it has none.
    fn evaluate(
        &mut self,
        text: &str,
        program: &Result<Program, ExpressionError>,
    ) -> Result<Result<Cel<'k>, EvaluationError>, Spent> {
        let program = match program {
            Ok(program) => program,
            Err(why) => return Ok(Err(EvaluationError::Compilation(why.clone()))),
        };
        let done = program.evaluate(&self.reads, &Limits::default());
        let cost = done.cost.saturating_add(self.reads.composed.take_cost());
        self.left = self.left.checked_sub(cost).ok_or(Spent)?;
        let outcome: Outcome<'k> = done.outcome;
        Ok(outcome.map_err(|fault| EvaluationError::Fault {
            text: text.to_owned(),
            fault,
        }))
    }
}
