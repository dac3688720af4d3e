//! PodCertificateRequest: a kubelet asks a signer for a certificate of a pod. KEP-4317.

use api::field::FieldError;
use api::names;
use api::time::Instant;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::kinds::certificates::pem::{self, Block};
use crate::kinds::certificates::signer::{is_kubernetes, signer_name, user_annotations};
use crate::kinds::columns::{BuiltinColumn, NAME, label_pairs, list_at, text_at};
use crate::kinds::conditions::{self, conditions};
use crate::kinds::rules::problems;
use crate::kinds::{Check, Cursor, Errors, Kind, STATUS_ALONE};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    parts: &[STATUS_ALONE],
    signs,
    columns: COLUMNS,
    ..Kind::new("certificates.k8s.io", "podcertificaterequests", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("PodName", "string", 0, |r| json!(text_at(r, "/spec/podName"))),
    ("ServiceAccountName", "string", 0, |r| {
        json!(text_at(r, "/spec/serviceAccountName"))
    }),
    ("NodeName", "string", 0, |r| json!(text_at(r, "/spec/nodeName"))),
    ("SignerName", "string", 0, |r| json!(text_at(r, "/spec/signerName"))),
    ("State", "string", 0, state),
    ("UnverifiedUserAnnotations", "string", 1, |r| {
        label_pairs(r, "/spec/unverifiedUserAnnotations")
    }),
];

fn state(request: &Value) -> Value {
    let mut told = list_at(request, "/status/conditions").filter_map(|c| c["type"].as_str());
    json!(told.rfind(|kind| OUTCOMES.contains(kind)).unwrap_or("Pending"))
}

/// What a signer says of a request once and for all.
const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

const HOUR: i64 = 3600;

const DAY: i64 = 24 * HOUR;

/// Bytes of a uid.
const UID: usize = 128;

/// Bytes of a request.
const REQUEST: usize = 10 << 10;

/// Bytes of a chain.
const CHAIN: usize = 100 << 10;

/// Seconds that a signer's clock may be off.
const SKEW: i64 = 300;

/// Seconds between the beginning of a certificate and that of its renewal, and between this and its end.
const MARGIN: i64 = 600;

/// The signer whose right to sign a write of the status needs.
fn signs(check: &Check) -> Option<String> {
    let old = check.before().filter(|_| check.is_status())?;
    let changes = check.root().get("status").value != old.get("status").value;
    changes.then(|| old.at(&["spec", "signerName"]).text().to_owned())
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    match check.before() {
        None => creation(&mut errors, &root.get("spec")),
        Some(old) if check.is_status() => outcome(&mut errors, check, &root, &old),
        Some(old) => {
            let spec = root.get("spec");
            if spec.value != old.get("spec").value {
                errors.push(spec.invalid("field is immutable"));
            }
        }
    }
    errors
}

fn creation(errors: &mut Errors, spec: &Cursor) {
    let signer = spec.get("signerName");
    signer_name(errors, &signer);
    user_annotations(errors, &spec.get("unverifiedUserAnnotations"));
    for (who, uid, rule) in [
        (
            "podName",
            "podUID",
            names::dns1123_subdomain_errors as fn(&str) -> Vec<String>,
        ),
        (
            "serviceAccountName",
            "serviceAccountUID",
            names::dns1123_subdomain_errors,
        ),
        ("nodeName", "nodeUID", names::dns1123_subdomain_errors),
    ] {
        let (who, uid) = (spec.get(who), spec.get(uid));
        problems(errors, &who, rule(who.text()));
        if uid.text().is_empty() {
            errors.push(uid.wrong("", "must not be empty"));
        } else if uid.text().len() > UID {
            errors.push(FieldError::too_long(&uid.path, UID));
        }
    }
    let longest = spec.get("maxExpirationSeconds");
    let Some(seconds) = longest.int() else {
        errors.push(longest.required("must be set"));
        return;
    };
    // Kubernetes' own signers give less
    let most = if is_kubernetes(signer.text()) { DAY } else { 91 * DAY };
    if !(HOUR..=most).contains(&seconds) {
        errors.push(longest.invalid(format!("must be in the range [{HOUR}, {most}]")));
    }
    let request = spec.get("stubPKCS10Request");
    if request.text().is_empty() {
        errors.push(spec.unfit("exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"));
        return;
    }
    if let Err(error) = signing_request(&request) {
        errors.push(*error);
    }
}

