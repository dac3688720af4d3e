//! The runner: for each phase and side namespaces of their own, the measuring process inside, then everything taken down.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::cluster::{self, Extent, Places, Side};
use crate::error::{Error, Result};
use crate::figure::Figures;
use crate::inside::{Line, Phase, Wanted};
use crate::{node_rows, objects};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Against {
    Upstream,
    None,
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    places: Places,
    /// Rows by name (start, idle, pods, deployment, service, container, creates, updates, gets, podcreates, list, watch,
    /// memory, store); all unless given.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// What is measured beside skiff.
    #[arg(long, default_value = "upstream")]
    against: Against,
    /// Starts of each side.
    #[arg(long, default_value_t = 3)]
    starts: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Single pods that are made.
    #[arg(long, default_value_t = 30)]
    pods: usize,
}

#[allow(clippy::print_stdout)]
pub fn run(args: &RunArgs) -> Result<()> {
    let wanted = Wanted(args.rows.iter().filter(|r| !r.is_empty()).cloned().collect());
    if let Some(row) = wanted
        .0
        .iter()
        .find(|r| !Phase::ALL.iter().any(|p| p.rows().contains(&r.as_str())))
    {
        return Err(Error::said(format!("there is no row {row:?}")));
    }
    let sides: &[Side] = match args.against {
        Against::Upstream => &[Side::Skiff, Side::Upstream],
        Against::None => &[Side::Skiff],
    };
    let mut figures = Figures::default();
    end_gently()?;
    for phase in Phase::ALL.into_iter().filter(|p| wanted.any(p.rows())) {
        // sides by turns: what the machine's neighbours do falls on both
        for _ in 0..if phase == Phase::Start { args.starts } else { 1 } {
            for side in sides
                .iter()
                .filter(|s| phase.rows_of(**s).iter().any(|r| wanted.row(r)))
            {
                eprintln!("{}: {side:?}", phase.name());
                let space = Space::make(args, *side, phase)?;
                let lines = space.measure(args, &wanted)?;
                space.remove()?;
                lines.iter().for_each(|l| figures.add(&l.side, &l.key, l.value));
            }
        }
    }
    print!("{}", figures.table());
    Ok(())
}

/// The measuring process; 0 for none.
static MEASURING: AtomicU32 = AtomicU32::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);

/// An interrupt ends the measuring process; then what was made for it is taken down as ever.
fn end_gently() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                ENDING.store(true, Ordering::SeqCst);
                let child = MEASURING.load(Ordering::SeqCst);
                if child != 0 {
                    // it may have ended already
                    drop(
                        Command::new("kill")
                            .arg(child.to_string())
                            .stderr(Stdio::null())
                            .status(),
                    );
                }
            }
        });
    });
    Ok(())
}

/// Namespaces and a folder for one side and phase; removed in any case.
struct Space {
    side: Side,
    phase: Phase,
    places: Places,
    made: bool,
}

impl Space {
    fn script(&self, name: &str) -> Command {
        Command::new(self.places.scripts.join(name))
    }

    fn make(args: &RunArgs, side: Side, phase: Phase) -> Result<Space> {
        std::fs::create_dir_all(&args.places.dir).map_err(Error::at(&args.places.dir))?;
        let absolute = |path: &Path| path.canonicalize().map_err(Error::at(path));
        let name = format!("skiff-bench-{}", std::process::id());
        let places = Places {
            skiff: absolute(&args.places.skiff)?,
            programs: absolute(&args.places.programs)?,
            images: absolute(&args.places.images)?,
            scripts: absolute(&args.places.scripts)?,
            dir: absolute(&args.places.dir)?.join(&name),
        };
        std::fs::create_dir(&places.dir).map_err(Error::at(&places.dir))?;
        let mut space = Space {
            side,
            phase,
            places,
            made: false,
        };
        space.made = true;
        cluster::run(space.script("namespaces.sh").args(["up", &name]).arg(&space.places.dir))?;
        if phase.extent() == Some(Extent::Node) {
            let pause = space.places.dir.join("pause.tar");
            cluster::run(
                space
                    .script("image.py")
                    .arg(pause)
                    .arg(objects::PAUSE)
                    .arg(space.places.programs.join("pause")),
            )?;
        }
        if let (Side::Upstream, Some(extent)) = (side, phase.extent()) {
            let mut prepare = space.guest(&space.places.scripts.join("cluster.sh"));
            prepare
                .arg("prepare")
                .arg(&space.places.programs)
                .arg(&space.places.dir)
                .arg(extent.name());
            // only the images that pods of its rows need
            if phase == Phase::Node {
                prepare.args(node_rows::archives(&space.places));
            }
            cluster::run(&mut prepare)?;
        }
        Ok(space)
    }

    /// A program inside that is not accounted to the cluster.
    fn guest(&self, program: &Path) -> Command {
        let mut command = self.script("namespaces.sh");
        command.arg("as-guest").arg(&self.places.dir).arg(program);
        command
    }

    fn measure(&self, args: &RunArgs, wanted: &Wanted) -> Result<Vec<Line>> {
        let itself = std::env::current_exe()?;
        let mut command = self.guest(&itself);
        let flag = |command: &mut Command, name: &str, path: &PathBuf| {
            command.arg(name).arg(path);
        };
        command.arg("inside");
        flag(&mut command, "--skiff", &self.places.skiff);
        flag(&mut command, "--programs", &self.places.programs);
        flag(&mut command, "--images", &self.places.images);
        flag(&mut command, "--scripts", &self.places.scripts);
        flag(&mut command, "--dir", &self.places.dir);
        let side = match self.side {
            Side::Skiff => "skiff",
            Side::Upstream => "upstream",
        };
        command.args(["--side", side, "--phase", self.phase.name()]);
        command
            .arg(format!("--seconds={}", args.seconds))
            .arg(format!("--pods={}", args.pods));
        if !wanted.0.is_empty() {
            command.arg(format!("--rows={}", wanted.0.join(",")));
        }
        if args.against == Against::Upstream {
            command.arg("--beside");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        MEASURING.store(child.id(), Ordering::SeqCst);
        let mut lines = Vec::new();
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).lines() {
                let line: Line = serde_json::from_str(&line?)?;
                eprintln!("  {} {}: {}", line.side, line.key, line.value);
                lines.push(line);
            }
        }
        let status = child.wait()?;
        MEASURING.store(0, Ordering::SeqCst);
        if ENDING.load(Ordering::SeqCst) {
            return Err(Error::said("ended by a signal"));
        }
        if !status.success() {
            return Err(Error::said(format!(
                "{side}, {}: not measured\n{}",
                self.phase.name(),
                self.log()
            )));
        }
        Ok(lines)
    }

    /// The end of what the cluster's own programs said.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.places.dir.join("cluster.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Takes everything down, with the folder.
    fn remove(mut self) -> Result<()> {
        self.made = false;
        self.take_down()
    }

    fn take_down(&self) -> Result<()> {
        let dir = &self.places.dir;
        if self.side == Side::Skiff && self.phase.extent() == Some(Extent::Node) && dir.join("init.pid").exists() {
            let end = self.places.scripts.join("end-skiff.sh");
            cluster::run(self.guest(&end).arg(&self.places.skiff).arg(dir.join("data")))?;
        }
        cluster::run(self.script("namespaces.sh").arg("down").arg(dir))?;
        std::fs::remove_dir_all(dir).map_err(Error::at(dir))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if self.made
            && let Err(error) = self.take_down()
        {
            eprintln!("bench: {error}");
        }
    }
}
