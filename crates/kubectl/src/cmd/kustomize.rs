//! `kustomize`: prints the objects of a kustomization.

use std::path::Path;

use crate::error::{Result, fail, message};
use crate::kustomize;
use crate::print::yaml;
use crate::session::Session;

/// Build a kustomization target from a directory or URL
#[derive(Debug, clap::Args)]
pub struct Args {
    dirs: Vec<String>,
    /// If specified, write output to this path
    #[arg(long, short, default_value = "", hide_default_value = true)]
    output: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<()> {
    let dir = match args.dirs.as_slice() {
        [] => ".",
        [dir] => dir,
        _ => return fail("specify one path to kustomization.yaml"),
    };
    let objects = kustomize::build(Path::new(dir), &mut |text| session.warn(text))?;
    let texts: Vec<String> = objects.iter().map(yaml::to_string).collect();
    let text = texts.join("---\n");
    if args.output.is_empty() {
        return session.print(&text);
    }
    let path = Path::new(&args.output);
    if path.is_dir() {
        return fail(format!(
            "{}: writing a file for each object is not supported",
            args.output
        ));
    }
    std::fs::write(path, text).map_err(|e| message(format!("open {}: {}", args.output, crate::print::go::io_error(&e))))
}
