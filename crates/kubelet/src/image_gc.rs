//! Removes images that no container uses, the longest unused first: when the disk of images is too full, when they are too old,
//! and before pods are evicted for want of disk. Upstream: `pkg/kubelet/images/image_gc_manager.go`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::machine;
use crate::node_context::NodeContext;
use crate::runtime;

/// Upstream's `ImageGCPeriod`.
const PERIOD: Duration = Duration::from_secs(300);

/// Which images go: the fields of a `KubeletConfiguration` that begin with `image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Percent of the disk in use from which images are removed; 100 is never.
    pub high_threshold: i64,
    /// Percent of the disk in use down to which they are removed.
    pub low_threshold: i64,
    /// A younger image is not removed: it may just have been pulled for a container.
    pub minimum_age: Duration,
    /// An image that was unused for longer goes however empty the disk is; zero is never.
    pub maximum_age: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            high_threshold: 85,
            low_threshold: 80,
            minimum_age: Duration::from_secs(120),
            maximum_age: Duration::ZERO,
        }
    }
}

/// Why a policy cannot be followed, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{name} ({flag}) {percent} must be between 0 and 100, inclusive")]
    Percent {
        name: &'static str,
        flag: &'static str,
        percent: i64,
    },
    #[error(
        "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
    )]
    Order { low: i64, high: i64 },
    #[error("imageMaximumGCAge {} must be greater than imageMinimumGCAge {}", crate::config::duration(*.maximum), crate::config::duration(*.minimum))]
    Age { maximum: Duration, minimum: Duration },
}

impl Policy {
    /// # Errors
    /// When it cannot be followed.
    pub fn check(&self) -> Result<(), PolicyError> {
        let (high, low) = (self.high_threshold, self.low_threshold);
        for (name, flag, percent) in [
            ("imageGCHighThresholdPercent", "--image-gc-high-threshold", high),
            ("imageGCLowThresholdPercent", "--image-gc-low-threshold", low),
        ] {
            if !(0..=100).contains(&percent) {
                return Err(PolicyError::Percent { name, flag, percent });
            }
        }
        if low >= high {
            return Err(PolicyError::Order { low, high });
        }
        if !self.maximum_age.is_zero() && self.maximum_age <= self.minimum_age {
            return Err(PolicyError::Age {
                maximum: self.maximum_age,
                minimum: self.minimum_age,
            });
        }
        Ok(())
    }

    /// The percent in use, and the bytes to win back; nothing while the disk is not too full.
    fn excess(&self, capacity: u64, available: u64) -> Option<(i64, u64)> {
        let (capacity, available) = (i128::from(capacity), i128::from(available.min(capacity)));
        let used = 100 - i64::try_from(available * 100 / capacity.max(1)).unwrap_or(100);
        let wanted = capacity * i128::from(100 - self.low_threshold) / 100 - available;
        (used >= self.high_threshold).then(|| (used, u64::try_from(wanted).unwrap_or(0)))
    }
}

/// Why images could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The runtime does not answer.
    #[error(transparent)]
    Runtime(#[from] runtime::RuntimeError),
    /// The disk of images is not found.
    #[error("no file system of images")]
    NoFileSystem,
    /// The disk of images says that it has no room at all.
    #[error("invalid capacity 0 on image filesystem")]
    NoCapacity,
    /// All that nobody uses is gone, and it is not enough.
    #[error("{0}")]
    NotEnough(String),
    /// The runtime refuses to remove some.
    #[error("wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: {errors}")]
    Removal { wanted: u64, freed: u64, errors: String },
}

/// What is known of an image beside what the runtime says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    first_seen: Instant,
    last_used: Option<Instant>,
    size: u64,
    pinned: bool,
}

/// The images that were seen, by id.
#[derive(Debug, Default)]
struct Records(HashMap<String, Record>);

impl Records {
    fn note(&mut self, images: &[v1::Image], used: &HashSet<String>, now: Instant) {
        let there: HashSet<&str> = images.iter().map(|i| i.id.as_str()).collect();
        self.0.retain(|id, _| there.contains(id.as_str()));
        for image in images {
            let record = self.0.entry(image.id.clone()).or_insert(Record {
                first_seen: now,
                last_used: None,
                size: 0,
                pinned: false,
            });
            (record.size, record.pinned) = (image.size, image.pinned);
            if used.contains(&image.id) {
                record.last_used = Some(now);
            }
        }
    }

