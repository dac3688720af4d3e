//! The certificates of podCertificate projections: what is asked of signers and when, decided without I/O. KEP-4317.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A request that is not seen for this long was deleted.
const GONE_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// A certificate that was not renewed for this long is told of.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// A private key and the certificates for it, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub key: String,
    pub chain: String,
}

/// Why there are no credentials, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("credential bundle is not issued yet")]
    NotIssued,
    #[error("PodCertificateRequest was permanently {verdict}: reason={reason:?} message={message:?}")]
    Refused {
        verdict: &'static str,
        reason: String,
        message: String,
    },
}

/// A request that has been made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The private key that it is for.
    pub key: String,
    /// Its name, in the pod's namespace.
    pub name: String,
    /// When it was deleted if it is not there.
    pub abandon_at: Timestamp,
}

impl Asked {
    /// A request that is made now; `jitter` parts its end from others'.
    pub fn new(key: String, name: String, created: Timestamp, jitter: SignedDuration) -> Asked {
        Asked {
            key,
            name,
            abandon_at: created + GONE_AFTER + jitter,
        }
    }
}

/// The certificate of one projection.
#[derive(Debug, Default)]
pub enum State {
    /// Nothing has been asked for, or what was is gone.
    #[default]
    Initial,
    /// The signer has not answered yet.
    Waiting(Asked),
    Issued(Issued),
    /// The signer will not: nothing is asked again while the pod lives.
    Refused(CertificateError),
}

/// A certificate and what comes after it.
#[derive(Debug)]
pub struct Issued {
    credentials: Credentials,
    renew_at: Timestamp,
    ends: Timestamp,
    told_overdue: bool,
    told_ended: bool,
    next: Option<Asked>,
}

/// What a look at a projection's certificate comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// A request is to be made.
    pub ask: bool,
    /// Warnings: reason and message.
    pub events: Vec<(&'static str, String)>,
    /// When to look again, whatever happens.
    pub at: Option<Timestamp>,
}

impl Due {
    fn at(at: Timestamp) -> Due {
        Due {
            at: Some(at),
            ..Due::default()
        }
    }

    fn ask() -> Due {
        Due {
            ask: true,
            ..Due::default()
        }
    }
}

