//! Impersonation: a user who may act as another does so by headers. The constrained modes (KEP-5284) are asked before the old one.

mod headers;
mod modes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

use crate::audit::Trail;
use crate::authorization::{Attributes, Authorizer};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use modes::{MODES, Mode, Question};

/// Users whose last mode is remembered.
const REMEMBERED: usize = 10_000;

/// The mode by which each user last became another: it is asked first, and of several refusals it is its that is shown.
#[derive(Debug, Default)]
pub struct LastModes(Mutex<HashMap<String, Mode>>);

impl LastModes {
    fn of(&self, user: &User) -> Option<Mode> {
        let modes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        modes.get(&user.name).copied()
    }

    fn remember(&self, user: &User, mode: Mode) {
        let mut modes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if modes.len() >= REMEMBERED {
            modes.clear();
        }
        modes.insert(user.name.clone(), mode);
    }
}

/// As whom a request is made: the user who asks, or the one that the headers name.
///
/// # Errors
/// `400` when the headers name no user but something of one; `403` when the user may not become the other.
pub fn impersonate(
    authorizer: &Authorizer,
    last: &LastModes,
    headers: &HeaderMap,
    user: Arc<User>,
    request: &Attributes<'_>,
    trail: &Trail,
) -> Result<Arc<User>> {
    let Some(wanted) = headers::read(headers)? else {
        return Ok(user);
    };
    let question = Question {
        authorizer,
        requestor: &user,
        wanted: &wanted,
        request,
    };
    let first = last.of(&user);
    let others = MODES.into_iter().filter(|mode| Some(*mode) != first);
    let mut refusal = None;
    for mode in first.into_iter().chain(others) {
        match question.ask(mode) {
            Ok(Some(other)) => {
                last.remember(&user, mode);
                let other = Arc::new(other);
                trail.impersonated(&other, mode.constraint());
                return Ok(other);
            }
            Ok(None) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| ApiError::plain("all impersonation modes failed")))
}
