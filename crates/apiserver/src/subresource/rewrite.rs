//! What comes back through a proxy and names its own place: links of pages and redirects then lead through the proxy.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;

use crate::http::status::{ApiError, Result};
use crate::server::body::{self, Body};

/// Elements and those of their attributes that hold URLs.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 9] = [
    "iframe", "noembed", "noframes", "noscript", "script", "style", "textarea", "title", "xmp",
];

/// How links in the answers of a backend are changed so that they lead through this server (`transport.go`).
pub struct Rewrite {
    /// Path under which the client reaches the backend, without a slash at the end.
    pub prefix: String,
    /// The host that the client asked.
    pub host: String,
}

impl Rewrite {
    /// The answer with its redirect, and the links of an HTML page, changed.
    ///
    /// # Errors
    /// `500` for what fits into no header, `503` when the page does not come whole.
    pub async fn response(&self, response: Response<Body>) -> Result<Response<Body>> {
        let (mut parts, body) = response.into_parts();
        let text = |name: &header::HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(location) = text(&header::LOCATION) {
            let location = HeaderValue::from_str(&self.url(location)).map_err(ApiError::internal)?;
            parts.headers.insert(header::LOCATION, location);
            return Ok(Response::from_parts(parts, body));
        }
        let media_type = text(&header::CONTENT_TYPE).unwrap_or_default();
        let is_page = media_type.split(';').next().is_some_and(|t| t.trim() == "text/html");
        let encoding = text(&header::CONTENT_ENCODING).unwrap_or_default();
        if !is_page || !matches!(encoding, "" | "gzip" | "deflate") {
            return Ok(Response::from_parts(parts, body));
        }
        let failed = |e: std::io::Error| ApiError::unavailable(format!("error trying to reach service: {e}"));
        let sent = body.collect().await.map_err(failed)?.to_bytes();
        let mut page = Vec::new();
        match encoding {
            "gzip" => GzDecoder::new(&*sent).read_to_end(&mut page).map_err(failed)?,
            "deflate" => DeflateDecoder::new(&*sent).read_to_end(&mut page).map_err(failed)?,
            _ => sent.as_ref().read_to_end(&mut page).map_err(failed)?,
        };
        let page = self.page(&page);
        let bytes = match encoding {
            "gzip" => {
                let mut out = GzEncoder::new(Vec::new(), Compression::default());
                out.write_all(&page).and_then(|()| out.finish()).map_err(failed)?
            }
            "deflate" => {
                let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
                out.write_all(&page).and_then(|()| out.finish()).map_err(failed)?
            }
            _ => page,
        };
        parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
        Ok(Response::from_parts(parts, body::full(bytes)))
    }

    /// The URL as the client must ask for it: those of other hosts, relative ones and those that are right already stay.
    fn url(&self, url: &str) -> String {
        let (host, path) = match url.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                rest.split_at(end)
            }
            _ => ("", url),
        };
        let elsewhere = !host.is_empty() && host != self.host;
        if elsewhere || !path.starts_with('/') || path.starts_with(&self.prefix) {
            return url.to_owned();
        }
        format!("{}{path}", self.prefix)
    }

    /// The page with its links rewritten; all else stays byte for byte.
    fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + 256);
        let mut scanner = Scanner { page, at: 0 };
        let mut copied = 0;
        while let Some(tag) = scanner.tag() {
            let Some((_, names)) = LINKS.iter().find(|(name, _)| *name == tag) else {
                scanner.skip_content(&tag);
                continue;
            };
            while let Some((name, value)) = scanner.attribute() {
                let Ok(url) = std::str::from_utf8(&page[value.clone()]) else {
                    continue;
                };
                if names.contains(&name.as_str()) {
                    out.extend_from_slice(&page[copied..value.start]);
                    out.extend_from_slice(self.url(url).as_bytes());
                    copied = value.end;
                }
            }
            scanner.skip_content(&tag);
        }
        out.extend_from_slice(&page[copied..]);
        out
    }
}

