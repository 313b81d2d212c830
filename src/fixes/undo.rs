//! The way back from a fix: what it changed is put back, where nobody has changed that since.

use serde_json::{Value, json};

use super::catalogue::{Remedial, Revert};
use super::place::{self, Place};
use super::proposal::strategy;
use super::record::{AddonBefore, Means, Record, digest, hash};
use super::remedy::{Remedy, TRIES, manifest};
use super::{Error, addon, diff, owners};
use crate::cloud::Cloud;
use crate::cloud::addons::{AddonChange, Addons};
use crate::cluster::manifests::{Manifests, Sending};
use crate::cluster::{self, ErrorKind};
use crate::model::ObjectKey;

/// What taking a fix back would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    /// The fix and its DaemonSet.
    pub remedial: Remedial,
    /// What was applied.
    pub record: Record,
    /// The change back.
    pub diff: String,
    base: Value,
}

impl<C: Cloud + Addons, K: Manifests> Remedy<C, K> {
    /// What taking a fix back would do. Changes nothing.
    ///
    /// # Errors
    /// If it was not applied by us, cannot be taken back, or somebody has changed since what it wrote.
    pub async fn propose_revert(&self, name: &str) -> Result<Undo, Error> {
        let mut tries = 1;
        loop {
            let mut undo = self.way_back(name).await?;
            match self.write_back(&undo, &undo.base, Sending { dry_run: true, force: false }).await {
                Ok(mut after) => {
                    if let Some(annotations) = after["metadata"]["annotations"].as_object_mut() {
                        annotations.remove(&Record::key(&undo.remedial.fix.fix));
                    }
                    undo.diff += &diff::objects(&undo.remedial.daemonset.to_string(), &undo.base, &after);
                    return Ok(undo);
                }
                Err(error) if tries < TRIES && self.is_stale(&error, &undo.remedial, &undo.base).await? => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What would be taken back, if nobody has changed it since; not judged by the server yet.
    async fn way_back(&self, name: &str) -> Result<Undo, Error> {
        let remedial = self.catalogue().find(name)?;
        let refused = |why: String| Error::Refused { what: format!("revert {}", remedial.name), why };
        let Some(base) = self.cluster.daemonset(&remedial.daemonset).await? else {
            return Err(refused(format!("there is no DaemonSet {}", remedial.daemonset)));
        };
        let record = match Record::read(&base, &remedial.fix.fix) {
            Ok(Some(record)) => record,
            Ok(None) => return Err(refused(format!("it is not applied to {} by fastnode", remedial.daemonset))),
            Err(why) => return Err(refused(why)),
        };
        if remedial.fix.revert == Revert::Never {
            return Err(refused(
                "an add-on's older version is no way back: choose one with eks:UpdateAddon".to_owned(),
            ));
        }
        let mut undo = Undo { remedial: remedial.clone(), record, diff: String::new(), base };
        match undo.record.means {
            Means::Apply | Means::Patch => {
                if hash(&undo.base, &undo.record.places) != undo.record.hash {
                    return Err(refused(changed(&undo.record.places)));
                }
            }
            Means::Configuration => {
                let (before, now) = self.configurations(&undo.record).await?;
                if digest(&now.to_string()) != undo.record.hash && now != before {
                    let why = "the add-on's configuration values have been changed since: take the value out there";
                    return Err(refused(why.to_owned()));
                }
                undo.diff = diff::values("configuration of the add-on", &now, &before);
            }
            Means::Version => return Err(refused("an add-on's older version is no way back".to_owned())),
        }
        Ok(undo)
    }

    /// The add-on's configuration values before the fix and now.
    async fn configurations(&self, record: &Record) -> Result<(Value, Value), Error> {
        let Some(AddonBefore { name, before }) = &record.addon else { return Ok((json!({}), json!({}))) };
        let unreadable = |why| Error::Addon { addon: name.clone(), why };
        let found = self.cloud.addon(&self.name, name).await?;
        let present = found.as_ref().and_then(|addon| addon.configuration.as_deref());
        Ok((addon::read(before.as_deref()).map_err(unreadable)?, addon::read(present).map_err(unreadable)?))
    }

    /// Takes a fix back.
    ///
    /// # Errors
    /// If the object has changed since it was looked at, or a request fails.
    pub async fn revert(&self, undo: &Undo) -> Result<(), Error> {
        if undo.record.means == Means::Configuration {
            let (before, now) = self.configurations(&undo.record).await?;
            if let (true, Some(addon)) = (now != before, &undo.record.addon) {
                let change = AddonChange { configuration: Some(before.to_string().into()), version: None };
                self.update(&addon.name, &change).await?;
            }
            return self.forget(&undo.remedial).await;
        }
        let mut tries = 1;
        let after = loop {
            let live = self.live(&undo.remedial, ("revert", None), &undo.base).await?;
            // It always is: nothing is recorded by a way back.
            let Some(live) = live else { return Ok(()) };
            match self.write_back(undo, &live, Sending::default()).await {
                Err(error) if tries < TRIES && self.is_stale(&error, &undo.remedial, &live).await? => tries += 1,
                answer => break answer?,
            }
        };
        if undo.record.means == Means::Patch {
            self.release(&undo.remedial.daemonset, after).await?;
        }
        Ok(())
    }

    async fn write_back(&self, undo: &Undo, live: &Value, sending: Sending) -> cluster::Result<Value> {
        let Undo { remedial, record, .. } = undo;
        if record.means != Means::Patch {
            let manifest = manifest(live, &remedial.fix.fix, None);
            return self.cluster.apply_daemonset(&remedial.daemonset, &manifest, sending).await;
        }
        // A list that holds nothing any more was not there before.
        let lists = ["env", "initContainers", "volumes", "tolerations", "args"];
        let list =
            |path: &place::Path| matches!(path.0.last(), Some(place::Step::Field(f)) if lists.contains(&f.as_str()));
        let mut patch = place::Patch::of(live);
        for place in record.places.iter().rev() {
            match &place.before {
                Some(before) => patch.put(&place.path, before),
                None => patch.remove(&place.path, list),
            }
        }
        if let Some(before) = &record.strategy {
            patch.put(&strategy(), before);
        }
        patch.remove(&Record::path(&remedial.fix.fix), |_| false);
        self.cluster.patch_daemonset(&remedial.daemonset, &patch.operations(), sending).await
    }

    /// Gives up what a patch made ours: nobody's next apply conflicts with a list that we have put back. Kept
    /// while another fix of ours was patched in.
    async fn release(&self, daemonset: &ObjectKey, mut object: Value) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let patched = Record::others(&object, "").iter().any(|(_, record)| record.means == Means::Patch);
            let Some(at) = owners::own_update(&object).filter(|_| !patched) else { return Ok(()) };
            let path = format!("/metadata/managedFields/{at}");
            let version = &object["metadata"]["resourceVersion"];
            let patch = json!([
                { "op": "test", "path": "/metadata/resourceVersion", "value": version },
                { "op": "remove", "path": path },
            ]);
            match self.cluster.patch_daemonset(daemonset, &patch, Sending::default()).await {
                Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::Invalid) && tries < TRIES => {
                    tries += 1;
                    let Some(read) = self.cluster.daemonset(daemonset).await? else { return Ok(()) };
                    object = read;
                }
                answer => return Ok(answer.map(drop)?),
            }
        }
    }
}

/// That what we wrote is not as we left it.
fn changed(places: &[Place]) -> String {
    let paths: Vec<String> = places.iter().map(|place| place.path.to_string()).collect();
    let paths = paths.join(" or ");
    format!("{paths} has been changed since: put back by hand what the annotation keeps, or leave it as it is")
}