    /// What nobody uses, in the order in which it goes.
    fn unused(&self, used: &HashSet<String>) -> Vec<(String, Record)> {
        let free = self.0.iter().filter(|(id, r)| !r.pinned && !used.contains(*id));
        let mut unused: Vec<(String, Record)> = free.map(|(id, r)| (id.clone(), r.clone())).collect();
        unused.sort_by_key(|(_, record)| (record.last_used, record.first_seen));
        unused
    }
}

/// Keeps the disk of a node's images from filling up.
#[derive(Debug)]
pub struct ImageCollector {
    node: Arc<NodeContext>,
    policy: Policy,
    began: Instant,
    records: Mutex<Records>,
}

impl ImageCollector {
    /// Counts the age of images from now on.
    pub fn new(node: Arc<NodeContext>, policy: Policy) -> ImageCollector {
        ImageCollector {
            node,
            policy,
            began: Instant::now(),
            records: Mutex::default(),
        }
    }

    /// Looks every five minutes until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            ticks.tick().await;
            let result = self.collect().await;
            if let Err(error) = &result {
                tracing::warn!(%error, "collection of images");
                if let CollectError::NoCapacity = error {
                    self.warn("InvalidDiskCapacity", error);
                }
                if let CollectError::NotEnough(_) = error {
                    self.warn("FreeDiskSpaceFailed", error);
                }
                // once may be a matter of a moment
                if failed {
                    self.warn("ImageGCFailed", error);
                }
            }
            failed = result.is_err();
        }
    }

    fn warn(&self, reason: &str, error: &CollectError) {
        self.node
            .recorder
            .warning(&self.node.reference(), reason, error.to_string());
    }

    /// The directory that holds images, as the runtime names it.
    ///
    /// # Errors
    /// If the runtime does not answer, or names none.
    pub async fn file_system(&self) -> Result<PathBuf, CollectError> {
        let info = self.node.runtime.image_fs_info().await?;
        let first = info.image_filesystems.into_iter().next().and_then(|first| first.fs_id);
        first.map(|id| id.mountpoint.into()).ok_or(CollectError::NoFileSystem)
    }

    /// Removes what is too old, and what the disk has no room for.
    async fn collect(&self) -> Result<(), CollectError> {
        let mut records = self.records.lock().await;
        let never = self.policy.high_threshold == 100 && self.policy.maximum_age.is_zero();
        let mut unused = self.look(&mut records).await?;
        if never || unused.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let most = self.policy.maximum_age;
        if !most.is_zero() && now.duration_since(self.began) > most {
            let old = |record: &Record| record.last_used.is_none_or(|used| now.duration_since(used) > most);
            let (aged, rest) = unused.into_iter().partition(|(_, record)| old(record));
            unused = rest;
            self.remove(&mut records, aged, u64::MAX).await?;
        }
        let (capacity, available, ..) = machine::disk(&self.file_system().await?).ok_or(CollectError::NoFileSystem)?;
        if capacity == 0 {
            return Err(CollectError::NoCapacity);
        }
        let Some((used, wanted)) = self.policy.excess(capacity, available) else {
            return Ok(());
        };
        tracing::info!(used, wanted, "the disk of images is over its threshold");
        let grown = self.grown(unused, now);
        let freed = self.remove(&mut records, grown, wanted).await?;
        if freed < wanted {
            return Err(CollectError::NotEnough(format!(
                "Insufficient free disk space on the node's image filesystem ({used}% of {} used). Failed to free sufficient space by \
                 deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, \
                 volumes, or other data.",
                size(capacity)
            )));
        }
        Ok(())
    }

    /// Removes all that nobody uses and that is old enough.
    ///
    /// # Errors
    /// If the runtime does not answer, or refuses to remove some.
    pub async fn collect_unused(&self) -> Result<(), CollectError> {
        let mut records = self.records.lock().await;
        let unused = self.look(&mut records).await?;
        let grown = self.grown(unused, Instant::now());
        self.remove(&mut records, grown, u64::MAX).await?;
        Ok(())
    }

    fn grown(&self, mut unused: Vec<(String, Record)>, now: Instant) -> Vec<(String, Record)> {
        unused.retain(|(_, record)| now.duration_since(record.first_seen) >= self.policy.minimum_age);
        unused
    }

    /// Notes what is there; returns what nobody uses, in the order in which it goes.
    async fn look(&self, records: &mut Records) -> Result<Vec<(String, Record)>, CollectError> {
        let runtime = &self.node.runtime;
        let (images, containers) = tokio::try_join!(runtime.list_images(), runtime.list_containers(None))?;
        let mut used: HashSet<String> = containers.iter().map(|c| c.image_id.clone()).collect();
        if images.iter().any(|i| !i.pinned && !used.contains(&i.id)) {
            used.extend(self.mounted(&containers).await?);
        }
        records.note(&images, &used, Instant::now());
        Ok(records.unused(&used))
    }

    /// Images that containers have as volumes.
    async fn mounted(&self, containers: &[v1::Container]) -> Result<BTreeSet<String>, CollectError> {
        let mut names = BTreeSet::new();
        for container in containers {
            match self.node.runtime.image_mounts(&container.id).await {
                Ok(mounts) => names.extend(mounts),
                // removed meanwhile
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut ids = BTreeSet::new();
        for name in names {
            ids.extend(self.node.runtime.image_status(&name).await?.map(|image| image.id));
        }
        Ok(ids)
    }

    /// Removes images until so many bytes are won; returns how many were.
    async fn remove(
        &self,
        records: &mut Records,
        images: Vec<(String, Record)>,
        wanted: u64,
    ) -> Result<u64, CollectError> {
        let (mut freed, mut errors, any) = (0, Vec::new(), !images.is_empty());
        for (id, record) in images {
            if freed >= wanted {
                break;
            }
            match self.node.runtime.remove_image(&id).await {
                Ok(()) => {
                    tracing::info!(image = id, size = record.size, "removed an image that nobody uses");
                    records.0.remove(&id);
                    freed += record.size;
                }
                Err(error) => errors.push(error.to_string()),
            }
        }
        if any {
            self.node.images.prune().await;
        }
        match errors.is_empty() {
            true => Ok(freed),
            false => Err(CollectError::Removal {
                wanted,
                freed,
                errors: errors.join(", "),
            }),
        }
    }
}

/// Bytes as upstream writes them for people: `1.5 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    // to a tenth
    #[allow(clippy::cast_precision_loss)]
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{amount:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, pinned: bool) -> v1::Image {
        v1::Image {
            id: id.to_owned(),
            size: 10,
            pinned,
            ..v1::Image::default()
        }
    }

    #[test]
    fn what_was_never_used_goes_first_and_what_is_in_use_or_pinned_stays() {
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<HashSet<_>>();
        let mut records = Records::default();
        let images = [
            image("a", false),
            image("b", false),
            image("c", false),
            image("p", true),
        ];
        records.note(&images[..2], &set(&["b"]), later(0));
        records.note(&images, &set(&["a"]), later(10));
        records.note(&images, &set(&[]), later(20));
        let order = |records: &Records, used: &[&str]| {
            let unused = records.unused(&set(used));
            unused.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(order(&records, &[]), ["c", "b", "a"]);
        assert_eq!(order(&records, &["b"]), ["c", "a"]);
        records.note(&images[..1], &set(&[]), later(30));
        assert_eq!(order(&records, &[]), ["a"]);
        records.note(&images[..2], &set(&[]), later(40));
        assert_eq!(records.0["b"].first_seen, later(40), "pulled again, it is young");
    }

    #[test]
    fn a_disk_over_the_high_threshold_is_emptied_to_the_low_one() {
        let policy = Policy::default();
        for (available, excess) in [
            (160, None),
            (150, Some((85, 50))),
            (20, Some((98, 180))),
            (0, Some((100, 200))),
        ] {
            assert_eq!(policy.excess(1000, available), excess, "{available} free");
        }
        assert_eq!(policy.excess(1000, 2000), None, "more is free than there is");
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        let policy = |high, low, least, most| Policy {
            high_threshold: high,
            low_threshold: low,
            minimum_age: Duration::from_secs(least),
            maximum_age: Duration::from_secs(most),
        };
        assert!(policy(85, 80, 120, 0).check().is_ok() && policy(100, 99, 120, 121).check().is_ok());
        for (wrong, why) in [
            (policy(101, 80, 120, 0), "must be between 0 and 100, inclusive"),
            (policy(85, -1, 120, 0), "must be between 0 and 100, inclusive"),
            (policy(80, 80, 120, 0), "must be less than imageGCHighThresholdPercent"),
            (
                policy(85, 80, 120, 120),
                "imageMaximumGCAge 2m0s must be greater than imageMinimumGCAge 2m0s",
            ),
        ] {
            assert!(wrong.check().unwrap_err().to_string().contains(why), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_written_as_upstream_writes_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
