//! The cluster's certificates and keys below `<data-dir>/server/tls`, in k3s's layout.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::{Authority, Identity, PkiError, Usage};
use time::{Duration, OffsetDateTime};

use pki::renewal;

/// What the API server needs of the files.
pub struct Certificates {
    dir: PathBuf,
    pub server_authority: Arc<Authority>,
    pub client_authority: Arc<Authority>,
    /// Vouches for proxies that name users in headers.
    pub request_header_authority: Authority,
    names: Vec<String>,
    /// Of what they sign from now on.
    pub lifetime: Duration,
}

const SERVING: &str = "serving-kube-apiserver";
const ADMIN: &str = "client-admin";
const TO_KUBELETS: &str = "client-kube-apiserver";
const FRONT_PROXY: &str = "client-auth-proxy";
/// The name by which extension servers know this one.
pub const FRONT_PROXY_NAME: &str = "system:auth-proxy";
/// What this server shows to those it asks, and to who asks it.
const OWN: [&str; 4] = [SERVING, ADMIN, TO_KUBELETS, FRONT_PROXY];
/// Components that may run as programs of their own: the file and the user.
const COMPONENTS: [(&str, &str, &str); 3] = [
    ("client-scheduler", "system:kube-scheduler", "scheduler"),
    ("client-controller", "system:kube-controller-manager", "controller"),
    ("client-kube-proxy", "system:kube-proxy", "kube-proxy"),
];

impl Certificates {
    /// Makes what is missing, valid for `lifetime`. `names` are the names and addresses that the server is reached by.
    pub fn prepare(
        dir: &Path,
        names: Vec<String>,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Certificates, PkiError> {
        let certificates = Certificates {
            dir: dir.to_owned(),
            server_authority: Arc::new(Authority::load_or_create(dir, "server-ca", now)?),
            client_authority: Arc::new(Authority::load_or_create(dir, "client-ca", now)?),
            request_header_authority: Authority::load_or_create(dir, "request-header-ca", now)?,
            names,
            lifetime,
        };
        if let Err(error) = certificates.renew(now) {
            // what is there is good enough for a start, unless a piece of it is missing
            certificates.if_all_there(error)?;
        }
        Ok(certificates)
    }

    /// A full disk only means that nothing is renewed; other errors, and missing files, are errors.
    fn if_all_there(&self, error: PkiError) -> Result<(), PkiError> {
        if !error.is_full_disk() || !names().all(|name| self.pair(name).is_ok()) {
            return Err(error);
        }
        tracing::warn!(%error, "certificates cannot be renewed: the disk is full");
        Ok(())
    }

    /// When the first of them is to be renewed; at once if it cannot be told. `chance` is of 0 to 1.
    pub fn due(&self, chance: f64) -> OffsetDateTime {
        renewal::first(names().map(|name| self.pair(name).and_then(|(pem, _)| pki::renewal_time(&pem, chance))))
    }

    /// Issues again what is due. Says whether there was anything.
    pub fn renew(&self, now: OffsetDateTime) -> Result<bool, PkiError> {
        let (client, server, header) = (
            &self.client_authority,
            &self.server_authority,
            &self.request_header_authority,
        );
        let names = Usage::Server(self.names.clone());
        let clients = COMPONENTS.map(|(file, user, _)| (file, user, &[][..]));
        let all = [
            (
                &**client,
                ADMIN,
                "system:admin",
                &["system:masters"][..],
                &Usage::Client,
            ),
            (
                client,
                TO_KUBELETS,
                "system:apiserver",
                &["system:masters"],
                &Usage::Client,
            ),
            (header, FRONT_PROXY, FRONT_PROXY_NAME, &[], &Usage::Client),
            (server, SERVING, "kube-apiserver", &[], &names),
        ];
        let clients = clients.map(|(file, user, groups)| (&**client, file, user, groups, &Usage::Client));
        let mut new = false;
        for (authority, file, common_name, organizations, usage) in clients.into_iter().chain(all) {
            let who = Identity {
                common_name,
                organizations,
            };
            new |= authority.ensure(&self.dir, file, &who, usage, self.lifetime, now)?;
        }
        Ok(new)
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
        let made = self
            .server_authority
            .ensure(dir, name, who, &Usage::Server(names), self.lifetime, now);
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

/// Of the files.
fn names() -> impl Iterator<Item = &'static str> {
    OWN.into_iter().chain(COMPONENTS.map(|(file, _, _)| file))
}

/// The kubeconfigs that a server writes: the administrator's, and those with which components run as programs of their own.
pub struct Kubeconfigs {
    /// The folder of the components'.
    pub dir: PathBuf,
    /// The administrator's file and its mode.
    pub admin: (PathBuf, u32),
    /// `https://host:port`
    pub server: String,
}

impl Kubeconfigs {
    /// Writes them with the certificates that the files have now. Which of them a full disk keeps from being written is only
    /// reported: that is no reason not to serve.
    ///
    /// # Errors
    /// When one cannot be written for another reason.
    pub fn write(&self, certificates: &Certificates) -> Result<(), PkiError> {
        let component = |(file, _, name): (&'static str, _, &str)| {
            let path = self.dir.join(format!("{name}.kubeconfig"));
            (file, path, 0o600)
        };
        let (admin, mode) = &self.admin;
        let all = COMPONENTS.map(component).into_iter();
        for (name, path, mode) in all.chain([(ADMIN, admin.clone(), *mode)]) {
            let text = certificates.kubeconfig(name, &self.server)?;
            match pki::write_file(&path, text.as_bytes(), mode) {
                Err(error) if error.is_full_disk() => tracing::warn!(%error, "the disk is full"),
                written => written?,
            }
        }
        Ok(())
    }
}

/// A certificate and its key, as PEM.
pub fn pair(dir: &Path, name: &str) -> Result<(String, String), PkiError> {
    let read = |suffix: &str| {
        let path = dir.join(format!("{name}.{suffix}"));
        std::fs::read_to_string(&path).map_err(|source| PkiError::File { path, source })
    };
    Ok((read("crt")?, read("key")?))
}
