//! The rotation's record in the cluster, and the summaries of the last ones.
//!
//! One ConfigMap a rotation, `fastnode-<rotation>`. While it runs it holds the policy and the record; at its end
//! the record gives way to the summary. The last ten are kept.

use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::Timestamp;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::prepare::World;
use super::{Error, Ports, Settings};
use crate::cluster::{Cluster, ConfigRecord};
use crate::event::Report;
use crate::execute::record::RECORD;
use crate::execute::{Fault, Record};
use crate::model::Text;
use crate::model::marks::TAG_ROTATION;
use crate::observe::{RotationRecord, Snapshot};
use crate::policy::Policy;

/// Summaries kept.
const KEPT: usize = 10;
const POLICY: &str = "policy";
const CLUSTER: &str = "cluster";
const ENDED: &str = "ended";
const SUMMARY: &str = "summary";

/// What one of our ConfigMaps says.
#[derive(Debug)]
pub(super) enum Chapter {
    /// A rotation that has not ended.
    Open(Box<RotationRecord>),
    /// One that has, with its report.
    Closed(Box<Report>),
}

/// Reads a ConfigMap; `None` for one of another cluster, or that cannot be read.
pub(super) fn read(config: &ConfigRecord, cluster: &str) -> Option<Chapter> {
    if config.data.get(CLUSTER).map(String::as_str) != Some(cluster) {
        return None;
    }
    match config.data.get(SUMMARY) {
        Some(report) => Some(Chapter::Closed(serde_json::from_str(report).ok()?)),
        None => Some(Chapter::Open(serde_json::from_str(config.data.get(RECORD)?).ok()?)),
    }
}

/// The policy that a rotation was begun with, where it can be read.
pub(super) fn policy(config: &ConfigRecord) -> Option<Policy> {
    serde_json::from_str(config.data.get(POLICY)?).ok()
}

/// The newest rotation that has not ended, and its ConfigMap. Ids sort by time.
pub(super) fn open(configs: &[ConfigRecord], cluster: &str) -> Option<(RotationRecord, ConfigRecord)> {
    let opened = configs.iter().filter_map(|config| match read(config, cluster)? {
        Chapter::Open(record) => Some((*record, config.clone())),
        Chapter::Closed(_) => None,
    });
    opened.max_by(|(a, _), (b, _)| a.id.cmp(&b.id))
}

/// The id of the rotation to be run: the one in progress, else the one whose tags are left, else a new one,
/// `20261123t124800-1f3c`: sortable, unique, a valid label value and part of a ConfigMap's name.
pub(super) fn rotation_id<C>(world: &World<C>, now: Timestamp, settings: &Settings) -> Text {
    if let Some((record, _)) = &world.open {
        return record.id.clone();
    }
    let tagged = world.snapshot.groups.values().find_map(|g| g.tags.get(TAG_ROTATION));
    tagged.cloned().unwrap_or_else(|| {
        // The holder is in it: two processes that begin in the same second with the same seed differ.
        let holder = settings.identity.bytes().fold(settings.seed, |h, b| h.rotate_left(5) ^ u64::from(b));
        let tail: u16 = ChaCha8Rng::seed_from_u64(holder).random();
        format!("{}-{tail:04x}", now.strftime("%Y%m%dt%H%M%S")).into()
    })
}

/// Writes the record before the first change, or takes up the one found.
pub(super) async fn begin<C, K: Cluster>(
    ports: &Ports<C, K>,
    settings: &Settings,
    id: &Text,
    found: Option<(RotationRecord, ConfigRecord)>,
    snapshot: &Snapshot,
) -> Result<Record<K>, Error> {
    let (record, mut config) =
        found.unwrap_or_else(|| (new_record(id, ports.clock.now(), snapshot), ConfigRecord::default()));
    config.name = name(id);
    config.data.insert(CLUSTER.to_owned(), settings.cluster.to_string());
    let policy = serde_json::to_string(&settings.policy).unwrap_or_default();
    config.data.insert(POLICY.to_owned(), policy);
    let begun = Record::begin(ports.cluster.clone(), &settings.namespace, record, config).await;
    begun.map_err(|fault| access(fault, "put configmaps"))
}

/// A new record in the ConfigMap of a rotation that has ended, but whose tags are left.
pub(super) fn again(
    id: &Text,
    now: Timestamp,
    configs: &[ConfigRecord],
    snapshot: &Snapshot,
) -> Option<(RotationRecord, ConfigRecord)> {
    let config = configs.iter().find(|c| c.name == name(id))?;
    let mut config = config.clone();
    config.data.remove(SUMMARY);
    config.data.remove(ENDED);
    Some((new_record(id, now, snapshot), config))
}

fn name(id: &Text) -> String {
    format!("fastnode-{id}")
}

fn new_record(id: &Text, started: Timestamp, snapshot: &Snapshot) -> RotationRecord {
    let targets = snapshot.groups.values().map(|g| (g.name.clone(), g.target.clone())).collect();
    RotationRecord {
        id: id.clone(),
        started: whole_second(started),
        targets,
        protection: BTreeMap::new(),
        skipped: BTreeMap::new(),
        failed: BTreeMap::new(),
        ending: None,
        mended: Default::default(),
    }
}

/// EC2 tells launches in whole seconds: one in the second in which the rotation began came after it.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What ended the run, as an error of access.
pub(super) fn access(fault: Fault, verb: &str) -> Error {
    match fault {
        Fault::Cloud(e) => Error::Cloud(e),
        Fault::Cluster(e) => Error::Cluster(e),
        other => Error::Cluster(crate::cluster::Error {
            kind: crate::cluster::ErrorKind::Unavailable,
            verb: verb.into(),
            message: other.to_string(),
            retry_after: None,
        }),
    }
}

/// Replaces the record by the summary. A rotation that left something to be resumed keeps its record open.
pub(super) async fn close<K: Cluster>(record: &Record<K>, report: &Report, now: Timestamp) -> Result<(), Fault> {
    let summary = serde_json::to_string(report).unwrap_or_default();
    record
        .close(|config| {
            config.data.remove(RECORD);
            config.data.insert(ENDED.to_owned(), now.to_string());
            config.data.insert(SUMMARY.to_owned(), summary.clone());
        })
        .await
}

/// Deletes all but the last ten summaries.
pub(super) async fn trim<K: Cluster>(cluster: &Rc<K>, namespace: &str, name: &str) -> crate::cluster::Result<()> {
    let mut closed: Vec<String> = cluster
        .configs(namespace)
        .await?
        .into_iter()
        .filter_map(|c| match read(&c, name)? {
            Chapter::Closed(_) => Some(c.name),
            Chapter::Open(_) => None,
        })
        .collect();
    closed.sort_unstable();
    let surplus = closed.len().saturating_sub(KEPT);
    for name in closed.drain(..surplus) {
        cluster.delete_config(namespace, &name).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_launched_in_the_second_of_the_start_came_after_it() {
        let record = new_record(&"r1".into(), "2026-11-23T15:51:08.156Z".parse().unwrap(), &Snapshot::default());
        let launched: Timestamp = "2026-11-23T15:51:08Z".parse().unwrap();
        assert!(launched >= record.started);
    }
}
