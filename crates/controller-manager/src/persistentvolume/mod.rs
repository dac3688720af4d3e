//! The binder of claims and volumes: who gets which volume, and what becomes of it afterwards.

mod bind;
mod claim;
mod matching;
mod reclaim;
#[cfg(test)]
mod tests;
mod volume;

use std::time::Duration;

use api::object::Object;
use client::{Cache, Client, EventRecorder, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use self::claim::{ClaimStep, Class, Reason, View};
pub(crate) use self::matching::takers;
use self::matching::{class_of_claim, owner_of};
use self::volume::VolumeStep;
use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::informers::{BY_NAMESPACE, BY_TAKER};
use crate::meta::{annotation, key_of, name, namespace, reference, uid};
use crate::pods::claims_of;

/// The claim and its volume have found each other.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The binder chose, not the user: what it did may be undone.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who made the volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Where the scheduler puts the first pod of a claim whose class waits for that.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make the claim's volume.
const PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Claim(String),
    Volume(String),
}

#[derive(Clone)]
struct Binder {
    client: Client,
    recorder: EventRecorder,
    claims: Cache,
    volumes: Cache,
    classes: Cache,
    pods: Cache,
    queue: WorkQueue<Key>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let binder = Binder {
        client: ctx.client.clone(),
        recorder: ctx.recorder("persistentvolume-controller"),
        claims: ctx.informers.get::<PersistentVolumeClaim>(),
        volumes: ctx.informers.get::<PersistentVolume>(),
        classes: ctx.informers.get::<StorageClass>(),
        pods: ctx.informers.get::<Pod>(),
        queue: ctx.queue("claims"),
    };
    let caches = [&binder.claims, &binder.volumes, &binder.classes, &binder.pods];
    if !ctx.synced(&caches).await {
        return Ok(());
    }
    binder.follow(&ctx);
    let queue = binder.queue.clone();
    ctx.work(queue, 1, move |key| {
        let binder = binder.clone();
        async move {
            match key {
                Key::Claim(key) => binder.sync_claim(&key).await,
                Key::Volume(name) => binder.sync_volume(&name).await,
            }
        }
    })
    .await;
    Ok(())
}

impl Binder {
    fn follow(&self, ctx: &Context) {
        let this = self.clone();
        ctx.each_change(&self.claims, move |change| {
            for object in [&change.old, &change.new].into_iter().flatten() {
                if let Ok(claim) = decode::<PersistentVolumeClaim>(object)
                    && let Some(volume) = claim.spec.and_then(|s| s.volume_name).filter(|v| !v.is_empty())
                {
                    this.queue.add(Key::Volume(volume));
                }
            }
            if let Some(claim) = change.new {
                this.queue.add(Key::Claim(claim.key()));
            }
        });
        let this = self.clone();
        ctx.each_change(&self.volumes, move |change| {
            let volume = |o: &Object| decode::<PersistentVolume>(o).ok();
            let (old, new) = (
                change.old.as_deref().and_then(volume),
                change.new.as_deref().and_then(volume),
            );
            if let Some(volume) = &new {
                this.queue.add(Key::Volume(name(volume).to_owned()));
            }
            for owner in [&old, &new].into_iter().flatten().filter_map(owner_of) {
                this.queue.add(Key::Claim(owner));
            }
            if new.is_none_or(|v| v.status.is_some_and(|s| s.phase.as_deref() == Some("Available"))) {
                this.ask_unbound();
            }
        });
        let this = self.clone();
        ctx.each_change(&self.classes, move |_| this.ask_unbound());
        let this = self.clone();
        ctx.each_change(&self.pods, move |change| {
            // A new pod may be the one that a claim waits for.
            if change.old.is_some() {
                return;
            }
            for claim in change.new.iter().flat_map(|pod| claims_of(pod)) {
                if this.claims.get(&claim).is_some_and(|o| is_unbound(&o)) {
                    this.queue.add(Key::Claim(claim));
                }
            }
        });
    }

    /// Something has come that unbound claims may wait for.
    fn ask_unbound(&self) {
        for claim in self.claims.list().iter().filter(|o| is_unbound(o)) {
            self.queue.add(Key::Claim(claim.key()));
        }
    }

