//! `server/token`: the secret of this cluster, in k3s's form: with the digest of the authority that whoever uses it can check.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::ServerError;

/// Keeps the secret of the first start; a `--token` that is another one is refused.
pub fn ensure(server_dir: &Path, authority: &str, given: Option<&str>) -> Result<(), ServerError> {
    let path = server_dir.join("token");
    let at = |source| ServerError::File {
        path: path.clone(),
        source,
    };
    let refused = |why: &str| ServerError::Flag {
        flag: "token",
        value: "***".into(),
        why: why.into(),
    };
    // what is given may be the whole or its last part
    let given = given.map(|token| token.rsplit("::server:").next().unwrap_or(token));
    if given.is_some_and(|secret| secret.is_empty() || secret.contains(char::is_whitespace)) {
        return Err(refused("a token is a word"));
    }
    match std::fs::read_to_string(&path) {
        Ok(kept) => {
            let kept = kept.trim_end().rsplit("::server:").next().unwrap_or_default();
            return match given {
                Some(secret) if secret != kept => {
                    Err(refused("is not the token that this data directory was begun with"))
                }
                _ => Ok(()),
            };
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        Err(_) => {}
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let secret = match given {
        Some(secret) => secret.to_owned(),
        None => {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|e| at(std::io::Error::other(e.to_string())))?;
            hex(&random)
        }
    };
    let digest = hex(&Sha256::digest(authority.as_bytes()));
    pki::write_file(&path, format!("K10{digest}::server:{secret}\n").as_bytes(), 0o600)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_is_kept_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), "authority", Some("secret")).unwrap();
        let text = std::fs::read_to_string(dir.path().join("token")).unwrap();
        assert!(text.starts_with("K10") && text.ends_with("::server:secret\n"), "{text}");
        ensure(dir.path(), "authority", None).unwrap();
        ensure(dir.path(), "authority", Some(text.trim())).unwrap();
        assert!(ensure(dir.path(), "authority", Some("other")).is_err());
        assert!(ensure(dir.path(), "authority", Some("two words")).is_err());
        assert_eq!(std::fs::read_to_string(dir.path().join("token")).unwrap(), text);
    }
}
