//! The secrets of this cluster and their files, in k3s's form and places: `server/token`, `server/agent-token`, and `server/node-token`,
//! which leads to the first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::authentication::bootstrap_token::same;
use arc_swap::ArcSwap;

use super::ServerError;
use crate::join::token::{self, Credentials, JoinToken, hex};
use crate::join::{AGENT_USER, SERVER_USER};

/// What a token lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Agent,
    Server,
}

/// The secrets in force.
pub struct Tokens {
    dir: PathBuf,
    authority: String,
    kept: ArcSwap<Kept>,
}

struct Kept {
    server: String,
    /// Where agents have one of their own.
    agent: Option<String>,
}

impl Tokens {
    /// Keeps the server's secret of the first start; another one in its place is refused. Agents' own secret is the one given now.
    ///
    /// # Errors
    /// For what is no token, and files that cannot be read or written.
    pub fn ensure(
        server_dir: &Path,
        authority: &str,
        server: Option<&str>,
        agent: Option<&str>,
    ) -> Result<Arc<Tokens>, ServerError> {
        let path = server_dir.join("token");
        let given = server.map(|text| secret_of("token", text)).transpose()?;
        let agent = agent.map(|text| secret_of("agent-token", text)).transpose()?;
        let kept = match std::fs::read_to_string(&path) {
            Ok(text) => Some(secret_of("token", text.trim_end())?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(ServerError::File { path, source }),
        };
        let server = match (kept, given) {
            (Some(kept), Some(given)) if kept != given => {
                return Err(refused(
                    "token",
                    "is not the token that this data directory was begun with; skiff token rotate changes it",
                ));
            }
            (Some(kept), _) => kept,
            (None, Some(given)) => given,
            (None, None) => random(&path)?,
        };
        let tokens = Tokens {
            dir: server_dir.to_owned(),
            authority: authority.to_owned(),
            kept: ArcSwap::from_pointee(Kept { server, agent }),
        };
        tokens.write()?;
        Ok(Arc::new(tokens))
    }

    /// What the holder of a secret may do.
    pub fn role(&self, user: &str, secret: &str) -> Option<Role> {
        let kept = self.kept.load();
        let agent = kept.agent.as_ref().unwrap_or(&kept.server);
        match user {
            AGENT_USER if same(secret.as_bytes(), agent.as_bytes()) => Some(Role::Agent),
            SERVER_USER if same(secret.as_bytes(), kept.server.as_bytes()) => Some(Role::Server),
            _ => None,
        }
    }

    /// Puts another secret in the place of the server's; a random one unless it is given.
    ///
    /// # Errors
    /// For what is no token, and files that cannot be written: the old one then stays.
    pub fn rotate(&self, new: Option<&str>) -> Result<(), ServerError> {
        let server = match new {
            Some(text) => secret_of("new-token", text)?,
            None => random(&self.dir)?,
        };
        let old = self.kept.load_full();
        let agent = old.agent.clone();
        self.kept.store(Arc::new(Kept { server, agent }));
        if let Err(error) = self.write() {
            self.kept.store(old);
            return Err(error);
        }
        Ok(())
    }

    fn write(&self) -> Result<(), ServerError> {
        let kept = self.kept.load();
        let text = |user: &str, secret: &str| {
            let credentials = Credentials::Password {
                user: user.into(),
                secret: secret.into(),
            };
            format!("{}\n", token::whole(&self.authority, &credentials))
        };
        let of_server = text(SERVER_USER, &kept.server);
        pki::write_file(&self.dir.join("token"), of_server.as_bytes(), 0o600)?;
        let of_agents = self.dir.join("agent-token");
        match &kept.agent {
            Some(secret) => {
                if of_agents.is_symlink() {
                    self.remove(&of_agents)?;
                }
                pki::write_file(&of_agents, text(AGENT_USER, secret).as_bytes(), 0o600)?;
            }
            None => self.lead(&of_agents)?,
        }
        self.lead(&self.dir.join("node-token"))
    }

    /// Makes a link to the server's token.
    fn lead(&self, link: &Path) -> Result<(), ServerError> {
        if std::fs::read_link(link).is_ok_and(|to| to == Path::new("token")) {
            return Ok(());
        }
        if std::fs::symlink_metadata(link).is_ok() {
            self.remove(link)?;
        }
        match std::os::unix::fs::symlink("token", link) {
            Err(source) if source.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(path = %link.display(), "the disk is full");
                Ok(())
            }
            Err(source) => Err(ServerError::File {
                path: link.to_owned(),
                source,
            }),
            Ok(()) => Ok(()),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), ServerError> {
        std::fs::remove_file(path).map_err(|source| ServerError::File {
            path: path.to_owned(),
            source,
        })
    }
}

fn refused(flag: &'static str, why: &str) -> ServerError {
    ServerError::Flag {
        flag,
        value: "***".into(),
        why: why.into(),
    }
}

/// The secret of a token, which may be a whole one or the secret alone.
fn secret_of(flag: &'static str, text: &str) -> Result<String, ServerError> {
    if text.contains(char::is_whitespace) {
        return Err(refused(flag, "a token is a word"));
    }
    let token: JoinToken = text.parse().map_err(|e| refused(flag, &format!("{e}")))?;
    match token.credentials {
        Credentials::Password { secret, .. } => Ok(secret),
        Credentials::Bootstrap { .. } => Err(refused(
            flag,
            "has the form of a bootstrap token, which skiff token create makes",
        )),
    }
}

fn random(path: &Path) -> Result<String, ServerError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| ServerError::File {
        path: path.to_owned(),
        source: std::io::Error::other(e.to_string()),
    })?;
    Ok(hex(&bytes))
}

