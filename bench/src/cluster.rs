//! A cluster seen from inside its namespaces: started by us, reached over loopback or the node's address.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::http::{Call, Endpoint};
use crate::process::Groups;
use crate::watch::Watch;

/// The node's address in its namespace.
pub const NODE: &str = "198.51.100.10";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    Skiff,
    Upstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Extent {
    /// Datastore, API server, scheduler, controllers.
    ControlPlane,
    Node,
}

impl Extent {
    pub fn name(self) -> &'static str {
        match self {
            Extent::ControlPlane => "control-plane",
            Extent::Node => "node",
        }
    }
}

/// Where programs and the cluster's files are.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// The program to measure.
    #[arg(long)]
    pub skiff: PathBuf,
    /// The folder that tests/upstream/build.sh filled.
    #[arg(long)]
    pub programs: PathBuf,
    /// The folder that examples/images.py filled.
    #[arg(long)]
    pub images: PathBuf,
    /// tests/upstream of the source.
    #[arg(long, default_value = "tests/upstream")]
    pub scripts: PathBuf,
    /// Where clusters keep their files; a folder on the disk that is to be measured.
    #[arg(long)]
    pub dir: PathBuf,
}

/// When something came to be, counted from the first process.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    pub api: Duration,
    pub node: Duration,
    pub dns: Duration,
}

/// One that runs.
pub struct Cluster {
    pub side: Side,
    pub dir: PathBuf,
    pub kubectl: PathBuf,
    pub endpoint: Endpoint,
    pub groups: Groups,
    pub dns: &'static str,
}

/// Joins the cluster's cgroup, then becomes the command: what we start is accounted to the cluster, we are not.
const JOIN: &str = r#"
for group in /sys/fs/cgroup/*/"$0"/system /sys/fs/cgroup/"$0"/system; do
  [ ! -e "$group/cgroup.procs" ] || echo $$ >"$group/cgroup.procs"
done
exec "$@""#;

impl Cluster {
    /// Starts it; returns when its API is ready, and with a node when its DNS answers.
    pub async fn start(side: Side, extent: Extent, places: &Places) -> Result<(Cluster, Started)> {
        let dir = places.dir.clone();
        let name = std::fs::read_to_string(dir.join("name")).map_err(Error::at(&dir.join("name")))?;
        let data = dir.join("data");
        let mut command = Command::new("sh");
        command.args(["-c", JOIN, name.trim()]);
        match side {
            Side::Skiff => {
                command
                    .arg(&places.skiff)
                    .args(["server", "--node-name=node", "--node-ip", NODE]);
                command
                    .arg("--data-dir")
                    .arg(&data)
                    .arg("--resolv-conf")
                    .arg(dir.join("resolv.conf"));
                if extent == Extent::ControlPlane {
                    command.arg("--disable-agent");
                }
            }
            Side::Upstream => {
                command.arg(places.scripts.join("cluster.sh")).arg("start");
                command.arg(&places.programs).arg(&dir).arg(extent.name());
            }
        }
        let log = std::fs::File::create(dir.join("cluster.log")).map_err(Error::at(&dir))?;
        let started = Instant::now();
        // lives on in the namespaces, with which it ends
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let kubeconfig = match side {
            Side::Skiff => data.join("server/cred/admin.kubeconfig"),
            Side::Upstream => dir.join("admin.conf"),
        };
        let endpoint = ready(&kubeconfig).await?;
        let api = started.elapsed();
        let cluster = Cluster {
            side,
            kubectl: places.programs.join("kubectl"),
            endpoint,
            groups: Groups::of(name.trim(), (side == Side::Skiff).then_some(&data)),
            dns: match side {
                Side::Skiff => "10.43.0.10",
                Side::Upstream => "10.96.0.10",
            },
            dir,
        };
        let (mut node, mut dns) = (api, api);
        if extent == Extent::Node {
            let (ready, answers) = tokio::join!(cluster.node_ready(), cluster.dns_answers());
            node = ready?.duration_since(started);
            dns = answers?.duration_since(started);
        }
        Ok((cluster, Started { api, node, dns }))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        match self.side {
            Side::Skiff => self.dir.join("data/server/cred/admin.kubeconfig"),
            Side::Upstream => self.dir.join("admin.conf"),
        }
    }

    async fn node_ready(&self) -> Result<Instant> {
        let mut nodes = Watch::open(&self.endpoint, "/api/v1/nodes?fieldSelector=metadata.name%3Dnode").await?;
        let ready = |o: &serde_json::Value| {
            let conditions = o["status"]["conditions"].as_array();
            conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        Ok(nodes.until("the node is Ready", |e| ready(&e.object)).await?.at)
    }

    /// The moment a question for the API server's Service was answered with its address.
    async fn dns_answers(&self) -> Result<Instant> {
        use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
        use hickory_proto::rr::{Name, RecordType};
        let deadline = Instant::now() + Duration::from_secs(120);
        let broken = |e: hickory_proto::ProtoError| Error::said(format!("DNS: {e}"));
        let name = Name::from_ascii("kubernetes.default.svc.cluster.local.").map_err(broken)?;
        let mut question = Message::new(1, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(name, RecordType::A));
        let question = question.to_vec().map_err(broken)?;
        while Instant::now() < deadline {
            // a socket of its own for each: connection tracking remembers where the first one went
            let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
            let mut buffer = [0; 512];
            let asked = async {
                socket.connect((self.dns, 53)).await?;
                socket.send(&question).await?;
                socket.recv(&mut buffer).await
            };
            if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(100), asked).await
                && let Ok(answer) = Message::from_vec(&buffer[..length])
                && answer.metadata.response_code == ResponseCode::NoError
                && !answer.answers.is_empty()
            {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Error::said("the cluster's DNS does not answer"))
    }

    /// Waits until pods may be made in `default`.
    pub async fn service_account(&self) -> Result<()> {
        let path = "/api/v1/namespaces/default/serviceaccounts?fieldSelector=metadata.name%3Ddefault";
        Watch::open(&self.endpoint, path)
            .await?
            .until("the default service account", |_| true)
            .await?;
        Ok(())
    }

    /// Brings images to the node, unless they were there before it began.
    pub fn import(&self, places: &Places, archives: &[PathBuf]) -> Result<()> {
        if self.side == Side::Upstream {
            return Ok(());
        }
        let mut command = Command::new(&places.skiff);
        command
            .args(["image", "import", "--data-dir"])
            .arg(self.dir.join("data"))
            .args(archives);
        run(&mut command)
    }

    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .env("HOME", &self.dir);
        command
    }
}

/// Runs a command to its end; it must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::said(format!("{command:?}: {}: {said}", output.status)))
}

/// The server's endpoint as soon as it says that it is ready.
async fn ready(kubeconfig: &Path) -> Result<Endpoint> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if kubeconfig.exists()
            && let Ok(endpoint) = Endpoint::of(kubeconfig)
            && let Ok(mut connection) = endpoint.connect().await
            && let Ok((status, _)) = connection.measure(Call::get("/readyz")).await
            && status.is_success()
        {
            return Ok(endpoint);
        }
        if Instant::now() > deadline {
            return Err(Error::said("the API server is not ready after 60 s"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
