//! Who may use an image that is on the node: records of what the kubelet pulled and with whose credentials, kept across
//! restarts (KEP-2535). Files and format are upstream's, `<root>/image_manager/{pulling,pulled}`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// A record that holds so many secrets learns no more of them from pods that merely match.
const MOST_LEARNT: usize = 100;

/// `imagePullCredentialsVerificationPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum VerificationPolicy {
    /// All images are everybody's.
    NeverVerify,
    /// Images that the kubelet did not pull itself are everybody's.
    #[default]
    NeverVerifyPreloadedImages,
    /// Only images of these repositories, or below those that end in `/*`, are everybody's.
    NeverVerifyAllowlistedImages(Vec<String>),
    /// No image is anybody's who may not pull it.
    AlwaysVerify,
}

/// Why fields of `KubeletConfiguration` name no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationPolicyError {
    /// There is no policy of this name.
    #[error("{0:?} is not a policy")]
    Unknown(String),
    /// There is a list of images that the policy does not look at.
    #[error("preloadedImagesVerificationAllowlist needs the policy NeverVerifyAllowlistedImages")]
    Allowlist,
    /// An entry of the list is no repository.
    #[error("{0:?} is no repository, with /* at its end or without")]
    Pattern(String),
}

impl VerificationPolicy {
    /// By the names of `KubeletConfiguration`.
    pub fn parse(name: &str, allowlist: Vec<String>) -> Result<VerificationPolicy, VerificationPolicyError> {
        if name != "NeverVerifyAllowlistedImages" && !allowlist.is_empty() {
            return Err(VerificationPolicyError::Allowlist);
        }
        match name {
            "" | "NeverVerifyPreloadedImages" => Ok(VerificationPolicy::NeverVerifyPreloadedImages),
            "NeverVerify" => Ok(VerificationPolicy::NeverVerify),
            "AlwaysVerify" => Ok(VerificationPolicy::AlwaysVerify),
            "NeverVerifyAllowlistedImages" => {
                for pattern in &allowlist {
                    let body = pattern.strip_suffix("/*").unwrap_or(pattern);
                    if body.is_empty() || body.contains('*') || body.trim() != body || repository(body) != body {
                        return Err(VerificationPolicyError::Pattern(pattern.clone()));
                    }
                }
                Ok(VerificationPolicy::NeverVerifyAllowlistedImages(allowlist))
            }
            other => Err(VerificationPolicyError::Unknown(other.to_owned())),
        }
    }

    /// The policy as configurations write it.
    pub fn as_str(&self) -> &'static str {
        match self {
            VerificationPolicy::NeverVerify => "NeverVerify",
            VerificationPolicy::NeverVerifyPreloadedImages => "NeverVerifyPreloadedImages",
            VerificationPolicy::NeverVerifyAllowlistedImages(_) => "NeverVerifyAllowlistedImages",
            VerificationPolicy::AlwaysVerify => "AlwaysVerify",
        }
    }

    fn verifies(&self, image: &str, pulled_by_kubelet: bool) -> bool {
        match self {
            VerificationPolicy::NeverVerify => false,
            VerificationPolicy::NeverVerifyPreloadedImages => pulled_by_kubelet,
            VerificationPolicy::AlwaysVerify => true,
            VerificationPolicy::NeverVerifyAllowlistedImages(list) => {
                let name = repository(image);
                !list.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None => name == *pattern,
                })
            }
        }
    }
}

/// The image's name without its tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rfind('/').map_or(0, |i| i + 1);
    name[last..].find(':').map_or(name, |i| &name[..last + i])
}

/// A Secret that a login came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// Of the login, so that another Secret with the same one is as good.
    #[serde(default)]
    pub credential_hash: String,
}

impl PullSecret {
    fn same_object(&self, other: &PullSecret) -> bool {
        (&self.uid, &self.namespace, &self.name) == (&other.uid, &other.namespace, &other.name)
    }
}

/// With what an image was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PulledWith {
    /// With nothing, or with what the whole node has: it is everybody's.
    Node,
    Secret(PullSecret),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<PullSecret>,
    /// Of credential providers, which this kubelet does not run; another one may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_service_accounts: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

