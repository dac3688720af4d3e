//! ClusterTrustBundle. KEP-3257.

use std::collections::BTreeMap;

use api::field::FieldError;
use api::names;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::kinds::certificates::pem::{self, Block};
use crate::kinds::certificates::signer::signer_name;
use crate::kinds::columns::{BuiltinColumn, NAME, or};
use crate::kinds::rules::immutable;
use crate::kinds::{Again, Asked, Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    unconditional_update: false,
    // it depends on the signer: `validate` looks at it
    name: |_| Vec::new(),
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    ..Kind::plain("certificates.k8s.io", "clustertrustbundles", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("SignerName", "string", 0, |b| or(b, "/spec/signerName", "<none>")),
];

/// Bytes of PEM blocks.
const SIZE: usize = 1 << 20;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (signer, bundle) = (root.at(&["spec", "signerName"]), root.at(&["spec", "trustBundle"]));
    for (field, prefix) in [("generateName", true), ("name", false)] {
        let at = root.at(&["metadata", field]);
        if !at.text().is_empty() {
            let problems = name_problems(at.text(), signer.text(), prefix).into_iter();
            errors.extend(problems.map(|why| at.invalid(why)));
        }
    }
    if !signer.text().is_empty() {
        signer_name(&mut errors, &signer);
    }
    let before = check.before().map(|old| old.get("spec"));
    let was = before.as_ref().map(|spec| spec.get("trustBundle"));
    if was.is_none_or(|was| was.text() != bundle.text()) {
        trust_anchors(&mut errors, &bundle);
    }
    if let Some(before) = before {
        immutable(&mut errors, &signer, &before.get("signerName"));
    }
    errors
}

/// What is wrong with the name that somebody calls a bundle by.
pub fn reference_problems(name: &str) -> Vec<String> {
    let signer = name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/"));
    name_problems(name, &signer.unwrap_or_default(), false)
}

/// A bundle of a signer bears its name, with `:` in place of `/`, before its own.
fn name_problems(name: &str, signer: &str, is_prefix: bool) -> Vec<String> {
    // what is still to be appended to a prefix makes its last character fine
    let completed = |name: &str| if is_prefix { format!("{name}a") } else { name.to_owned() };
    if signer.is_empty() {
        match name.contains(':') {
            true => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()],
            false => names::dns1123_subdomain_errors(&completed(name)),
        }
    } else {
        let prefix = format!("{}:", signer.replace('/', ":"));
        match name.strip_prefix(&prefix) {
            None => vec![format!(
                "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            )],
            Some(own) => names::dns1123_subdomain_errors(&completed(own)),
        }
    }
}

/// Certificates of authorities in PEM, at least one, none twice, without headers.
fn trust_anchors(errors: &mut Errors, at: &Cursor) {
    const SHOWN: &str = "<value omitted>";
    if at.text().len() > SIZE {
        errors.push(FieldError::too_long(&at.path, SIZE));
        return;
    }
    let mut anchors: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut bad = Vec::new();
    for (index, block) in pem::blocks(at.text()).into_iter().enumerate() {
        match unfit(&block) {
            Some(why) => bad.push(at.wrong(SHOWN, format!("entry {index} {why}"))),
            None => anchors.entry(block.contents).or_default().push(index.to_string()),
        }
    }
    // what is missing or there twice may be so because of a block that is not right
    if !bad.is_empty() {
        errors.extend(bad);
        return;
    }
    if anchors.is_empty() {
        errors.push(at.wrong(SHOWN, "at least one trust anchor must be provided"));
    }
    for indices in anchors.values().filter(|indices| indices.len() > 1) {
        let why = format!("duplicate trust anchor (indices [{}])", indices.join(" "));
        errors.push(at.wrong(SHOWN, why));
    }
}

/// Why a block is no certificate of an authority.
fn unfit(block: &Block) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".into());
    }
    let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else {
        return Some("does not parse as X.509".into());
    };
    let authority = certificate.basic_constraints().ok().flatten();
    (!authority.is_some_and(|c| c.value.ca)).then(|| "does not have the CA bit set".into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Of an authority.
    const ANCHOR: &str = "MIIBdTCCARugAwIBAgIUFXVFEdZafKi4IZ9XZT0mwCgllEQwCgYIKoZIzj0EAwIwDzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkxODQ3MDdaGA8y\
        MTI2MTEwNTE4NDcwN1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIMj6ZlRr4KUJq28Ggy8A/94NST3wvqhziig\
        sEMA47OZcKe82R3eyGSOgP+0zwSE6BAqUfevt0LJ5VUUY+5Sam6jUzBRMB0GA1UdDgQWBBTA/5acmtIVHVIF/o1HZrZxyi4SADAfBgNVHSMEGDAW\
        gBTA/5acmtIVHVIF/o1HZrZxyi4SADAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCg5B1qOBoc4/mcKn4CuhZFXKhe43g2hpOb\
        aUdT3WllEQIga2AW+CgSfWbNpeyWKbXNzpDQlW9+InUD6KnGqINJTms=";

    fn anchor() -> String {
        format!("-----BEGIN CERTIFICATE-----\n{ANCHOR}\n-----END CERTIFICATE-----\n")
    }

    fn found(new: &Value, old: Option<&Value>) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource: "",
            custom: None,
            now: 0,
        };
        validate(&check).iter().map(ToString::to_string).collect()
    }

    fn bundle(name: &str, signer: &str, pem: &str) -> Value {
        json!({ "metadata": { "name": name }, "spec": { "signerName": signer, "trustBundle": pem } })
    }

    #[test]
    fn a_bundle_of_a_signer_bears_its_name() {
        let pem = anchor();
        for (name, signer, why) in [
            ("plain", "", ""),
            (
                "a:b",
                "",
                "ClusterTrustBundle without signer name must not have \":\" in its name",
            ),
            ("example.com:s:own", "example.com/s", ""),
            ("own", "example.com/s", "must be named with prefix example.com:s:"),
            ("example.com:s:", "example.com/s", "RFC 1123"),
            ("plain", "nothing", "must be named with prefix nothing:"),
        ] {
            let errors = found(&bundle(name, signer, &pem), None);
            match why {
                "" => assert!(errors.is_empty(), "{name}: {errors:?}"),
                _ => assert!(errors[0].contains(why), "{name}: {errors:?}"),
            }
        }
    }

    #[test]
    fn a_bundle_has_certificates_of_authorities_each_once() {
        let pem = anchor();
        let other = "-----BEGIN KEY-----\naGVsbG8=\n-----END KEY-----\n";
        for (text, why) in [
            (pem.clone(), ""),
            (String::new(), "at least one trust anchor must be provided"),
            (format!("{pem}{pem}"), "duplicate trust anchor (indices [0 1])"),
            (format!("{pem}{other}"), "entry 1 has bad block type: KEY"),
            (other.replace("KEY", "CERTIFICATE"), "entry 0 does not parse as X.509"),
            (pem.replacen("\n", "\nk: v\n\n", 1), "entry 0 has PEM block headers"),
        ] {
            let errors = found(&bundle("b", "", &text), None);
            match why {
                "" => assert!(errors.is_empty(), "{errors:?}"),
                _ => assert!(errors.len() == 1 && errors[0].contains(why), "{why}: {errors:?}"),
            }
        }
        // what was taken once is not read again
        let old = bundle("b", "", "nonsense");
        assert!(found(&old, Some(&old)).is_empty());
    }
}