fn decode(at: &Cursor) -> Vec<u8> {
    // what is not base64 the schema has refused
    STANDARD.decode(at.text()).unwrap_or_default()
}

/// The key that a request is for must be one that signers take, and sign the request.
fn signing_request(at: &Cursor) -> Result<(), Box<FieldError>> {
    let bytes = decode(at);
    if bytes.len() > REQUEST {
        return Err(Box::new(FieldError::too_long(&at.path, REQUEST)));
    }
    let unfit = |why: &str| Box::new(at.unfit(why));
    let Ok((_, request)) = X509CertificationRequest::from_der(&bytes) else {
        return Err(unfit("must be a valid PKCS#10 CSR"));
    };
    let key = &request.certification_request_info.subject_pki;
    if let Err(error) = key_fits(at, key) {
        return Err(Box::new(error));
    }
    match pki::has_proof(&request) {
        true => Ok(()),
        false => Err(unfit("invalid signature")),
    }
}

fn key_fits(at: &Cursor, key: &SubjectPublicKeyInfo<'_>) -> Result<(), FieldError> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            3072 | 4096 => Ok(()),
            bits => Err(at.wrong(
                format!("{bits}-bit modulus"),
                "RSA keys must have modulus size 3072 or 4096",
            )),
        },
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
            let known = curve.is_some_and(|c| [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].contains(&c));
            match known {
                true => Ok(()),
                false => Err(at.wrong("curve", "elliptic public keys must use curve P256, P384, or P521")),
            }
        }
        _ if key.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519 => Ok(()),
        _ => Err(at.unfit("unknown public key type; supported types are Ed25519, ECDSA, and RSA")),
    }
}

fn outcome(errors: &mut Errors, check: &Check, root: &Cursor, old: &Cursor) {
    let (status, list) = (root.get("status"), root.at(&["status", "conditions"]));
    known_conditions(errors, &list);
    conditions(errors, &list);
    // what follows goes by the conditions
    if !errors.is_empty() {
        return;
    }
    let is = |of: &Cursor, kind: &str| conditions::is_true(&of.at(&["status", "conditions"]), kind);
    let before = old.get("status");
    if OUTCOMES.iter().any(|kind| is(old, kind)) {
        if status.value != before.value {
            errors.push(status.unfit("immutable after PodCertificateRequest is issued, denied, or failed"));
        }
    } else if is(root, "Denied") || is(root, "Failed") {
        let others = status
            .entries()
            .any(|(key, value)| key != "conditions" && value.is_some());
        if others {
            errors.push(
                status.unfit(
                    "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
                ),
            );
        }
    } else if is(root, "Issued") {
        if let Err(found) = issued(check, root, old) {
            errors.extend(found);
        }
    } else if status.value != before.value {
        let why = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        errors.push(status.unfit(why));
    }
}

/// At most one of the outcomes, and it is true.
fn known_conditions(errors: &mut Errors, list: &Cursor) {
    let mut seen = 0;
    for (index, condition) in list.items().enumerate() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        // upstream builds these paths so
        let at = |field: &str| format!("status.conditions.[{index}].{field}");
        let kind = kind.named(at("type"));
        if !OUTCOMES.contains(&kind.text()) {
            errors.push(kind.not_supported(&["Issued", "Denied", "Failed"]));
            continue;
        }
        seen += 1;
        if seen > 1 {
            errors
                .push(kind.invalid(r#"There may be at most one condition with type "Issued", "Denied", or "Failed""#));
        }
        if status.text() != "True" {
            errors.push(status.named(at("status")).not_supported(&["True"]));
        }
    }
}

/// A chain for the key that was asked for, and times that are those of its first certificate.
fn issued(check: &Check, root: &Cursor, old: &Cursor) -> Result<(), Vec<FieldError>> {
    let status = root.get("status");
    let chain = status.get("certificateChain");
    let one = |error: FieldError| vec![error];
    if chain.text().len() > CHAIN {
        return Err(one(FieldError::too_long(&chain.path, CHAIN)));
    }
    let blocks = pem::blocks(chain.text());
    let Some((leaf, others)) = blocks.split_first() else {
        return Err(one(
            chain.invalid("issued certificate chain must contain at least one certificate")
        ));
    };
    if leaf.label != "CERTIFICATE" {
        let why = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
        return Err(one(chain.invalid(why)));
    }
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf.contents) else {
        return Err(one(chain.invalid("leaf certificate does not parse as valid X.509")));
    };
    let mut found = alternative_names(&chain, &leaf);
    let request = decode(&old.at(&["spec", "stubPKCS10Request"]));
    let asked = X509CertificationRequest::from_der(&request);
    let Ok((_, asked)) = asked else {
        let at = old.at(&["spec", "stubPKCS10Request"]);
        found.push(at.unfit("must be a valid PKCS#10 CSR"));
        return Err(found);
    };
    if asked.certification_request_info.subject_pki.raw != leaf.public_key().raw {
        found.push(chain.invalid("leaf certificate was not issued to the requested public key"));
        return Err(found);
    }
    found.extend(times_are_there(&status));
    if !found.is_empty() {
        return Err(found);
    }
    let longest = root.at(&["spec", "maxExpirationSeconds"]).int().unwrap_or(0);
    times(&status, &chain, &leaf, longest, check.now).map_err(one)?;
    chain_fits(&chain, others).map_err(one)
}

