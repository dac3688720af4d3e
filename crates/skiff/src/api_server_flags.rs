//! The API server's flags by upstream's names, for `skiff kube-apiserver` and for `skiff server --kube-apiserver-arg`.

use clap::Parser;
use serving::TlsSettings;

use crate::admission_flags::AdmissionFlags;
use crate::aggregation_flags::AggregationFlags;
use crate::audit_flags::AuditFlags;
use crate::server::args::{LimitArgs, ServerArgs};

/// The flags of `kube-apiserver` that `--kube-apiserver-arg` takes.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-apiserver", no_binary_name = true, args_override_self = true)]
pub struct ApiServerFlags {
    /// Who may do what: Node and RBAC, always.
    #[arg(long, value_delimiter = ',', default_values = ["Node", "RBAC"])]
    authorization_mode: Vec<String>,
    /// Requests without credentials come from `system:anonymous`; with `false` they may ask for health alone.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    /// Privileged containers may be created, always.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    allow_privileged: bool,
    /// Profiling is not served.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    profiling: bool,
    /// A service account's token holds while its account is there, always.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    service_account_lookup: bool,
    /// Cipher suites of TLS 1.2 that are offered; all that are safe unless given.
    #[arg(long, value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// VersionTLS12 or VersionTLS13.
    #[arg(long, default_value = "VersionTLS12")]
    tls_min_version: String,
    #[command(flatten)]
    aggregation: AggregationFlags,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    feature_gates: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    audit: AuditFlags,
    #[command(flatten)]
    admission: AdmissionFlags,
}

/// Why a flag cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    #[error("--etcd-servers: an external etcd is not supported yet; leave the flag out to keep data in --data-dir")]
    Etcd,
    #[error("--authorization-mode: only Node,RBAC is supported")]
    Authorization,
    #[error("--allow-privileged=false is not supported")]
    Privileged,
    #[error("--profiling: only false is supported: profiling is not built")]
    Profiling,
    #[error("--service-account-lookup=false is not supported")]
    Lookup,
    #[error("--tls-cipher-suites, --tls-min-version: {0}")]
    Tls(#[from] serving::TlsError),
    #[error("--feature-gates: {0}")]
    FeatureGates(#[from] api::features::GateError),
    #[error(transparent)]
    Admission(#[from] apiserver::admission::configuration::ConfigurationError),
    #[error("{}", .0.render().to_string().trim_start_matches("error: ").trim())]
    Parse(#[from] clap::Error),
}

impl ApiServerFlags {
    /// Puts the flags into the server's.
    ///
    /// # Errors
    /// For flags that ask for what is not there.
    pub fn apply(self, server: &mut ServerArgs) -> Result<(), FlagError> {
        api::features::set(&self.feature_gates.join(","))?;
        let mut modes = self.authorization_mode;
        modes.sort();
        if modes != ["Node", "RBAC"] {
            return Err(FlagError::Authorization);
        }
        if !self.allow_privileged {
            return Err(FlagError::Privileged);
        }
        if self.profiling {
            return Err(FlagError::Profiling);
        }
        if !self.service_account_lookup {
            return Err(FlagError::Lookup);
        }
        server.tls = TlsSettings::new(&self.tls_cipher_suites, &self.tls_min_version)?;
        server.anonymous_auth = self.anonymous_auth;
        server.aggregation = self.aggregation;
        server.limits = self.limits;
        server.audit = Some(self.audit);
        // what is wrong with them is said before anything starts
        self.admission.read()?;
        server.admission = self.admission;
        Ok(())
    }
}

/// Puts what `--kube-apiserver-arg` says into the server's flags.
///
/// # Errors
/// For flags that nobody knows or that ask for what is not there.
pub fn apply_args(server: &mut ServerArgs) -> Result<(), FlagError> {
    let LimitArgs {
        enable_priority_and_fairness,
        max_requests_inflight,
        max_mutating_requests_inflight,
        request_timeout,
    } = &server.limits;
    // what holds unless it is given
    let mut flags = vec![
        format!("--anonymous-auth={}", server.anonymous_auth),
        format!("--enable-priority-and-fairness={enable_priority_and_fairness}"),
        format!("--max-requests-inflight={max_requests_inflight}"),
        format!("--max-mutating-requests-inflight={max_mutating_requests_inflight}"),
        format!("--request-timeout={}ns", request_timeout.as_nanos()),
    ];
    let given = server.kube_apiserver_arg.iter();
    flags.extend(given.map(|arg| format!("--{}", arg.trim_start_matches("--"))));
    ApiServerFlags::try_parse_from(flags)?.apply(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Server {
        #[command(flatten)]
        args: ServerArgs,
    }

    fn server(flags: &[&str]) -> Result<ServerArgs, String> {
        let flags = ["server"].iter().chain(flags);
        let mut args = Server::try_parse_from(flags).map_err(|e| e.to_string())?.args;
        apply_args(&mut args).map_err(|e| e.to_string())?;
        Ok(args)
    }

    #[test]
    fn an_argument_of_the_api_server_is_in_effect_or_refused() {
        let args = server(&[
            "--max-mutating-requests-inflight=9",
            "--kube-apiserver-arg=request-timeout=2m30s",
            "--kube-apiserver-arg=max-requests-inflight=7",
            "--kube-apiserver-arg=profiling=false",
            "--kube-apiserver-arg=tls-min-version=VersionTLS13",
            "--kube-apiserver-arg=authorization-mode=RBAC,Node",
        ])
        .unwrap();
        assert_eq!(args.limits.request_timeout.as_secs(), 150);
        assert_eq!(
            (
                args.limits.max_requests_inflight,
                args.limits.max_mutating_requests_inflight
            ),
            (7, 9)
        );
        assert_eq!((args.anonymous_auth, args.tls.versions().len()), (false, 1));
        assert!(
            server(&["--kube-apiserver-arg=anonymous-auth=true"])
                .unwrap()
                .anonymous_auth
        );
        for (arg, why) in [
            ("profiling=true", "profiling is not built"),
            ("authorization-mode=AlwaysAllow", "only Node,RBAC is supported"),
            ("tls-cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256", "it is not safe"),
            ("request-timeout=soon", "is not a duration"),
            ("enable-admission-plugins=Nobody", "plugin \"Nobody\" is unknown"),
            ("no-such-flag=1", "unexpected argument '--no-such-flag'"),
        ] {
            let said = server(&[&format!("--kube-apiserver-arg={arg}")]).unwrap_err();
            assert!(said.contains(why), "{arg}: {said}");
        }
    }
}