impl Credentials {
    /// Whether that is news.
    fn learn(&mut self, with: &PulledWith) -> bool {
        if self.node_pods_accessible {
            return false;
        }
        match with {
            PulledWith::Node => {
                *self = Credentials {
                    node_pods_accessible: true,
                    ..Credentials::default()
                };
                true
            }
            PulledWith::Secret(secret) => {
                if self.kubernetes_secrets.contains(secret) {
                    return false;
                }
                self.kubernetes_secrets.retain(|s| !s.same_object(secret));
                self.kubernetes_secrets.push(secret.clone());
                self.kubernetes_secrets
                    .sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
                true
            }
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    kind: String,
    api_version: String,
    last_updated_time: Timestamp,
    image_ref: String,
    /// By the image's name without tag and digest, as pods write it.
    #[serde(default)]
    credential_mapping: BTreeMap<String, Credentials>,
}

/// An image that is being pulled, or was when the kubelet ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    kind: String,
    api_version: String,
    image: String,
}

/// The records of one node.
#[derive(Debug)]
pub struct PullRecords {
    pulling: PathBuf,
    pulled: PathBuf,
    policy: VerificationPolicy,
    /// How many pulls of an image are under way. Held while files are read or written.
    under_way: Mutex<HashMap<String, u32>>,
}

fn file_name(of: &str) -> String {
    Sha256::digest(of.as_bytes())
        .iter()
        .fold("sha256-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// `None` where there is no file.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    files::replace_own(path, &serde_json::to_vec(value)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Every record of a directory that can be read.
fn all<T: serde::de::DeserializeOwned>(dir: &Path) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some() {
            continue;
        }
        match read(&path) {
            Ok(record) => found.extend(record),
            Err(error) => tracing::warn!(path = %path.display(), %error, "record of an image not read"),
        }
    }
    Ok(found)
}

impl PullRecords {
    /// Opens the records below the kubelet's directory.
    pub fn open(root_dir: &Path, policy: VerificationPolicy) -> io::Result<PullRecords> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = root_dir.join("image_manager");
        let records = PullRecords {
            pulling: dir.join("pulling"),
            pulled: dir.join("pulled"),
            policy,
            under_way: Mutex::default(),
        };
        for dir in [&records.pulling, &records.pulled] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(records)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls that an earlier kubelet did not see end: who may use the images is to be verified. `images` are the
    /// runtime's, each with its id and its names.
    pub fn take_over(&self, images: &[(String, Vec<String>)]) -> io::Result<()> {
        let _under_way = self.lock();
        for intent in all::<Intent>(&self.pulling)? {
            for (id, _) in images.iter().filter(|(_, names)| names.contains(&intent.image)) {
                self.learn(&intent.image, id, None)?;
                remove(&self.pulling.join(file_name(&intent.image)))?;
            }
        }
        Ok(())
    }

    /// Before an image is pulled. One that comes is known to be the kubelet's, whatever happens meanwhile.
    pub fn begin(&self, image: &str) -> io::Result<()> {
        let mut under_way = self.lock();
        let intent = Intent {
            kind: "ImagePullIntent".to_owned(),
            api_version: API_VERSION.to_owned(),
            image: image.to_owned(),
        };
        write(&self.pulling.join(file_name(image)), &intent)?;
        *under_way.entry(image.to_owned()).or_insert(0) += 1;
        Ok(())
    }