fn alternative_names(chain: &Cursor, leaf: &X509Certificate<'_>) -> Vec<FieldError> {
    let mut found = Vec::new();
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let mut bad = |name: &str, why: &str| found.push(chain.wrong(name, why));
        match name {
            GeneralName::DNSName(name) => {
                if name.is_empty() {
                    bad(name, "leaf certificate should not contain empty DNSName");
                }
                if name.contains("..") {
                    bad(name, "leaf certificate's DNSName should not contain '..'");
                }
                if name.starts_with('.') || name.ends_with('.') {
                    bad(name, "leaf certificate's DNSName should not start or end with '.'");
                }
            }
            GeneralName::RFC822Name(mail) if !is_mail_address(mail) => {
                bad(mail, "leaf certificate should not contain invalid EmailAddress");
            }
            _ => {}
        }
    }
    found
}

/// Something, an `@`, and something, without blanks.
fn is_mail_address(text: &str) -> bool {
    let parts = text.rsplit_once('@');
    parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace))
}

fn times_are_there(status: &Cursor) -> Vec<FieldError> {
    const CONSISTENT: &str = "must be present and consistent with the issued certificate";
    let wanted = [
        ("notBefore", CONSISTENT),
        ("notAfter", CONSISTENT),
        (
            "beginRefreshAt",
            "must be present and in the range [notbefore+10min, notafter-10min]",
        ),
    ];
    let missing = wanted.into_iter().map(|(field, why)| (status.get(field), why));
    missing
        .filter(|(at, _)| !at.is_some())
        .map(|(at, why)| at.required(why))
        .collect()
}

fn seconds(at: &Cursor) -> i64 {
    Instant::parse(at.text()).map_or(i64::MIN, |time| time.seconds)
}

/// The times are those of the certificate, it begins about now, and there is time to renew it.
fn times<'a>(
    status: &Cursor<'a>,
    chain: &Cursor<'a>,
    leaf: &X509Certificate<'_>,
    longest: i64,
    now: i64,
) -> Result<(), FieldError> {
    let (begin, end, renew) = (
        status.get("notBefore"),
        status.get("notAfter"),
        status.get("beginRefreshAt"),
    );
    let (leaf_begin, leaf_end) = (
        leaf.validity().not_before.timestamp(),
        leaf.validity().not_after.timestamp(),
    );
    let lifetime = leaf_end - leaf_begin;
    let nanos = lifetime.saturating_mul(1_000_000_000);
    for (broken, at, shown, why) in [
        (
            seconds(&begin) != leaf_begin,
            &begin,
            begin.value.clone(),
            "must be set to the NotBefore time encoded in the leaf certificate".to_owned(),
        ),
        (
            leaf_begin.abs_diff(now) >= SKEW.unsigned_abs(),
            &begin,
            begin.value.clone(),
            "must be set to within 5 minutes of kube-apiserver's current time".to_owned(),
        ),
        (
            seconds(&end) != leaf_end,
            &end,
            end.value.clone(),
            "must be set to the NotAfter time encoded in the leaf certificate".to_owned(),
        ),
        (
            lifetime < HOUR,
            chain,
            json!(nanos),
            "leaf certificate lifetime must be >= 1 hour".to_owned(),
        ),
        (
            lifetime > longest,
            chain,
            json!(nanos),
            format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})"),
        ),
        (
            seconds(&renew) < leaf_begin + MARGIN,
            &renew,
            renew.value.clone(),
            "must be at least 10 minutes after status.notBefore".to_owned(),
        ),
        (
            seconds(&renew) > leaf_end - MARGIN,
            &renew,
            renew.value.clone(),
            "must be at least 10 minutes before status.notAfter".to_owned(),
        ),
    ] {
        if broken {
            return Err(at.wrong(shown, why));
        }
    }
    Ok(())
}