/// What became of a request.
enum Answer {
    None,
    Deleted,
    Final(State, Vec<(&'static str, String)>),
}

impl State {
    /// Takes note of what became of the request, which `look` finds by its name, and says what is due. `jitter` is random,
    /// so that not all renew at once.
    pub fn advance(
        &mut self,
        look: impl Fn(&str) -> Option<PodCertificateRequest>,
        now: Timestamp,
        jitter: SignedDuration,
    ) -> Due {
        let asked = match self {
            State::Initial => return Due::ask(),
            State::Refused(_) => return Due::default(),
            State::Waiting(asked) => Some(&*asked),
            State::Issued(issued) => issued.next.as_ref(),
        };
        let answer = asked.map_or(Answer::None, |asked| answer(asked, look(&asked.name), now, jitter));
        match answer {
            Answer::Final(state, events) => {
                *self = state;
                let at = match self {
                    State::Issued(issued) => Some(issued.renew_at),
                    _ => None,
                };
                return Due { ask: false, events, at };
            }
            Answer::Deleted => match &mut *self {
                State::Issued(issued) => issued.next = None,
                other => *other = State::Initial,
            },
            Answer::None => {}
        }
        match self {
            State::Initial => Due::ask(),
            State::Waiting(asked) => Due::at(asked.abandon_at),
            State::Issued(issued) => issued.due(now),
            State::Refused(_) => Due::default(),
        }
    }

    /// A request was made.
    pub fn asked(&mut self, asked: Asked) {
        match self {
            State::Issued(issued) => issued.next = Some(asked),
            other => *other = State::Waiting(asked),
        }
    }

    /// What the projection shows.
    pub fn credentials(&self) -> Result<Credentials, CertificateError> {
        match self {
            State::Initial | State::Waiting(_) => Err(CertificateError::NotIssued),
            State::Issued(issued) => Ok(issued.credentials.clone()),
            State::Refused(error) => Err(error.clone()),
        }
    }
}

impl Issued {
    fn due(&mut self, now: Timestamp) -> Due {
        if now < self.renew_at {
            return Due::at(self.renew_at);
        }
        let overdue = self.renew_at + OVERDUE_AFTER;
        let mut due = Due {
            ask: self.next.is_none(),
            at: self.next.as_ref().map(|next| next.abandon_at),
            events: Vec::new(),
        };
        for (at, told, reason, message) in [
            (
                overdue,
                &mut self.told_overdue,
                "CertificateOverdueForRefresh",
                "PodCertificate refresh overdue",
            ),
            (
                self.ends,
                &mut self.told_ended,
                "CertificateExpired",
                "PodCertificate expired",
            ),
        ] {
            if now > at && !*told {
                *told = true;
                due.events.push((reason, message.to_owned()));
            } else if now <= at {
                // just after it
                let at = at + SignedDuration::from_millis(1);
                due.at = Some(due.at.map_or(at, |due| due.min(at)));
            }
        }
        due
    }
}

fn answer(asked: &Asked, found: Option<PodCertificateRequest>, now: Timestamp, jitter: SignedDuration) -> Answer {
    let Some(found) = found else {
        // a request that was made just now may not have been seen yet
        return if now > asked.abandon_at {
            Answer::Deleted
        } else {
            Answer::None
        };
    };
    let place = format!(
        "{}/{}",
        found.metadata.namespace.unwrap_or_default(),
        found.metadata.name.unwrap_or_default()
    );
    let status = found.status.unwrap_or_default();
    for condition in status.conditions.iter().flatten() {
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        // upstream's recorder takes the reason for the text and spoils this
        let told = |what: &str| format!("PodCertificateRequest {place} {what}, reason={reason:?}, message={message:?}");
        let (type_, verdict, what) = match condition.type_.as_str() {
            "Denied" => ("Denied", "denied", "was denied"),
            "Failed" => ("Failed", "failed", "failed"),
            "Issued" => match issued(asked, &status, jitter) {
                Some(issued) => return Answer::Final(State::Issued(issued), Vec::new()),
                None => continue,
            },
            _ => continue,
        };
        let events = vec![(type_, told(what))];
        let refused = CertificateError::Refused {
            verdict,
            reason,
            message,
        };
        return Answer::Final(State::Refused(refused), events);
    }
    Answer::None
}

/// `None` when the status, which the API server holds to its rules, lacks what is issued.
fn issued(asked: &Asked, status: &PodCertificateRequestStatus, jitter: SignedDuration) -> Option<Issued> {
    let chain = CertificateDer::pem_slice_iter(status.certificate_chain.as_deref()?.as_bytes());
    // without what stands between the certificates
    let chain: Result<String, _> = chain.map(|c| c.map(|c| pki::certificate_pem(&c))).collect();
    Some(Issued {
        credentials: Credentials {
            key: asked.key.clone(),
            chain: chain.ok()?,
        },
        renew_at: status.begin_refresh_at.as_ref()?.0 + jitter,
        ends: status.not_after.as_ref()?.0,
        told_overdue: false,
        told_ended: false,
        next: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NONE: SignedDuration = SignedDuration::ZERO;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn request(conditions: &Value) -> Option<PodCertificateRequest> {
        let chain = format!("words\n{}", pki::certificate_pem(b"leaf"));
        let request = json!({
            "metadata": { "namespace": "n", "name": "req-1" },
            "spec": { "maxExpirationSeconds": 1, "nodeName": "", "nodeUID": "", "podName": "", "podUID": "",
                "serviceAccountName": "", "serviceAccountUID": "", "signerName": "", "stubPKCS10Request": "" },
            "status": { "conditions": conditions, "certificateChain": chain, "notBefore": "2026-01-01T00:00:00Z",
                "notAfter": "2026-01-01T02:00:00Z", "beginRefreshAt": "2026-01-01T01:00:00Z" },
        });
        Some(serde_json::from_value(request).unwrap())
    }

    fn condition(kind: &str) -> Value {
        json!([{ "type": kind, "status": "True", "reason": "R", "message": "M", "lastTransitionTime": "2026-01-01T00:00:00Z" }])
    }

    fn asked(name: &str) -> Asked {
        Asked::new(format!("key of {name}"), name.to_owned(), at("00:00:00"), NONE)
    }

    fn issued() -> State {
        let mut state = State::default();
        state.asked(asked("req-1"));
        let due = state.advance(
            |_| request(&condition("Issued")),
            at("00:00:01"),
            SignedDuration::from_mins(1),
        );
        assert_eq!(due, Due::at(at("01:01:00")));
        state
    }

    #[test]
    fn a_certificate_is_asked_for_once_and_shown_when_it_is_issued() {
        let mut state = State::default();
        assert_eq!(state.advance(|_| None, at("00:00:00"), NONE), Due::ask());
        state.asked(asked("req-1"));
        for found in [None, request(&json!([]))] {
            let due = state.advance(|_| found.clone(), at("00:05:00"), NONE);
            assert_eq!(due, Due::at(at("00:10:00")));
            assert_eq!(state.credentials(), Err(CertificateError::NotIssued));
        }
        state.advance(|_| request(&condition("Issued")), at("00:05:00"), NONE);
        let shown = state.credentials().unwrap();
        assert_eq!(shown.key, "key of req-1");
        assert_eq!(shown.chain, pki::certificate_pem(b"leaf"));
    }

    #[test]
    fn a_request_that_is_gone_is_made_again() {
        let mut state = State::default();
        state.asked(asked("req-1"));
        assert!(!state.advance(|_| None, at("00:10:00"), NONE).ask);
        assert_eq!(state.advance(|_| None, at("00:10:01"), NONE), Due::ask());
        assert!(matches!(state, State::Initial));
    }

    #[test]
    fn what_a_signer_refuses_stays_refused() {
        let mut state = State::default();
        state.asked(asked("req-1"));
        let due = state.advance(|_| request(&condition("Denied")), at("00:00:01"), NONE);
        let message = r#"PodCertificateRequest n/req-1 was denied, reason="R", message="M""#;
        assert_eq!(due.events, [("Denied", message.to_owned())]);
        let error = state.credentials().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"PodCertificateRequest was permanently denied: reason="R" message="M""#
        );
        assert_eq!(state.advance(|_| None, at("09:00:00"), NONE), Due::default());
    }

    #[test]
    fn a_certificate_is_renewed_in_its_time_and_shown_until_then() {
        let mut state = issued();
        assert_eq!(state.advance(|_| None, at("01:00:59"), NONE), Due::at(at("01:01:00")));
        assert!(state.advance(|_| None, at("01:01:00"), NONE).ask);
        let mut next = asked("req-2");
        next.abandon_at = at("01:11:00");
        state.asked(next);
        let due = state.advance(|_| request(&json!([])), at("01:01:01"), NONE);
        assert_eq!(due, Due::at(at("01:11:00")));
        assert_eq!(state.credentials().unwrap().key, "key of req-1");
        state.advance(
            |name| request(&condition("Issued")).filter(|_| name == "req-2"),
            at("01:02:00"),
            NONE,
        );
        assert_eq!(state.credentials().unwrap().key, "key of req-2");
    }

    #[test]
    fn what_is_not_renewed_is_told_of_once() {
        let mut state = issued();
        let mut next = asked("req-2");
        next.abandon_at = at("09:00:00");
        state.asked(next);
        let told = |state: &mut State, now: &str| state.advance(|_| request(&json!([])), at(now), NONE).events;
        assert!(told(&mut state, "01:11:00").is_empty());
        let overdue = (
            "CertificateOverdueForRefresh",
            "PodCertificate refresh overdue".to_owned(),
        );
        assert_eq!(told(&mut state, "01:11:01"), [overdue]);
        let ended = ("CertificateExpired", "PodCertificate expired".to_owned());
        assert_eq!(told(&mut state, "02:00:01"), [ended]);
        assert!(told(&mut state, "03:00:00").is_empty());
        assert!(state.credentials().is_ok(), "what is there stays");
    }
}
