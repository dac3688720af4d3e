//! `cp`: files to and from containers, as tar archives through a remote command.

use std::path::{Component, Path, PathBuf};

use streaming::client::Streams;
use tokio::io::AsyncWriteExt;

use super::exec::{self, Place};
use crate::error::{Result, fail, message};
use crate::pods;
use crate::session::Session;

/// Copy files and directories to and from containers
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    /// Container name
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// The copied file/directory's ownership and permissions will not be preserved in the container
    #[arg(long)]
    no_preserve: bool,
    /// Set number of retries to complete a copy operation from a container
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    retries: i32,
}

/// A file here, or in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spec {
    namespace: Option<String>,
    pod: Option<String>,
    path: String,
}

impl Spec {
    /// `path`, `pod:path` or `namespace/pod:path`.
    fn parse(text: &str) -> Result<Spec> {
        let local = |path: &str| Spec {
            namespace: None,
            pod: None,
            path: path.to_owned(),
        };
        let Some((place, path)) = text.split_once(':') else {
            return Ok(local(text));
        };
        if place.is_empty() {
            return fail("filespec must match the canonical format: [[namespace/]pod:]file/path");
        }
        let (namespace, pod) = match place.split('/').collect::<Vec<_>>()[..] {
            [pod] => (None, pod),
            [namespace, pod] => (Some(namespace.to_owned()), pod),
            _ => return Ok(local(text)),
        };
        Ok(Spec {
            namespace,
            pod: Some(pod.to_owned()),
            path: path.to_owned(),
        })
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let [from, to] = &args.args[..] else {
        return fail("source and destination are required");
    };
    let (from, to) = (Spec::parse(from)?, Spec::parse(to)?);
    match (&from.pod, &to.pod) {
        (Some(_), Some(_)) => fail("one of src or dest must be a local file specification"),
        (None, None) => fail("one of src or dest must be a remote file specification"),
        _ if from.path.is_empty() || to.path.is_empty() => fail("filepath can not be empty"),
        (None, Some(pod)) => upload(session, args, &from.path, &to, pod).await,
        (Some(pod), None) => download(session, args, &from, pod, &to.path).await,
    }
}

async fn place(session: &Session, args: &Args, spec: &Spec, pod: &str) -> Result<Place> {
    let namespace = match &spec.namespace {
        Some(namespace) => namespace.clone(),
        None => session.namespace()?,
    };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{}", crate::api::escape(pod));
    let pod = session.api()?.get(&path).await?;
    let container = pods::container(session, &pod, &args.container, false)?;
    Ok(Place {
        namespace,
        pod: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        container,
    })
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|w| (*w).to_owned()).collect()
}

async fn upload(session: &Session, args: &Args, from: &str, to: &Spec, pod: &str) -> Result<()> {
    if !Path::new(from).exists() {
        return fail(format!("{from} doesn't exist in local filesystem"));
    }
    let place = place(session, args, to, pod).await?;
    let trimmed = to.path.trim_end_matches('/');
    let mut target = if trimmed.is_empty() {
        "/".to_owned()
    } else {
        trimmed.to_owned()
    };
    // Into a directory the file goes with its own name.
    let own = Path::new(from).file_name().map(|n| n.to_string_lossy().into_owned());
    if is_directory(session, &place, &target).await
        && let Some(own) = own
    {
        target = format!("{}/{own}", target.trim_end_matches('/'));
    }
    let (dir, name) = target
        .rsplit_once('/')
        .map_or((".", target.as_str()), |(d, n)| (if d.is_empty() { "/" } else { d }, n));
    let archive = {
        let (from, name) = (PathBuf::from(from), name.to_owned());
        tokio::task::spawn_blocking(move || pack(&from, &name))
            .await
            .map_err(|e| message(e.to_string()))??
    };
    let mut command = words(&["tar"]);
    if args.no_preserve {
        command.extend(words(&["--no-same-permissions", "--no-same-owner"]));
    }
    command.extend(words(&["-xmf", "-", "-C", dir]));
    let streams = Streams {
        stdin: Some(&archive[..]),
        stdout: tokio::io::stdout(),
        stderr: tokio::io::stderr(),
        resize: None,
    };
    exec::run(session, &place, "exec", &command, false, streams).await
}