    fn view(&self, claim: &PersistentVolumeClaim) -> Result<View, Error> {
        let mut view = View::default();
        let volumes = match claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()) {
            Some(wanted) if !wanted.is_empty() => self.volumes.get(wanted).into_iter().collect(),
            _ => {
                let mut all = self.volumes.by_index(BY_TAKER, &key_of(claim));
                all.extend(self.volumes.by_index(BY_TAKER, class_of_claim(claim)));
                all
            }
        };
        for volume in volumes {
            view.volumes.push(decode(&volume)?);
        }
        let mut newest = None;
        for class in self.classes.list() {
            let class: StorageClass = decode(&class)?;
            let is_default = DEFAULT_CLASS.iter().any(|key| annotation(&class, key) == Some("true"));
            let age = class.metadata.creation_timestamp.as_ref().map(|t| t.0);
            // The newest one; of several the first by name.
            let rank = (age, std::cmp::Reverse(name(&class).to_owned()));
            if is_default && newest.as_ref().is_none_or(|n| rank > *n) {
                newest = Some(rank);
            }
            let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
            let provisioner = class.provisioner.clone();
            view.classes
                .insert(name(&class).to_owned(), Class { provisioner, waits });
        }
        view.default_class = newest.map(|(_, name)| name.0);
        for pod in self.pods.by_index(BY_NAMESPACE, namespace(claim)) {
            if crate::informers::node_of(&pod).is_empty() && claims_of(&pod).contains(&key_of(claim)) {
                view.waiting_pods.push(pod.meta.name.to_string());
            }
        }
        Ok(view)
    }

    fn tell(&self, about: &k8s_openapi::api::core::v1::ObjectReference, reason: &Reason) {
        if reason.warning {
            self.recorder.warning(about, reason.reason, reason.message.clone());
        } else {
            self.recorder.normal(about, reason.reason, reason.message.clone());
        }
    }

    async fn sync_claim(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.claims.get(key) else {
            return Ok(None);
        };
        let claim: PersistentVolumeClaim = decode(&object)?;
        let about = reference(&claim);
        match claim::next_step(&claim, &self.view(&claim)?)? {
            ClaimStep::Bind(volume) => self.bind(*volume, claim).await?,
            ClaimStep::UseClass(class) => {
                let mut new = claim;
                new.spec.get_or_insert_default().storage_class_name = Some(class);
                self.client.update(&new).await?;
            }
            ClaimStep::Wait(reason) => {
                if let Some(reason) = reason {
                    self.tell(&about, &reason);
                }
                self.write_claim_status(claim, "Pending", None).await?;
            }
            ClaimStep::Provision(provisioner) => self.ask_provisioner(claim, &provisioner).await?,
            ClaimStep::CannotProvision(reason) => self.tell(&about, &reason),
            ClaimStep::Lost(reason) => {
                let known = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost");
                self.write_claim_status(claim, "Lost", None).await?;
                if !known {
                    self.tell(&about, &reason);
                }
            }
            ClaimStep::Misbound { reason, owner } => {
                self.tell(&about, &reason);
                return Err(claim::misbound(&claim, &owner));
            }
        }
        Ok(None)
    }

    /// The volume first: who reads the claim's `volumeName` finds the volume's reference.
    async fn bind(&self, volume: PersistentVolume, claim: PersistentVolumeClaim) -> Result<(), Error> {
        let volume = match bind::volume_to_claim(&volume, &claim) {
            Some(new) => self.client.update(&new).await?,
            None => volume,
        };
        let volume = self.write_phase(volume, "Bound", "").await?;
        let claim = match bind::claim_to_volume(&claim, &volume) {
            Some(new) => self.client.update(&new).await?,
            None => claim,
        };
        self.write_claim_status(claim, "Bound", Some(&volume)).await
    }

    async fn write_claim_status(
        &self,
        claim: PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<(), Error> {
        if let Some(new) = bind::claim_status(&claim, phase, volume) {
            self.client.update_status(&new).await?;
        }
        Ok(())
    }

    async fn write_phase(
        &self,
        volume: PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<PersistentVolume, Error> {
        match bind::volume_phase(&volume, phase, message) {
            Some(new) => Ok(self.client.update_status(&new).await?),
            None => Ok(volume),
        }
    }

    /// Says who is to make the claim's volume.
    async fn ask_provisioner(&self, claim: PersistentVolumeClaim, provisioner: &str) -> Result<(), Error> {
        let mut new = claim.clone();
        let annotations = new.metadata.annotations.get_or_insert_default();
        for key in PROVISIONER {
            annotations.insert(key.to_owned(), provisioner.to_owned());
        }
        if new != claim {
            self.client.update(&new).await?;
        }
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.recorder.normal(&reference(&claim), "ExternalProvisioning", text);
        Ok(())
    }

    /// The claim that the volume names, by its uid; the server is asked before it is taken for gone.
    async fn claim_of(&self, volume: &PersistentVolume) -> Result<Option<PersistentVolumeClaim>, Error> {
        let owner = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        let owner_uid = owner.and_then(|o| o.uid.as_deref()).filter(|u| !u.is_empty());
        let Some((key, owner_uid)) = owner_of(volume).zip(owner_uid) else {
            return Ok(None);
        };
        if let Some(object) = self.claims.get(&key).filter(|o| *o.meta.uid == *owner_uid) {
            return decode(&object).map(Some);
        }
        let (namespace, name) = split_key(&key);
        match self.client.get::<PersistentVolumeClaim>(namespace, name).await {
            Ok(claim) => Ok(Some(claim).filter(|c| uid(c) == owner_uid)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn sync_volume(&self, name: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.volumes.get(name) else {
            return Ok(None);
        };
        let volume: PersistentVolume = decode(&object)?;
        let claim = self.claim_of(&volume).await?;
        match volume::next_step(&volume, claim.as_ref()) {
            VolumeStep::Available => drop(self.write_phase(volume, "Available", "").await?),
            VolumeStep::Bound => drop(self.write_phase(volume, "Bound", "").await?),
            VolumeStep::Reclaim => self.reclaim(volume).await?,
            VolumeStep::AskClaim => {
                if let Some(claim) = claim {
                    self.queue.add(Key::Claim(key_of(&claim)));
                }
            }
            VolumeStep::ModesDiffer => {
                let claim = claim.unwrap_or_default();
                let text = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                    crate::meta::name(&claim)
                );
                self.recorder.warning(&reference(&volume), "VolumeMismatch", text);
                let text = format!(
                    "Cannot bind PersistentVolume {name:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
                );
                self.recorder.warning(&reference(&claim), "VolumeMismatch", text);
            }
            VolumeStep::Unbind => {
                let new = self.client.update(&bind::unbound(&volume)).await?;
                self.write_phase(new, "Available", "").await?;
            }
        }
        Ok(None)
    }
}

fn is_unbound(object: &Object) -> bool {
    decode::<PersistentVolumeClaim>(object).is_ok_and(|c| annotation(&c, BIND_COMPLETED).is_none())
}
