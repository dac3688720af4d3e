//! The measuring process inside a cluster's namespaces: figures go to standard output as JSON lines, progress to standard error.

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Extent, Places, Side};
use crate::error::Result;
use crate::{api_rows, container_row, node_rows, store_rows};

/// One value of a figure.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub side: String,
    pub key: String,
    pub value: f64,
}

/// Where figures go.
pub struct Report {
    side: Side,
}

impl Report {
    #[allow(clippy::print_stdout)]
    fn line(side: &str, key: &str, value: f64) {
        let line = Line {
            side: side.to_owned(),
            key: key.to_owned(),
            value,
        };
        // three plain fields always have a JSON form
        println!("{}", serde_json::json!(line));
    }

    fn name(&self) -> &'static str {
        match self.side {
            Side::Skiff => "skiff",
            Side::Upstream => "upstream",
        }
    }

    pub fn figure(&self, key: &str, value: f64) {
        Report::line(self.name(), key, value);
    }

    /// A figure of what is compared with, made in our own cluster.
    pub fn upstream(&self, key: &str, value: f64) {
        Report::line("upstream", key, value);
    }

    pub fn say(&self, text: impl std::fmt::Display) {
        eprintln!("  {}: {text}", self.name());
    }
}

/// The rows that were asked for; none means all.
pub struct Wanted(pub Vec<String>);

impl Wanted {
    pub fn row(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|r| r == name)
    }

    pub fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.row(n))
    }
}

/// What is measured in one set of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// Only how soon a node is there.
    Start,
    Node,
    ControlPlane,
    Store,
}

impl Phase {
    pub const ALL: [Phase; 4] = [Phase::Start, Phase::Node, Phase::ControlPlane, Phase::Store];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Node => "node",
            Phase::ControlPlane => "control-plane",
            Phase::Store => "store",
        }
    }

    pub fn rows(self) -> &'static [&'static str] {
        match self {
            Phase::Start => &["start"],
            // the last one only on our side: `rows_of`
            Phase::Node => &["idle", "pods", "deployment", "service", "container"],
            Phase::ControlPlane => &["creates", "updates", "gets", "podcreates", "list", "watch", "memory"],
            Phase::Store => &["store"],
        }
    }

    /// What a side measures; other runtimes are measured beside ours, in our cluster.
    pub fn rows_of(self, side: Side) -> &'static [&'static str] {
        match (self, side) {
            (Phase::Node, Side::Upstream) => &self.rows()[..4],
            _ => self.rows(),
        }
    }

    /// The part of a cluster it needs.
    pub fn extent(self) -> Option<Extent> {
        match self {
            Phase::Start | Phase::Node => Some(Extent::Node),
            Phase::ControlPlane => Some(Extent::ControlPlane),
            Phase::Store => None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct InsideArgs {
    #[command(flatten)]
    pub places: Places,
    #[arg(long)]
    pub side: Side,
    #[arg(long)]
    pub phase: Phase,
    #[arg(long, value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Seconds of each load.
    #[arg(long)]
    pub seconds: u64,
    /// Single pods that are made.
    #[arg(long)]
    pub pods: usize,
    /// Whether other runtimes are measured beside ours.
    #[arg(long)]
    pub beside: bool,
}

pub async fn measure(args: InsideArgs) -> Result<()> {
    // `nsenter` does not hand on the signal that ends it
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(std::io::Error::from)?;
    let report = Report { side: args.side };
    let wanted = Wanted(args.rows);
    let Some(extent) = args.phase.extent() else {
        return store_rows::all(args.side, &args.places, args.seconds, &report).await;
    };
    let (cluster, started) = Cluster::start(args.side, extent, &args.places).await?;
    match args.phase {
        Phase::Start => {
            report.figure("start.api", started.api.as_secs_f64());
            report.figure("start.node", started.node.as_secs_f64());
            report.figure("start.dns", started.dns.as_secs_f64());
        }
        Phase::ControlPlane => api_rows::all(&cluster, &wanted, args.seconds, &report).await?,
        _ => {
            if wanted.row("idle") {
                node_rows::idle(&cluster, 30, &report).await?;
            }
            cluster.import(&args.places, &node_rows::archives(&args.places))?;
            if wanted.row("pods") {
                node_rows::pods(&cluster, args.pods, &report).await?;
            }
            if wanted.row("deployment") {
                node_rows::deployment(&cluster, &report).await?;
            }
            if wanted.row("service") {
                node_rows::service(&cluster, 3, &report).await?;
            }
            if wanted.row("container") && args.side == Side::Skiff {
                container_row::all(&cluster, &args.places, args.beside, &report).await?;
            }
        }
    }
    Ok(())
}