async fn is_directory(session: &Session, place: &Place, path: &str) -> bool {
    let streams = Streams {
        stdin: None::<tokio::io::Empty>,
        stdout: tokio::io::sink(),
        stderr: tokio::io::sink(),
        resize: None,
    };
    exec::run(session, place, "exec", &words(&["test", "-d", path]), false, streams)
        .await
        .is_ok()
}

/// The archive of a file or a directory under another name.
fn pack(from: &Path, name: &str) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    if std::fs::metadata(from)?.is_dir() {
        builder.append_dir_all(name, from)?;
    } else {
        // A link on the command line means its file.
        let mut file = std::fs::File::open(from)?;
        builder.append_file(name, &mut file)?;
    }
    Ok(builder.into_inner()?)
}

async fn download(session: &Session, args: &Args, from: &Spec, pod: &str, to: &str) -> Result<()> {
    let place = place(session, args, from, pod).await?;
    let command = words(&["tar", "cf", "-", &from.path]);
    let mut archive = Vec::new();
    let mut complaints = Vec::new();
    let streams = Streams {
        stdin: None::<tokio::io::Empty>,
        stdout: &mut archive,
        stderr: &mut complaints,
        resize: None,
    };
    let ended = exec::run(session, &place, "exec", &command, false, streams).await;
    // What tar says of leading slashes is of no interest where the rest went well.
    if ended.is_err() || !String::from_utf8_lossy(&complaints).contains("leading '/'") {
        tokio::io::stderr().write_all(&complaints).await?;
    } else {
        session.warn(String::from_utf8_lossy(&complaints).trim_end());
    }
    let (prefix, to) = (from.path.clone(), PathBuf::from(to));
    let unpacked = tokio::task::spawn_blocking(move || unpack(&archive, &prefix, &to)).await;
    let warnings = unpacked.map_err(|e| message(e.to_string()))??;
    for warning in warnings {
        session.warn(&warning);
    }
    ended
}

/// Unpacks what was at `prefix` to `to`; says what was left out.
fn unpack(archive: &[u8], prefix: &str, to: &Path) -> Result<Vec<String>> {
    let prefix = plain(Path::new(prefix));
    let to = match to.is_dir() {
        true => prefix.file_name().map_or_else(|| to.to_owned(), |own| to.join(own)),
        false => to.to_owned(),
    };
    let mut warnings = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(inside) = plain(&path).strip_prefix(&prefix).map(Path::to_owned) else {
            warnings.push(format!(
                "warning: file {} is outside target destination, skipping",
                path.display()
            ));
            continue;
        };
        let target = if inside.as_os_str().is_empty() {
            to.clone()
        } else {
            to.join(inside)
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&target)?;
            continue;
        }
        if kind.is_symlink() || kind.is_hard_link() {
            // A link of the container's could lead anywhere here.
            warnings.push(format!(
                "warning: skipping symlink: {} -> {}",
                target.display(),
                shown_link(&entry)
            ));
            continue;
        }
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::File::create(&target).map_err(|e| message(format!("{}: {e}", target.display())))?;
        std::io::copy(&mut entry, &mut file)?;
    }
    Ok(warnings)
}

fn shown_link(entry: &tar::Entry<'_, &[u8]>) -> String {
    let link = entry.link_name().ok().flatten();
    link.map_or(String::new(), |l| l.display().to_string())
}

/// Without slashes in front, and without `.` and `..`: nothing can point out of it.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_here_or_in_a_pod() {
        let spec = |text: &str| Spec::parse(text).ok().map(|s| (s.namespace, s.pod, s.path));
        assert_eq!(spec("a/b"), Some((None, None, "a/b".into())));
        assert_eq!(spec("p:/x"), Some((None, Some("p".into()), "/x".into())));
        assert_eq!(spec("n/p:x"), Some((Some("n".into()), Some("p".into()), "x".into())));
        assert_eq!(spec("./a/b:c"), Some((None, None, "./a/b:c".into())));
        assert_eq!(spec(":x"), None);
    }

    #[test]
    fn what_is_packed_is_unpacked_under_the_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("sub/f"), "x").unwrap();
        let archive = pack(&from, "name").unwrap();
        let to = dir.path().join("to");
        assert_eq!(unpack(&archive, "/name", &to).unwrap(), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(to.join("sub/f")).unwrap(), "x");
        // Into a directory it goes with its own name.
        unpack(&archive, "name", dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("name/sub/f")).unwrap(), "x");
    }
}
