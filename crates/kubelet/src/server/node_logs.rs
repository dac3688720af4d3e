//! The node's own logs, `/logs/`: files and directories below the log directory, and nothing outside of it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt;

use super::{ServerBody, plain};
use crate::config::KubeletConfig;

/// Read at once. Bytes.
pub(super) const PIECE: usize = 64 << 10;

/// What a path leads to.
pub(super) enum Found {
    File(std::fs::File, u64),
    Directory(Vec<(String, bool)>),
    Missing,
}

/// What is at `path` below the log directory. A link leads on as long as it stays among logs; what is no regular file or
/// directory is not there.
fn look(path: &str, roots: &[PathBuf]) -> Found {
    let Some(first) = roots.first() else {
        return Found::Missing;
    };
    let Ok(real) = std::fs::canonicalize(first.join(path.trim_start_matches('/'))) else {
        return Found::Missing;
    };
    let within = |root: &PathBuf| std::fs::canonicalize(root).is_ok_and(|root| real.starts_with(root));
    if !roots.iter().any(within) {
        return Found::Missing;
    }
    if let Ok(entries) = std::fs::read_dir(&real) {
        let mut names: Vec<(String, bool)> = entries
            .flatten()
            .filter_map(|e| {
                let directory = e.file_type().ok()?.is_dir();
                Some((e.file_name().into_string().ok()?, directory))
            })
            .collect();
        names.sort();
        return Found::Directory(names);
    }
    match files::regular_file(&real).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((length, file)) => Found::File(file, length),
        Err(_) => Found::Missing,
    }
}

fn escaped(name: &str) -> String {
    name.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// A name as the path of a link.
fn encoded(name: &str) -> String {
    name.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn listing(names: &[(String, bool)]) -> String {
    let mut page = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for (name, directory) in names {
        let slash = if *directory { "/" } else { "" };
        page.push_str(&format!(
            "<a href=\"{}{slash}\">{}{slash}</a>\n",
            encoded(name),
            escaped(name)
        ));
    }
    page.push_str("</pre>\n");
    page
}

/// What is at a decoded `path` below the log directory.
pub(super) async fn find(config: &KubeletConfig, path: &str) -> Result<Found, tokio::task::JoinError> {
    let roots = vec![
        config.log_dir.clone(),
        config.pod_log_dir.clone(),
        config.container_log_links.clone(),
    ];
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || look(&path, &roots)).await
}

/// Serves a decoded path that begins with `/logs/`.
pub async fn serve(config: &KubeletConfig, path: &str) -> Response<ServerBody> {
    let found = find(config, path.strip_prefix("/logs/").unwrap_or_default()).await;
    match found {
        Ok(Found::Directory(names)) => {
            let mut response = plain(StatusCode::OK, listing(&names));
            let html = header::HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            response
        }
        Ok(Found::File(file, length)) => {
            let file = tokio::fs::File::from_std(file).take(length);
            let pieces = futures::stream::try_unfold(file, |mut file| async move {
                let mut piece = vec![0; PIECE];
                let n = file.read(&mut piece).await?;
                piece.truncate(n);
                Ok::<_, std::io::Error>((n > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
            });
            let mut response = plain(StatusCode::OK, "");
            *response.body_mut() = StreamBody::new(pieces).boxed_unsync();
            response
        }
        Ok(Found::Missing) => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Whether a directory was asked for without the slash at its end, where links in its listing lead elsewhere.
pub fn is_directory_without_slash(config: &KubeletConfig, path: &str) -> bool {
    let below = path.strip_prefix("/logs/").unwrap_or_default();
    !below.is_empty() && !below.ends_with('/') && Path::new(&config.log_dir).join(below).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logs_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::create_dir_all(log.join("pods")).unwrap();
        std::fs::write(log.join("a<b"), "text").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", log.join("out")).unwrap();
        nix::unistd::mkfifo(&log.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let roots = [log.clone()];
        let Found::Directory(names) = look("", &roots) else {
            panic!()
        };
        assert!(listing(&names).contains("<a href=\"a%3Cb\">a&lt;b</a>\n") && listing(&names).contains("pods/</a>"));
        assert!(matches!(look("a<b", &roots), Found::File(_, 4)));
        for path in ["out", "../secret", "fifo", "none", "/etc/passwd"] {
            assert!(matches!(look(path, &roots), Found::Missing), "{path}");
        }
    }
}