/// The token of a flag or of a file, which wins.
///
/// # Errors
/// When the file cannot be read.
pub fn given(value: Option<&String>, file: Option<&PathBuf>) -> std::io::Result<Option<String>> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .map(|text| Some(text.trim().to_owned()))
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        None => Ok(value.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dir: &Path, name: &str) -> String {
        std::fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn the_first_token_is_kept_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let ensure = |server: Option<&str>| Tokens::ensure(dir, "authority", server, None);
        let tokens = ensure(Some("secret")).unwrap();
        let first = text(dir, "token");
        assert!(
            first.starts_with("K10") && first.ends_with("::server:secret\n"),
            "{first}"
        );
        assert_eq!(
            (text(dir, "node-token"), text(dir, "agent-token")),
            (first.clone(), first.clone())
        );
        assert_eq!(tokens.role("node", "secret"), Some(Role::Agent));
        assert_eq!(tokens.role("server", "secret"), Some(Role::Server));
        assert_eq!((tokens.role("node", "secreT"), tokens.role("", "secret")), (None, None));
        ensure(None).unwrap();
        ensure(Some(first.trim())).unwrap();
        for wrong in ["other", "two words", "abcdef.0123456789abcdef", ""] {
            assert!(ensure(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(text(dir, "token"), first);
    }

    #[test]
    fn agents_may_have_a_token_of_their_own_and_the_servers_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let tokens = Tokens::ensure(dir, "authority", Some("s"), Some("a")).unwrap();
        assert!(text(dir, "agent-token").ends_with("::node:a\n"));
        assert_eq!(
            (tokens.role("node", "s"), tokens.role("node", "a")),
            (None, Some(Role::Agent))
        );
        tokens.rotate(Some("new")).unwrap();
        assert_eq!(
            (tokens.role("server", "s"), tokens.role("server", "new")),
            (None, Some(Role::Server))
        );
        assert_eq!(tokens.role("node", "a"), Some(Role::Agent));
        // without the flag agents have the server's again
        let tokens = Tokens::ensure(dir, "authority", Some("new"), None).unwrap();
        assert_eq!(tokens.role("node", "new"), Some(Role::Agent));
        assert_eq!(text(dir, "agent-token"), text(dir, "token"));
        tokens.rotate(None).unwrap();
        assert_eq!(tokens.role("node", "new"), None);
        assert!(tokens.rotate(Some("two words")).is_err());
    }
}
