//! Files of a folder, as a proxy serves them.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::{Answer, plain};

/// Returns a file, a folder's index.html or its list. `path` is below the prefix.
pub fn serve(root: &Path, path: &str) -> Answer {
    let not_found = || plain(StatusCode::NOT_FOUND, "404 page not found\n");
    let Some(file) = below(root, path) else {
        return not_found();
    };
    if !file.is_dir() {
        return content(&file).unwrap_or_else(not_found);
    }
    if !path.is_empty() && !path.ends_with('/') {
        let name = path.rsplit('/').next().unwrap_or(path);
        return Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header(header::LOCATION, format!("{name}/"))
            .body(client::body_of(Bytes::new()))
            .unwrap_or_else(|_| not_found());
    }
    content(&file.join("index.html"))
        .or_else(|| list(&file))
        .unwrap_or_else(not_found)
}

/// A path that does not leave the folder.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let plain = Path::new(&*path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    plain.then(|| root.join(&*path))
}

fn content(file: &Path) -> Option<Answer> {
    let bytes = std::fs::read(file).ok()?;
    let kind = match file.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "wasm" => "application/wasm",
        "xml" => "text/xml; charset=utf-8",
        "pdf" => "application/pdf",
        _ if std::str::from_utf8(&bytes).is_ok() => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let response = Response::builder().header(header::CONTENT_TYPE, kind);
    response.body(client::body_of(Bytes::from(bytes))).ok()
}

fn list(folder: &Path) -> Option<Answer> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
    };
    let line = |name: &String| {
        let link = crate::api::escape(name).replace("%2F", "/");
        format!("<a href=\"{link}\">{}</a>\n", escape(name))
    };
    let lines: String = names.iter().map(line).collect();
    let page =
        format!("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{lines}</pre>\n");
    let response = Response::builder().header(header::CONTENT_TYPE, "text/html; charset=utf-8");
    response.body(client::body_of(Bytes::from(page))).ok()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn asked(root: &Path, path: &str) -> (u16, String) {
        let answer = serve(root, path);
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn files_are_served_and_nothing_outside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("www");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("a b.txt"), "hello").unwrap();
        std::fs::write(folder.path().join("secret"), "no").unwrap();
        assert_eq!(asked(&root, "a%20b.txt").await, (200, "hello".to_owned()));
        assert_eq!(asked(&root, "../secret").await.0, 404);
        assert_eq!(asked(&root, "%2e%2e/secret").await.0, 404);
        assert_eq!(asked(&root, "sub").await.0, 301);
        let (code, page) = asked(&root, "").await;
        assert!(
            code == 200 && page.contains("<a href=\"a%20b.txt\">a b.txt</a>\n<a href=\"sub/\">"),
            "{page}"
        );
        std::fs::write(root.join("index.html"), "<p>").unwrap();
        assert_eq!(asked(&root, "").await, (200, "<p>".to_owned()));
    }
}
