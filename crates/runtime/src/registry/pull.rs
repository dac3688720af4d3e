//! A pull: the name resolved to a manifest, its blobs downloaded side by side, unpacked while they come.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http::{StatusCode, header};
use tokio::sync::Semaphore;

use super::Resolve;
use super::auth::{self, Credentials};
use super::download::Download;
use super::error::PullError;
use super::http::{Answer, Http, Outgoing};
use super::registries::{Endpoint, Registries};
use crate::image::manifest::{Configuration, Descriptor, Document, choose};
use crate::image::reference::{Reference, is_digest};
use crate::image::store::{Image, ImageStore, Layers, StoreError};
use crate::image::unpack::digest_of;

const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Documents are small; a larger one is refused. Bytes.
const LARGEST_DOCUMENT: usize = 8 << 20;
/// An index may hold indexes; deeper than this nobody nests them.
const DEEPEST: usize = 4;
/// Layers of one image on their way at a time, as upstream.
const AT_ONCE: usize = 3;

/// Pulls images into a store.
pub struct Puller {
    http: Http,
    /// Downloads under way, by digest.
    downloads: Mutex<HashMap<String, Arc<Download>>>,
}

/// One endpoint with what it wants to see.
pub struct Session {
    http: Http,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<String>>,
}

impl Session {
    async fn get(&self, rest: &str, accept: &[&'static str], offset: u64) -> Result<Answer, PullError> {
        let Endpoint { base, path, namespace } = &self.endpoint;
        let query = namespace.as_ref().map_or_else(String::new, |n| format!("?ns={n}"));
        let known = || {
            self.authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let mut outgoing = Outgoing {
            url: format!("{base}/v2/{path}/{rest}{query}"),
            accept: accept.to_vec(),
            authorization: known(),
            offset,
            form: None,
        };
        let answer = self.http.send(&outgoing).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenges: Vec<String> = answer
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok().map(str::to_owned))
            .collect();
        let proof = auth::answer(&self.http, &challenges, path, self.credentials.as_ref()).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(proof.clone());
        outgoing.authorization = Some(proof);
        self.http.send(&outgoing).await
    }

    pub(crate) async fn blob(&self, digest: &str, offset: u64) -> Result<Answer, PullError> {
        self.get(&format!("blobs/{digest}"), &[], offset).await
    }

    async fn manifest(&self, name: &str, full: &str) -> Result<Vec<u8>, PullError> {
        let answer = self.get(&format!("manifests/{name}"), &MANIFESTS, 0).await?;
        match answer.status {
            StatusCode::OK => answer.text(LARGEST_DOCUMENT).await,
            StatusCode::NOT_FOUND => Err(PullError::NotFound(full.to_owned())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PullError::Denied("insufficient_scope".to_owned())),
            _ => Err(answer.refused().await),
        }
    }
}

fn checked(what: &str, text: &[u8], expected: &str) -> Result<(), PullError> {
    let found = digest_of(text);
    if found == expected {
        return Ok(());
    }
    Err(PullError::Digest {
        what: what.to_owned(),
        found,
        expected: expected.to_owned(),
    })
}

/// A digest becomes a file's name and a part of a URL.
fn valid(what: &str, digest: &str) -> Result<(), PullError> {
    if is_digest(digest) {
        return Ok(());
    }
    Err(PullError::Document {
        what: what.to_owned(),
        reason: format!("digest {digest:?} is not supported"),
    })
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, PullError> {
    serde_json::from_slice(text).map_err(|e| PullError::Document {
        what: what.to_owned(),
        reason: e.to_string(),
    })
}

/// A manifest and where it was found.
struct Resolved {
    session: Arc<Session>,
    /// Of what the name leads to: an index or the manifest itself.
    top: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    /// Bytes of all of it.
    size: u64,
}

/// Layers for the store: downloads, read while they grow.
struct Blobs(Vec<Option<Arc<Download>>>);

impl Layers for Blobs {
    fn open(&mut self, n: usize) -> Result<Box<dyn Read + '_>, StoreError> {
        let failed = |text: String| StoreError::Image {
            image: "manifest".to_owned(),
            text,
        };
        let download = self.0.get(n).and_then(Option::as_ref);
        let download = download.ok_or_else(|| failed(format!("layer {n} was removed during the pull")))?;
        let reader = download.reader().map_err(|e| failed(e.to_string()))?;
        Ok(Box::new(reader))
    }
}

impl Puller {
    /// A puller for these registries, whose hosts `resolve` finds.
    pub fn new(registries: Registries, resolve: Resolve) -> Self {
        Self {
            http: Http { registries, resolve },
            downloads: Mutex::default(),
        }
    }

    /// Pulls what the name means today, and gives the image.
    pub async fn pull(
        &self,
        store: &Arc<ImageStore>,
        name: &str,
        credentials: Option<Credentials>,
    ) -> Result<Image, PullError> {
        let reference = Reference::parse(name)?;
        let full = reference.to_string();
        let named = |source| PullError::Pull {
            name: full.clone(),
            source: Box::new(source),
        };
        let resolved = self.resolve(&reference, credentials).await.map_err(|source| {
            named(PullError::Resolve {
                source: Box::new(source),
            })
        })?;
        self.take(store, reference.clone(), resolved).await.map_err(named)
    }