/// Finds start tags and their attributes in HTML.
struct Scanner<'a> {
    page: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &[u8] {
        self.page.get(self.at..).unwrap_or_default()
    }

    fn skip_past(&mut self, end: &[u8]) {
        let found = self.rest().windows(end.len()).position(|w| w.eq_ignore_ascii_case(end));
        self.at = found.map_or(self.page.len(), |i| self.at + i + end.len());
    }

    fn skip_while(&mut self, of: impl Fn(u8) -> bool) -> std::ops::Range<usize> {
        let start = self.at;
        self.at += self.rest().iter().take_while(|b| of(**b)).count();
        start..self.at
    }

    /// The name of the next start tag, in lower case; stands behind the name then.
    fn tag(&mut self) -> Option<String> {
        loop {
            self.skip_while(|b| b != b'<');
            if self.rest().starts_with(b"<!--") {
                self.skip_past(b"-->");
                continue;
            }
            self.at += 1;
            let first = *self.page.get(self.at)?;
            if first.is_ascii_alphabetic() {
                let name = self.skip_while(|b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>'));
                return Some(String::from_utf8_lossy(&self.page[name]).to_ascii_lowercase());
            }
        }
    }

    /// The next attribute's name and where its value is; `None` at the end of the tag.
    fn attribute(&mut self) -> Option<(String, std::ops::Range<usize>)> {
        self.skip_while(|b| b.is_ascii_whitespace() || b == b'/');
        let name = self.skip_while(|b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>' | b'='));
        if name.is_empty() {
            return None;
        }
        let name = String::from_utf8_lossy(&self.page[name]).to_ascii_lowercase();
        self.skip_while(|b| b.is_ascii_whitespace());
        if self.rest().first() != Some(&b'=') {
            return Some((name, self.at..self.at));
        }
        self.at += 1;
        self.skip_while(|b| b.is_ascii_whitespace());
        let value = match self.rest().first() {
            Some(quote @ (b'"' | b'\'')) => {
                let quote = *quote;
                self.at += 1;
                let value = self.skip_while(|b| b != quote);
                self.at += 1;
                value
            }
            _ => self.skip_while(|b| !b.is_ascii_whitespace() && b != b'>'),
        };
        Some((name, value))
    }

    /// Goes to the end of an element whose content is no markup, else to the end of the tag.
    fn skip_content(&mut self, tag: &str) {
        while self.attribute().is_some() {}
        if RAW.contains(&tag) {
            self.skip_past(format!("</{tag}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite() -> Rewrite {
        Rewrite {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".into(),
            host: "api:6443".into(),
        }
    }

    #[test]
    fn links_to_the_backend_lead_through_the_proxy() {
        let page = r#"<!DOCTYPE html><!-- <a href="/x"> --><A class=b HREF='/x?y'>t</A><a href="z">< b</a><img src=/i.png>
            <script src="/s.js">"<a href='/no'>"</script><a href="https://other/x"><a href=//api:6443/x><p href="/p">"#;
        let want = r#"<!DOCTYPE html><!-- <a href="/x"> --><A class=b HREF='P/x?y'>t</A><a href="z">< b</a><img src=P/i.png>
            <script src="P/s.js">"<a href='/no'>"</script><a href="https://other/x"><a href=P/x><p href="/p">"#;
        let want =
            want.replace('P', &rewrite().prefix)
                .replacen(&format!("<!DOCTY{}E", rewrite().prefix), "<!DOCTYPE", 1);
        assert_eq!(String::from_utf8(rewrite().page(page.as_bytes())).unwrap(), want);
    }

    #[test]
    fn pages_that_end_in_the_middle_stay_as_they_are() {
        for page in ["", "<", "<a", "<a href", "<a href=", "<a href=\"", "<!--", "<script>"] {
            assert_eq!(rewrite().page(page.as_bytes()), page.as_bytes());
        }
    }
}
