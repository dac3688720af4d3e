//! A new key and a PKCS #10 request that proves that its maker holds it and says nothing else: what a PodCertificateRequest
//! carries. KEP-4317.

use std::str::FromStr;

use p521::ecdsa::signature::{Signer, Verifier};
use p521::elliptic_curve::Generate;
use p521::pkcs8::{DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rsa::PrivateKey;
use rsa::pkcs1v15;
use rsa::sha2::digest::common::getrandom::SysRng;
use rsa::signature::SignatureEncoding;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA512};

use crate::{PkiError, private_key_pem};

/// The types of keys that a pod may ask for, by Kubernetes' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// RSA with 3072 bits; signs with SHA-256.
    Rsa3072,
    /// RSA with 4096 bits; signs with SHA-256.
    Rsa4096,
    /// ECDSA on the curve P-256, with SHA-256.
    EcdsaP256,
    /// ECDSA on the curve P-384, with SHA-384.
    EcdsaP384,
    /// ECDSA on the curve P-521, with SHA-512.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
}

impl FromStr for KeyType {
    type Err = PkiError;

    fn from_str(name: &str) -> Result<KeyType, PkiError> {
        Ok(match name {
            "RSA3072" => KeyType::Rsa3072,
            "RSA4096" => KeyType::Rsa4096,
            "ECDSAP256" => KeyType::EcdsaP256,
            "ECDSAP384" => KeyType::EcdsaP384,
            "ECDSAP521" => KeyType::EcdsaP521,
            "ED25519" => KeyType::Ed25519,
            other => return Err(PkiError::KeyType(other.to_owned())),
        })
    }
}

/// A key of its own and the request for a certificate of it.
#[derive(Debug)]
pub struct StubRequest {
    /// PKCS #8, as PEM.
    pub key: String,
    /// The PKCS #10 request, as DER.
    pub der: Vec<u8>,
}

/// `SEQUENCE { OID }`, with a NULL where the algorithm has parameters.
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x30, 0x0a, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const ECDSA_SHA512: &[u8] = &[0x30, 0x0a, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 3, 0x2b, 0x65, 0x70];
const RSA_SHA256: &[u8] = &[
    0x30, 0x0d, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0,
];

impl StubRequest {
    /// Makes a key of a type; one for RSA takes seconds.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn make(of: KeyType) -> Result<StubRequest, PkiError> {
        match of {
            KeyType::EcdsaP256 => of_ring(&rcgen::PKCS_ECDSA_P256_SHA256, ECDSA_SHA256),
            KeyType::EcdsaP384 => of_ring(&rcgen::PKCS_ECDSA_P384_SHA384, ECDSA_SHA384),
            KeyType::Ed25519 => of_ring(&rcgen::PKCS_ED25519, ED25519),
            // ring makes none of these
            KeyType::EcdsaP521 => {
                let key = p521::SecretKey::try_generate().map_err(made)?;
                let signer = p521::ecdsa::SigningKey::from(&key);
                let public = key.public_key().to_public_key_der().map_err(made)?;
                let private = key.to_pkcs8_der().map_err(made)?;
                request(public.as_bytes(), ECDSA_SHA512, private.as_bytes(), |message| {
                    let signature: p521::ecdsa::DerSignature = signer.try_sign(message).map_err(made)?;
                    Ok(signature.as_bytes().to_vec())
                })
            }
            KeyType::Rsa3072 => of_rsa(3072),
            KeyType::Rsa4096 => of_rsa(4096),
        }
    }
}

fn made(error: impl std::fmt::Display) -> PkiError {
    PkiError::Key(error.to_string())
}

fn of_ring(algorithm: &'static SignatureAlgorithm, identifier: &[u8]) -> Result<StubRequest, PkiError> {
    let pair = KeyPair::generate_for(algorithm)?;
    let public = pair.subject_public_key_info();
    request(&public, identifier, pair.serialized_der(), |message| {
        Ok(pair.sign(message)?)
    })
}

fn of_rsa(bits: usize) -> Result<StubRequest, PkiError> {
    let key = PrivateKey::new(&mut SysRng, bits).map_err(made)?;
    let public = key.to_public_key().to_public_key_der().map_err(made)?;
    let private = key.to_pkcs8_der().map_err(made)?;
    let signer = pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key);
    request(public.as_bytes(), RSA_SHA256, private.as_bytes(), |message| {
        Ok(signer.try_sign(message).map_err(made)?.to_vec())
    })
}

fn request(
    public: &[u8],
    algorithm: &[u8],
    private: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, PkiError>,
) -> Result<StubRequest, PkiError> {
    // version 0, no names, the key, no attributes
    let info = der(0x30, &[&[0x02, 1, 0], &[0x30, 0], public, &[0xa0, 0]]);
    let signature = der(0x03, &[&[0], &sign(&info)?]);
    Ok(StubRequest {
        key: private_key_pem(private),
        der: der(0x30, &[&info, algorithm, &signature]),
    })
}

/// A value of ASN.1: its tag, its length and its parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let bytes = content.len().to_be_bytes();
    let length: Vec<u8> = bytes.into_iter().skip_while(|b| *b == 0).collect();
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        _ => {
            // a length has at most eight bytes
            out.push(0x80 | length.len() as u8);
            out.extend(length);
        }
    }
    out.extend(content);
    out
}

/// Whether a request is signed by the key that it is for.
pub fn has_proof(request: &X509CertificationRequest<'_>) -> bool {
    let info = &request.certification_request_info;
    let key = &info.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    if curve != Some(OID_NIST_EC_P521) {
        return request.verify_signature().is_ok();
    }
    // ring has no P-521
    if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA512 {
        return false;
    }
    let verifier = p521::ecdsa::VerifyingKey::from_public_key_der(key.raw);
    let signature = p521::ecdsa::DerSignature::from_bytes(&request.signature_value.data);
    match (verifier, signature) {
        (Ok(verifier), Ok(signature)) => verifier.verify(info.raw, &signature).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn requests_of_every_type_of_key_prove_that_they_hold_it() {
        // RSA4096 differs from RSA3072 in a number, and takes long
        for name in ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"] {
            let made = StubRequest::make(name.parse().unwrap()).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&made.der).unwrap();
            assert!(rest.is_empty(), "{name}");
            assert!(
                request.certification_request_info.subject.as_raw() == [0x30, 0],
                "{name}"
            );
            assert!(has_proof(&request), "{name}");
            let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
            assert!(matches!(key, PrivateKeyDer::Pkcs8(_)), "{name}");
            let mut other = made.der.clone();
            let last = other.len() - 1;
            other[last] ^= 1;
            let (_, request) = X509CertificationRequest::from_der(&other).unwrap();
            assert!(!has_proof(&request), "{name}");
        }
        assert!("RSA2048".parse::<KeyType>().is_err());
    }
}