/// What follows the first certificate are certificates. Whether they certify each other is up to who trusts them.
fn chain_fits(chain: &Cursor, others: &[Block]) -> Result<(), FieldError> {
    for block in others {
        if block.label != "CERTIFICATE" {
            // upstream's spelling
            return Err(chain.invalid("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        if X509Certificate::from_der(&block.contents).is_err() {
            return Err(chain.invalid("intermediate certificate does not parse as valid X.509"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of `openssl req` for keys of Ed25519 and P256.
    const ED25519: &str = "MH8wMwIBADAAMCowBQYDK2VwAyEAdkf8ZAbPdbFedMvgfrWUYm50K8mibvUBjAfIGlDLuCCgADAFBgMrZXADQQD1usZXWt21Asq/I9zkzOzQG34g\
        lCHNkq2hCe1K4Oea1+aLzFIr32lhSE/f/c3RP2a1y7gotAXcBANohiqWscUO";
    const P256: &str = "MIG7MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCnmwfKKjdDKB5p6hLWze+r/50CXHh1DWv2d+SlzK1YyLud5yd6Pv/rkVIayHCRd\
        2gZGvsweq4JSo0GF8MtbHGugADAKBggqhkjOPQQDAgNJADBGAiEA9vG+bs4ZAChfNbZPUxZQkARUdbrE9OLEfP1j8ZRLO84CIQDFGjpqlOzbH1As\
        A6OkB7kVkWS1BPAja7Nkp7ve/fRWng==";
    /// A certificate for the key of `P256`, of one day from `BEGIN`.
    const LEAF: &str = "MIIBCDCBsAIUBQdRL/hF0YnAgRSc2bieFfnTAkUwCgYIKoZIzj0EAwIwDzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjkxODQ3MTNaFw0yNjExMzAx\
        ODQ3MTNaMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQp5sHyio3QygeaeoS1s3vq/+dAlx4dQ1r9nfkpcytWMi7necnej7/65FSGshwkXdoG\
        Rr7MHquCUqNBhfDLWxxrMAoGCCqGSM49BAMCA0cAMEQCIBDZhTimZ+f2H+Tgnp+XUZ4XFywWtfABrJJjj6J1EmxEAiBUblFJMXpi2UdA0DV+hg/f\
        jxizdbXxLD+BBE9Kxoh7Cg==";
    const BEGIN: i64 = 1_795_978_033;

    fn request(change: &[(&str, Value)]) -> Value {
        let mut tree = json!({ "metadata": { "name": "r", "namespace": "n" }, "spec": {
            "signerName": "example.com/signer", "podName": "p", "podUID": "1", "serviceAccountName": "s", "serviceAccountUID": "2",
            "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86400, "stubPKCS10Request": P256 } });
        for (field, value) in change {
            tree["spec"][*field] = value.clone();
        }
        tree
    }

    fn found(new: &Value, old: Option<&Value>) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource: if old.is_some() { "status" } else { "" },
            custom: None,
            now: BEGIN + 60,
        };
        validate(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_names_who_it_is_for_and_proves_its_key() {
        let mut forged = STANDARD.decode(P256).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        for (field, value, why) in [
            ("stubPKCS10Request", json!(P256), ""),
            ("stubPKCS10Request", json!(ED25519), ""),
            (
                "stubPKCS10Request",
                json!(STANDARD.encode(forged)),
                "spec.stubPKCS10Request: Invalid value: invalid signature",
            ),
            ("stubPKCS10Request", json!("aGVsbG8="), "must be a valid PKCS#10 CSR"),
            ("stubPKCS10Request", Value::Null, "exactly one of (stubPKCS10Request)"),
            (
                "maxExpirationSeconds",
                json!(3599),
                "must be in the range [3600, 7862400]",
            ),
            ("maxExpirationSeconds", json!(7_862_400), ""),
            (
                "maxExpirationSeconds",
                Value::Null,
                "spec.maxExpirationSeconds: Required value: must be set",
            ),
            (
                "podUID",
                json!(""),
                "spec.podUID: Invalid value: \"\": must not be empty",
            ),
            (
                "nodeName",
                json!("A"),
                "spec.nodeName: Invalid value: \"A\": a lowercase RFC 1123",
            ),
            (
                "unverifiedUserAnnotations",
                json!({ "plain": "x" }),
                "must be a domain-prefixed key",
            ),
            ("unverifiedUserAnnotations", json!({ "a.b/c": "x" }), ""),
            ("signerName", json!("x"), "must be a fully qualified domain"),
        ] {
            let errors = found(&request(&[(field, value.clone())]), None);
            match why {
                "" => assert!(errors.is_empty(), "{field} {value}: {errors:?}"),
                _ => assert!(
                    errors.len() == 1 && errors[0].contains(why),
                    "{field} {value}: {errors:?}"
                ),
            }
        }
        let own = [
            ("signerName", json!("kubernetes.io/x")),
            ("maxExpirationSeconds", json!(86_401)),
        ];
        assert!(found(&request(&own), None)[0].contains("[3600, 86400]"));
    }

    fn with_status(status: Value) -> Value {
        let mut tree = request(&[]);
        tree["status"] = status;
        tree
    }

    fn condition(kind: &str) -> Value {
        json!({ "type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-11-29T18:47:13Z" })
    }

    #[test]
    fn what_is_issued_is_for_the_key_and_its_times_are_told() {
        let old = request(&[]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{LEAF}\n-----END CERTIFICATE-----\n");
        let whole = json!({ "conditions": [condition("Issued")], "certificateChain": pem, "notBefore": "2026-11-29T18:47:13Z",
            "notAfter": "2026-11-30T18:47:13Z", "beginRefreshAt": "2026-11-30T06:00:00Z" });
        assert_eq!(found(&with_status(whole.clone()), Some(&old)), [""; 0]);
        for (field, value, why) in [
            ("certificateChain", json!("x"), "must contain at least one certificate"),
            ("notBefore", Value::Null, "status.notBefore: Required value"),
            (
                "notAfter",
                json!("2026-11-30T18:47:14Z"),
                "must be set to the NotAfter time",
            ),
            (
                "beginRefreshAt",
                json!("2026-11-29T18:50:00Z"),
                "at least 10 minutes after status.notBefore",
            ),
            (
                "beginRefreshAt",
                json!("2026-11-30T18:40:00Z"),
                "at least 10 minutes before status.notAfter",
            ),
            (
                "conditions",
                json!([condition("Denied")]),
                "non-condition status fields must be empty",
            ),
            (
                "conditions",
                json!([condition("Other")]),
                "status.conditions.[0].type: Unsupported value",
            ),
            ("conditions", json!([]), "status is immutable unless transitioning"),
        ] {
            let mut status = whole.clone();
            status[field] = value;
            let errors = found(&with_status(status), Some(&old));
            assert!(errors.len() == 1 && errors[0].contains(why), "{field}: {errors:?}");
        }
        let other = {
            let mut tree = with_status(whole.clone());
            tree["spec"]["stubPKCS10Request"] = json!(ED25519);
            tree
        };
        let errors = found(&other, Some(&request(&[("stubPKCS10Request", json!(ED25519))])));
        assert!(
            errors[0].contains("not issued to the requested public key"),
            "{errors:?}"
        );
    }

    #[test]
    fn an_outcome_stays() {
        let denied = with_status(json!({ "conditions": [condition("Denied")] }));
        assert!(found(&denied, Some(&denied)).is_empty());
        let errors = found(
            &with_status(json!({ "conditions": [condition("Failed")] })),
            Some(&denied),
        );
        assert!(
            errors[0].contains("immutable after PodCertificateRequest is issued"),
            "{errors:?}"
        );
    }
}