    /// After a pull. `came` is the image's id and with what it was pulled.
    pub fn end(&self, image: &str, came: Option<(&str, &PulledWith)>) -> io::Result<()> {
        let mut under_way = self.lock();
        if let Some((image_ref, with)) = came {
            // Where this fails the intent stays, which says as well that the kubelet pulled it.
            self.learn(image, image_ref, Some(with))?;
        }
        match under_way.get_mut(image) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                remove(&self.pulling.join(file_name(image)))?;
                under_way.remove(image);
            }
        }
        Ok(())
    }

    fn learn(&self, image: &str, image_ref: &str, with: Option<&PulledWith>) -> io::Result<()> {
        let path = self.pulled.join(file_name(image_ref));
        let known = read::<Record>(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "record of an image not read; it is made anew");
            None
        });
        let mut news = known.is_none();
        let mut record = known.unwrap_or_else(|| Record {
            kind: "ImagePulledRecord".to_owned(),
            api_version: API_VERSION.to_owned(),
            last_updated_time: Timestamp::now(),
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        });
        if let Some(with) = with {
            let credentials = record
                .credential_mapping
                .entry(repository(image).to_owned())
                .or_default();
            news |= credentials.learn(with);
        }
        if !news {
            return Ok(());
        }
        record.last_updated_time = Timestamp::now();
        write(&path, &record)
    }

    /// Whether a pod with these secrets must prove by a pull that it may use the image, which is on the node.
    pub fn must_pull(&self, image: &str, image_ref: &str, secrets: &[PullSecret]) -> bool {
        let under_way = self.lock();
        let record = match read::<Record>(&self.pulled.join(file_name(image_ref))) {
            Ok(record) => record.filter(|r| r.image_ref == image_ref),
            Err(error) => {
                tracing::warn!(image, %error, "record of the image not read");
                return true;
            }
        };
        let by_kubelet = record.is_some()
            || under_way.contains_key(image)
            || match read::<Intent>(&self.pulling.join(file_name(image))) {
                Ok(intent) => intent.is_some_and(|i| i.image == image),
                Err(error) => {
                    tracing::warn!(image, %error, "record of the image not read");
                    return true;
                }
            };
        if !self.policy.verifies(image, by_kubelet) {
            return false;
        }
        let Some(known) = record.and_then(|mut r| r.credential_mapping.remove(repository(image))) else {
            return true;
        };
        if known.node_pods_accessible {
            return false;
        }
        for secret in secrets {
            for cached in &known.kubernetes_secrets {
                let same_login = !cached.credential_hash.is_empty() && cached.credential_hash == secret.credential_hash;
                let same_object = cached.same_object(secret);
                let room = known.kubernetes_secrets.len() < MOST_LEARNT;
                // The same login in another object, or the object with a login that was changed since: it is learnt.
                let known_again = same_login || same_object && room;
                if known_again && room && same_login != same_object {
                    let with = PulledWith::Secret(secret.clone());
                    if let Err(error) = self.learn(image, image_ref, Some(&with)) {
                        tracing::warn!(image, %error, "record of the image not written");
                    }
                }
                if known_again {
                    return false;
                }
            }
        }
        true
    }

    /// Forgets images that are on the node no more, but for what was recorded since `until`.
    pub fn prune(&self, images: &HashSet<String>, until: Timestamp) -> io::Result<()> {
        let _under_way = self.lock();
        for record in all::<Record>(&self.pulled)? {
            if record.last_updated_time < until && !images.contains(&record.image_ref) {
                remove(&self.pulled.join(file_name(&record.image_ref)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, hash: &str) -> PullSecret {
        PullSecret {
            uid: uid.into(),
            namespace: "n".into(),
            name: "s".into(),
            credential_hash: hash.into(),
        }
    }

    fn open(dir: &Path) -> PullRecords {
        PullRecords::open(dir, VerificationPolicy::default()).unwrap()
    }

    #[test]
    fn an_image_is_for_those_whose_secret_brought_it_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let records = open(dir.path());
        assert!(!records.must_pull("r/x:1", "id", &[]), "nobody pulled it: preloaded");
        records.begin("r/x:1").unwrap();
        assert!(records.must_pull("r/x:1", "id", &[]), "it may be coming just now");
        let with = PulledWith::Secret(secret("1", "h"));
        records.end("r/x:1", Some(("id", &with))).unwrap();
        for records in [records, open(dir.path())] {
            assert!(!records.must_pull("r/x:1", "id", &[secret("1", "h")]));
            assert!(
                !records.must_pull("r/x:2", "id", &[secret("2", "h")]),
                "another one with the same login"
            );
            assert!(
                !records.must_pull("r/x", "id", &[secret("1", "new")]),
                "the same one with a new login"
            );
            assert!(records.must_pull("r/x:1", "id", &[secret("3", "wrong")]));
            assert!(records.must_pull("r/x:1", "id", &[]));
            assert!(
                records.must_pull("r/y:1", "id", &[secret("1", "h")]),
                "another repository"
            );
        }
    }

    #[test]
    fn an_image_that_needed_no_secret_is_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let records = open(dir.path());
        records.begin("x").unwrap();
        records.end("x", Some(("id", &PulledWith::Node))).unwrap();
        assert!(!records.must_pull("x", "id", &[]));
    }

    #[test]
    fn a_pull_whose_end_nobody_saw_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).begin("r/x:1").unwrap();
        let records = open(dir.path());
        let image = ("id".to_owned(), vec!["r/x:1".to_owned()]);
        records.take_over(&[image]).unwrap();
        assert!(fs::read_dir(&records.pulling).unwrap().next().is_none());
        assert!(records.must_pull("r/x:1", "id", &[]));
        records.prune(&HashSet::new(), Timestamp::MAX).unwrap();
        assert!(fs::read_dir(&records.pulled).unwrap().next().is_none());
    }

    #[test]
    fn policies_say_which_images_are_verified() {
        let allow = |list: &[&str]| {
            let list = list.iter().map(|s| (*s).to_owned()).collect();
            VerificationPolicy::parse("NeverVerifyAllowlistedImages", list)
        };
        let listed = allow(&["r/x", "q/*"]).unwrap();
        for (image, verified) in [
            ("r/x:1", false),
            ("r/x/y", true),
            ("q/a/b@sha256:0", false),
            ("q", true),
        ] {
            assert_eq!(listed.verifies(image, true), verified, "{image}");
        }
        for wrong in ["*", "a*", "a:1", "", "/*"] {
            assert!(allow(&[wrong]).is_err(), "{wrong}");
        }
        assert!(VerificationPolicy::parse("Sometimes", Vec::new()).is_err());
        assert!(!VerificationPolicy::NeverVerify.verifies("x", true));
        assert!(VerificationPolicy::AlwaysVerify.verifies("x", false));
    }
}
