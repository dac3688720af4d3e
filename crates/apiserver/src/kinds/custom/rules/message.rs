//! What comes of a `messageExpression`.

use api::go;
use cel::{Fault, Outcome, Value};

/// Bytes that a message may have.
const LONGEST: usize = 5 * 1024;

/// What an evaluation of an expression for a message comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Text(String),
    /// There is none, and that is to be told by the message for everybody.
    Failed(String),
    /// It cost too much: nothing more is evaluated.
    Spent(String),
}

/// The message of an outcome. `paid` says that the budget was enough for it; `text` is the expression.
pub(super) fn of(outcome: Outcome<'_>, paid: bool, text: &str) -> Message {
    if !paid {
        let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
        return Message::Spent(why.into());
    }
    let message = match outcome {
        Ok(Value::String(message)) => message,
        Ok(_) => return Message::Failed("messageExpression failed to convert to string".into()),
        Err(Fault::CostLimit) => {
            return Message::Spent(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                go::quote(text)
            ));
        }
        Err(fault) => return Message::Failed(format!("messageExpression evaluation failed due to: {fault}")),
    };
    let message = message.trim();
    if message.len() > LONGEST {
        Message::Failed(format!("messageExpression beyond allowable length of {LONGEST}"))
    } else if message.contains('\n') {
        Message::Failed("messageExpression should not contain line breaks".into())
    } else if message.is_empty() {
        Message::Failed("messageExpression should evaluate to a non-empty string".into())
    } else {
        Message::Text(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_that_is_not_too_long_is_a_message() {
        for (outcome, want) in [
            (Ok(Value::text(" told ")), Ok("told")),
            (Ok(Value::text("a\nb")), Err("should not contain line breaks")),
            (Ok(Value::text(" \n ")), Err("non-empty")),
            (
                Ok(Value::text("x".repeat(5 * 1024 + 1))),
                Err("beyond allowable length of 5120"),
            ),
            (Ok(Value::Int(1)), Err("failed to convert")),
            (
                Err(Fault::Error("no such key: a".into())),
                Err("failed due to: no such key: a"),
            ),
        ] {
            match (of(outcome, true, "x"), want) {
                (Message::Text(text), Ok(want)) => assert_eq!(text, want),
                (Message::Failed(why), Err(want)) => assert!(why.contains(want), "{why}"),
                (other, want) => panic!("{other:?} is not {want:?}"),
            }
        }
        assert!(
            matches!(of(Err(Fault::CostLimit), true, "x"), Message::Spent(why) if why.ends_with("messageExpression: \"x\""))
        );
        assert!(matches!(of(Ok(Value::text("a")), false, "x"), Message::Spent(_)));
    }
}