    async fn resolve(&self, reference: &Reference, credentials: Option<Credentials>) -> Result<Resolved, PullError> {
        let mut worst: Option<PullError> = None;
        for endpoint in self.http.registries.endpoints(&reference.host, &reference.path) {
            let host = endpoint.base.split("://").nth(1).unwrap_or_default();
            let host = host.split('/').next().unwrap_or_default();
            // A mirror was named by the node's administrator: it may see what the kubelet brings, as with upstream.
            let own = self.http.registries.credentials(host);
            let session = Arc::new(Session {
                http: self.http.clone(),
                credentials: credentials.clone().or(own),
                endpoint,
                authorization: Mutex::default(),
            });
            match find(session, reference).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => {
                    tracing::debug!(%error, image = %reference, "endpoint does not serve the image");
                    // That it is nowhere is said only when nobody had another trouble.
                    if worst.as_ref().is_none_or(|w| matches!(w, PullError::NotFound(_))) {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| PullError::NotFound(reference.to_string())))
    }

    async fn take(
        &self,
        store: &Arc<ImageStore>,
        reference: Reference,
        resolved: Resolved,
    ) -> Result<Image, PullError> {
        let answer = resolved.session.blob(&resolved.config.digest, 0).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.refused().await);
        }
        let config = answer.text(LARGEST_DOCUMENT).await?;
        checked("configuration", &config, &resolved.config.digest)?;
        let parsed: Configuration = parse("configuration", &config)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != resolved.layers.len() {
            return Err(PullError::Document {
                what: "manifest".to_owned(),
                reason: format!(
                    "it has {} layers, its configuration {}",
                    resolved.layers.len(),
                    diff_ids.len()
                ),
            });
        }
        let dir = store.ingest_dir();
        std::fs::create_dir_all(&dir).map_err(|error| PullError::Io {
            path: dir.display().to_string(),
            error,
        })?;
        let (mut blobs, mut running) = (Vec::new(), tokio::task::JoinSet::new());
        let room = Arc::new(Semaphore::new(AT_ONCE));
        for (n, layer) in resolved.layers.iter().enumerate() {
            if store.has_layer(&diff_ids[..=n]) {
                blobs.push(None);
                continue;
            }
            let (download, fresh) = self.download(&dir, &layer.digest);
            if fresh {
                let (download, session, room) = (download.clone(), resolved.session.clone(), room.clone());
                running.spawn(async move {
                    // The semaphore is never closed.
                    let _permit = room.acquire_owned().await;
                    download.run(&session).await;
                });
            }
            blobs.push(Some(download));
        }
        let (own, names, top) = (store.clone(), vec![reference], resolved.top);
        let size = Some(resolved.size);
        let mut layers = Blobs(blobs);
        let downloads: Vec<Arc<Download>> = layers.0.iter().flatten().cloned().collect();
        let added = tokio::task::spawn_blocking(move || own.add(&config, &names, Some(&top), size, &mut layers)).await;
        let added = added.map_err(|e| PullError::Shared(e.to_string()))?;
        // A download that another pull shares goes on for that one, too: it is small change against starting again.
        while running.join_next().await.is_some() {}
        self.forget(&downloads, added.is_ok());
        added.map_err(PullError::from)
    }

    /// The download of a blob, and whether it has yet to be started.
    fn download(&self, dir: &Path, digest: &str) -> (Arc<Download>, bool) {
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = downloads.get(digest).filter(|d| !d.failed()) {
            return (known.clone(), false);
        }
        let download = Arc::new(Download::new(dir, digest));
        downloads.insert(digest.to_owned(), download.clone());
        (download, true)
    }

    /// Drops downloads that no other pull has; the files of unpacked layers with them.
    fn forget(&self, done: &[Arc<Download>], unpacked: bool) {
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        for download in done {
            // The map's and ours.
            if Arc::strong_count(download) <= 2 {
                downloads.remove(&download.digest);
                if unpacked {
                    download.discard();
                }
            }
        }
    }
}

/// Follows the name to the manifest for this machine.
async fn find(session: Arc<Session>, reference: &Reference) -> Result<Resolved, PullError> {
    let name = reference.digest.as_ref().or(reference.tag.as_ref());
    let mut name = name.cloned().unwrap_or_else(|| "latest".to_owned());
    let (mut expected, mut top) = (reference.digest.clone(), None);
    for _ in 0..DEEPEST {
        let text = session.manifest(&name, &reference.to_string()).await?;
        let digest = digest_of(&text);
        if let Some(expected) = &expected {
            checked("manifest", &text, expected)?;
        }
        let top = top.get_or_insert(digest).clone();
        let document: Document = parse("manifest", &text)?;
        if let Some(manifests) = &document.manifests {
            let fitting = choose(manifests).ok_or_else(|| PullError::Platform(reference.to_string()))?;
            valid("index", &fitting.digest)?;
            name.clone_from(&fitting.digest);
            expected = Some(fitting.digest.clone());
            continue;
        }
        let size = document.size(text.len());
        let config = document.config.ok_or_else(|| PullError::Document {
            what: "manifest".to_owned(),
            reason: "it names no configuration".to_owned(),
        })?;
        for digest in document.layers.iter().chain([&config]).map(|d| &d.digest) {
            valid("manifest", digest)?;
        }
        return Ok(Resolved {
            session,
            top,
            config,
            layers: document.layers,
            size,
        });
    }
    Err(PullError::Document {
        what: "manifest".to_owned(),
        reason: "indexes are nested too deeply".to_owned(),
    })
}
