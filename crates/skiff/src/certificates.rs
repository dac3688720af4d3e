//! The cluster's certificates and keys below `<data-dir>/server/tls`, in k3s's layout.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::{Authority, Identity, PkiError, Usage};
use time::OffsetDateTime;

/// What the API server needs of the files.
pub struct Certificates {
    dir: PathBuf,
    pub server_authority: Arc<Authority>,
    pub client_authority: Arc<Authority>,
    /// Vouches for proxies that name users in headers.
    pub request_header_authority: Authority,
    names: Vec<String>,
}

const SERVING: &str = "serving-kube-apiserver";
const ADMIN: &str = "client-admin";
const TO_KUBELETS: &str = "client-kube-apiserver";
const FRONT_PROXY: &str = "client-auth-proxy";
/// The name by which extension servers know this one.
pub const FRONT_PROXY_NAME: &str = "system:auth-proxy";
/// Components that may run as programs of their own: the file and the user.
const COMPONENTS: [(&str, &str, &str); 3] = [
    ("client-scheduler", "system:kube-scheduler", "scheduler"),
    ("client-controller", "system:kube-controller-manager", "controller"),
    ("client-kube-proxy", "system:kube-proxy", "kube-proxy"),
];

impl Certificates {
    /// Makes what is missing. `names` are the names and addresses that the server is reached by.
    pub fn prepare(dir: &Path, names: Vec<String>, now: OffsetDateTime) -> Result<Certificates, PkiError> {
        let certificates = Certificates {
            dir: dir.to_owned(),
            server_authority: Arc::new(Authority::load_or_create(dir, "server-ca", now)?),
            client_authority: Arc::new(Authority::load_or_create(dir, "client-ca", now)?),
            request_header_authority: Authority::load_or_create(dir, "request-header-ca", now)?,
            names,
        };
        if let Err(error) = certificates.renew(now) {
            // what is there is good enough for a start, unless a piece of it is missing
            certificates.if_all_there(error)?;
        }
        Ok(certificates)
    }

    /// A full disk only means that nothing is renewed; other errors, and missing files, are errors.
    fn if_all_there(&self, error: PkiError) -> Result<(), PkiError> {
        let names = COMPONENTS.map(|(file, _, _)| file);
        let all = [SERVING, ADMIN, TO_KUBELETS, FRONT_PROXY].into_iter().chain(names);
        if !error.is_full_disk() || !all.into_iter().all(|name| self.pair(name).is_ok()) {
            return Err(error);
        }
        tracing::warn!(%error, "certificates cannot be renewed: the disk is full");
        Ok(())
    }

    /// Issues again what is due. Says whether the serving certificate is new.
    pub fn renew(&self, now: OffsetDateTime) -> Result<bool, PkiError> {
        let client =
            |name: &str, who: &Identity<'_>| self.client_authority.ensure(&self.dir, name, who, &Usage::Client, now);
        client(
            ADMIN,
            &Identity {
                common_name: "system:admin",
                organizations: &["system:masters"],
            },
        )?;
        client(
            TO_KUBELETS,
            &Identity {
                common_name: "system:apiserver",
                organizations: &["system:masters"],
            },
        )?;
        for (file, common_name, _) in COMPONENTS {
            let organizations = &[];
            client(
                file,
                &Identity {
                    common_name,
                    organizations,
                },
            )?;
        }
        let proxy = Identity {
            common_name: FRONT_PROXY_NAME,
            organizations: &[],
        };
        self.request_header_authority
            .ensure(&self.dir, FRONT_PROXY, &proxy, &Usage::Client, now)?;
        let who = Identity {
            common_name: "kube-apiserver",
            organizations: &[],
        };
        self.server_authority
            .ensure(&self.dir, SERVING, &who, &Usage::Server(self.names.clone()), now)
    }

    fn pair(&self, name: &str) -> Result<(String, String), PkiError> {
        pair(&self.dir, name)
    }

    /// The API server's serving certificate and key, as PEM.
    pub fn serving(&self) -> Result<(String, String), PkiError> {
        self.pair(SERVING)
    }

    /// A serving certificate and key in `dir`, made or renewed if need be.
    pub fn ensure_serving(
        &self,
        dir: &Path,
        name: &str,
        who: &Identity<'_>,
        names: Vec<String>,
    ) -> Result<(String, String), PkiError> {
        let now = OffsetDateTime::now_utc();
        let made = self.server_authority.ensure(dir, name, who, &Usage::Server(names), now);
        match (made, pair(dir, name)) {
            (Err(error), Ok(kept)) if error.is_full_disk() => {
                tracing::warn!(%error, "the certificate cannot be renewed: the disk is full");
                Ok(kept)
            }
            (made, pair) => made.and(pair),
        }
    }

    /// What the API server shows kubelets.
    pub fn to_kubelets(&self) -> Result<(String, String), PkiError> {
        self.pair(TO_KUBELETS)
    }

    /// What the API server shows extension servers.
    pub fn front_proxy(&self) -> Result<(String, String), PkiError> {
        self.pair(FRONT_PROXY)
    }

    /// Writes the kubeconfigs with which components run as programs of their own.
    pub fn write_kubeconfigs(&self, dir: &Path, server: &str) -> Result<(), PkiError> {
        for (file, _, name) in COMPONENTS {
            let text = self.kubeconfig(file, server)?;
            pki::write_file(&dir.join(format!("{name}.kubeconfig")), text.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self, server: &str) -> Result<String, PkiError> {
        self.kubeconfig(ADMIN, server)
    }

    fn kubeconfig(&self, name: &str, server: &str) -> Result<String, PkiError> {
        let (certificate, key) = self.pair(name)?;
        Ok(pki::kubeconfig(
            "default",
            server,
            self.server_authority.certificate(),
            &certificate,
            &key,
        ))
    }
}

fn pair(dir: &Path, name: &str) -> Result<(String, String), PkiError> {
    let read = |suffix: &str| {
        let path = dir.join(format!("{name}.{suffix}"));
        std::fs::read_to_string(&path).map_err(|source| PkiError::File { path, source })
    };
    Ok((read("crt")?, read("key")?))
}
