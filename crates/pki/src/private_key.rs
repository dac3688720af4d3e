//! Private keys and certificates as PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The curve that all our keys are on: prime256v1.
const CURVE: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Bytes of a private number, and of a point without compression.
const NUMBER: usize = 32;
const POINT: usize = 65;

/// A PKCS #8 key as PEM.
pub fn private_key_pem(der: &[u8]) -> String {
    pem("PRIVATE KEY", der)
}

/// A certificate as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

/// A PKCS #8 key on P-256 in the form of RFC 5915, which is what kubeadm writes and what clients look for that cannot read the
/// other; `None` for other keys.
pub fn ec_private_key_pem(pkcs8: &[u8], public: &[u8]) -> Option<String> {
    // version 1, then the number as 32 octets
    const BEGIN: [u8; 5] = [0x02, 0x01, 0x01, 0x04, NUMBER as u8];
    let at = pkcs8.windows(BEGIN.len()).position(|bytes| bytes == BEGIN)? + BEGIN.len();
    let number = pkcs8.get(at..at + NUMBER)?;
    if !pkcs8.windows(CURVE.len()).any(|bytes| bytes == CURVE) || public.len() != POINT {
        return None;
    }
    let mut key = BEGIN.to_vec();
    key.extend_from_slice(number);
    key.extend_from_slice(&[0xa0, CURVE.len() as u8]);
    key.extend_from_slice(&CURVE);
    key.extend_from_slice(&[0xa1, POINT as u8 + 3, 0x03, POINT as u8 + 1, 0]);
    key.extend_from_slice(public);
    let mut der = vec![0x30, u8::try_from(key.len()).ok()?];
    der.extend(key);
    Some(pem("EC PRIVATE KEY", &der))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PublicKeyData};
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn a_key_is_the_same_in_both_forms() {
        let pair = KeyPair::generate().unwrap();
        let pem = ec_private_key_pem(&pair.serialize_der(), pair.der_bytes()).unwrap();
        assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        let read = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let PrivateKeyDer::Sec1(sec1) = &read else {
            panic!("{pem}")
        };
        let der = sec1.secret_sec1_der();
        assert_eq!((der[0], usize::from(der[1])), (0x30, der.len() - 2));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&read).unwrap();
        let public = key.public_key().unwrap();
        assert!(public.ends_with(pair.der_bytes()));
    }

    #[test]
    fn what_is_not_on_the_curve_is_not_written_as_if() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(ec_private_key_pem(&pair.serialize_der(), pair.der_bytes()), None);
    }
}
