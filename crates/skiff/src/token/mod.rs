//! `skiff token`: bootstrap tokens, by which nodes join for a time, and the change of the cluster's own token; as `k3s token`.

mod bootstrap;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::{Client, DeleteParams, Kubeconfig, ListParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::agent::cluster::{Cluster, ClusterError};
use crate::join::token::{self as join_token, Credentials, TokenError};
use crate::node_paths::DEFAULT_DATA_DIR;
use api::time::flag_duration;
use bootstrap::{BootstrapToken, NAMESPACE, SECRET_TYPE, TableRow};

/// The flags of `skiff token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Args)]
struct Shared {
    /// Folder that holds the server's state.
    #[arg(short = 'd', long, global = true, default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// How to reach the API; the administrator's kubeconfig of the data directory unless given.
    #[arg(long, global = true, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a bootstrap token and prints it in the form that agents take.
    Create {
        /// The token, of the form abcdef.0123456789abcdef; a random one unless given.
        token: Option<String>,
        /// What the token is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Groups that its holder is in.
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "system:bootstrappers:skiff:default-node-token"
        )]
        groups: Vec<String>,
        /// How long it is valid, as 24h0m0s; 0 for ever.
        #[arg(long, default_value = "24h0m0s", value_parser = flag_duration)]
        ttl: Duration,
        /// What it may be used for.
        #[arg(long, value_delimiter = ',', default_values = ["signing", "authentication"])]
        usages: Vec<String>,
    },
    /// Deletes bootstrap tokens.
    Delete {
        /// Tokens or their first parts.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
    /// Prints a random bootstrap token and makes nothing.
    Generate,
    /// Lists bootstrap tokens.
    List {
        #[arg(short = 'o', long, default_value = "text")]
        output: Output,
    },
    /// Puts another token in the place of the cluster's own.
    Rotate {
        /// The token until now; that of the data directory unless given.
        #[arg(short = 't', long, env = "SKIFF_TOKEN", hide_env_values = true)]
        token: Option<String>,
        /// The server.
        #[arg(short = 's', long, env = "SKIFF_URL", default_value = "https://127.0.0.1:6443")]
        server: String,
        /// The token from now on; a random one unless given.
        #[arg(long)]
        new_token: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

/// Why a command about tokens fails.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    #[error("the bootstrap token {0:?} was not of the form \"[a-z0-9]{{6}}.[a-z0-9]{{16}}\"")]
    Form(String),
    #[error("--groups: {0:?} does not begin with system:bootstrappers:")]
    Group(String),
    #[error("--usages: {0:?} is neither signing nor authentication")]
    Usage(String),
    #[error("a token with id {0:?} already exists")]
    Exists(String),
    #[error("the kubeconfig has no certificate authority: the token's CA hash cannot be told")]
    NoAuthority,
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("--token: {0}")]
    Token(#[from] TokenError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// Runs one command.
///
/// # Errors
/// For arguments that make no token, and what the server refuses.
pub async fn run(args: TokenArgs) -> Result<(), TokenCommandError> {
    let shared = args.shared;
    match args.command {
        TokenCommand::Generate => println!("{}", bootstrap::random()?),
        TokenCommand::Create {
            token,
            description,
            groups,
            ttl,
            usages,
        } => {
            let token = match token {
                Some(token) => token,
                None => bootstrap::random()?,
            };
            let (id, secret) = join_token::bootstrap(&token).ok_or_else(|| TokenCommandError::Form(token.clone()))?;
            let new = BootstrapToken {
                id: id.to_owned(),
                secret: secret.to_owned(),
                description,
                expires: bootstrap::expiration(Timestamp::now(), ttl),
                usages,
                groups,
            };
            println!("{}", shared.create(&new).await?);
        }
        TokenCommand::Delete { tokens } => {
            let (client, _) = shared.client()?;
            for token in tokens {
                let id = bootstrap::id_of(&token).ok_or_else(|| TokenCommandError::Form(token.clone()))?;
                let name = bootstrap::secret_name(id);
                client
                    .delete::<Secret>(NAMESPACE, &name, &DeleteParams::default())
                    .await?;
                println!("bootstrap token {id:?} deleted");
            }
        }
        TokenCommand::List { output } => {
            let (client, _) = shared.client()?;
            let params = ListParams {
                field_selector: Some(format!("type={SECRET_TYPE}")),
                ..ListParams::default()
            };
            let mut tokens = Vec::new();
            for secret in client.list::<Secret>(NAMESPACE, &params).await?.items {
                match BootstrapToken::of_secret(&secret) {
                    Some(token) => tokens.push(token),
                    None => eprintln!("{}: cannot be read", secret.metadata.name.unwrap_or_default()),
                }
            }
            show(&tokens, output);
        }
        TokenCommand::Rotate {
            token,
            server,
            new_token,
        } => {
            let token = match token {
                Some(token) => token,
                None => shared.own_token()?,
            };
            let cluster = Cluster::find(&server, Some(token.trim().parse()?), None).await?;
            cluster.rotate(new_token.as_deref()).await?;
            println!("Token rotated, restart skiff nodes with new token");
        }
    }
    Ok(())
}

fn show(tokens: &[BootstrapToken], output: Output) {
    match output {
        Output::Json => println!("{}", BootstrapToken::tree(tokens)),
        Output::Yaml => print!("{}", api::yaml::to_string(&BootstrapToken::tree(tokens))),
        Output::Text => {
            let heads = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];
            let mut rows: Vec<TableRow> = vec![heads.map(str::to_owned)];
            let now = Timestamp::now();
            rows.extend(tokens.iter().map(|token| token.row(now)));
            print!("{}", bootstrap::table(&rows));
        }
    }
}

impl Shared {
    fn client(&self) -> Result<(Client, Option<Vec<u8>>), TokenCommandError> {
        let own = || self.data_dir.join("server/cred/admin.kubeconfig");
        let path = self.kubeconfig.clone().unwrap_or_else(own);
        let config = Kubeconfig::load(path)?.config(None)?;
        let authority = config.tls.ca_pem.clone();
        Ok((config.client("skiff-token")?, authority))
    }

    fn own_token(&self) -> Result<String, TokenCommandError> {
        let path = self.data_dir.join("server/token");
        std::fs::read_to_string(&path).map_err(|source| TokenCommandError::File { path, source })
    }

    /// Makes the Secret; the token in the form that agents take.
    async fn create(&self, new: &BootstrapToken) -> Result<String, TokenCommandError> {
        new.check()?;
        let (client, authority) = self.client()?;
        let authority = authority.and_then(|pem| String::from_utf8(pem).ok());
        let authority = authority.ok_or(TokenCommandError::NoAuthority)?;
        match client.create(&new.to_secret()).await {
            Err(error) if error.is_already_exists() => return Err(TokenCommandError::Exists(new.id.clone())),
            made => made?,
        };
        let credentials = Credentials::Bootstrap {
            id: new.id.clone(),
            secret: new.secret.clone(),
        };
        Ok(join_token::whole(&authority, &credentials))
    }
}
