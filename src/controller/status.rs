//! What any machine can tell of a rotation: from the Lease, the ConfigMaps and the marks on the Nodes.

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::history::{Chapter, read};
use super::{Error, Ports, Settings};
use crate::cluster::{Cluster, Fact, Kind};
use crate::event::Report;
use crate::lock;
use crate::model::marks::{DOING, REASON, REQUEST, ROTATION, SINCE, STATE};
use crate::model::{Node, NodeMark, NodeName, ObjectKey, Text};
use crate::observe::RotationRecord;

/// A Node that carries our mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkedNode {
    /// Its name.
    pub node: NodeName,
    /// Where it stands.
    pub mark: NodeMark,
    /// Why.
    pub reason: Option<Text>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A rotation in progress, or the last one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its id.
    pub rotation: Text,
    /// When it began; unknown of an ended one.
    pub started: Option<Timestamp>,
    /// Who runs it; `None` where nobody does.
    pub holder: Option<String>,
    /// When the holder last renewed its lock, by its own clock.
    pub renewed: Option<Timestamp>,
    /// What was asked of the holder, or of the next one: `pause` or `abort`.
    pub request: Option<String>,
    /// Its record, while it has not ended.
    pub record: Option<RotationRecord>,
    /// Its report, once it has ended.
    pub report: Option<Report>,
    /// The Nodes in hand.
    pub nodes: Vec<MarkedNode>,
}

/// What the lock is held for, where that is no rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Errand {
    /// What is being done: `fastnode fix aws-node-wait`.
    pub doing: Text,
    /// By whom.
    pub holder: String,
    /// Since when, by the holder's clock.
    pub since: Option<Timestamp>,
    /// When the holder last renewed its lock, by its own clock.
    pub renewed: Option<Timestamp>,
}

/// What somebody holds the lock for who does not rotate; `None` where nobody does. Writes nothing.
///
/// # Errors
/// If Kubernetes cannot be reached or refuses.
pub async fn errand<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings) -> Result<Option<Errand>, Error> {
    let key = ObjectKey::new(&settings.namespace, lock::NAME);
    let Some(lease) = ports.cluster.lease(&key).await? else { return Ok(None) };
    let holder = lease.holder.filter(|holder| !holder.is_empty());
    Ok(holder.zip(lease.annotations.get(DOING).cloned()).map(|(holder, doing)| Errand {
        doing,
        holder,
        since: lease.acquired,
        renewed: lease.renewed,
    }))
}

/// The rotation in progress, or else the last one; `None` where there has been none. Writes nothing.
/// Must be called inside a `LocalSet`.
///
/// # Errors
/// If Kubernetes cannot be reached or refuses.
pub async fn status<C, K: Cluster + 'static>(
    ports: &Ports<C, K>,
    settings: &Settings,
) -> Result<Option<Status>, Error> {
    let key = ObjectKey::new(&settings.namespace, lock::NAME);
    let lease = ports.cluster.lease(&key).await?;
    let configs = ports.cluster.configs(&settings.namespace).await?;
    let mut chapters: Vec<_> =
        configs.iter().filter_map(|c| Some((c.name.clone(), read(c, &settings.cluster)?))).collect();
    // Names sort by time; a rotation that has not ended comes before any that has.
    chapters.sort_by_key(|(name, chapter)| (matches!(chapter, Chapter::Open(_)), name.clone()));
    let Some((name, chapter)) = chapters.pop() else { return Ok(None) };
    let rotation: Text = name.strip_prefix("fastnode-").unwrap_or(&name).into();
    // A pause outlives its holder, and with it the name of the rotation.
    let pause = lease.as_ref().and_then(|l| l.annotations.get(REQUEST)).filter(|r| ***r == *lock::PAUSE).cloned();
    let lease = lease.filter(|l| l.holder.as_deref().is_some_and(|h| !h.is_empty()));
    let held = lease.filter(|l| l.annotations.get(ROTATION) == Some(&rotation));
    let (record, report) = match chapter {
        Chapter::Open(record) => (Some(*record), None),
        Chapter::Closed(report) => (None, Some(*report)),
    };
    let nodes = if record.is_some() { marked(ports).await? } else { Vec::new() };
    Ok(Some(Status {
        rotation,
        started: record.as_ref().map(|r| r.started),
        request: match &held {
            Some(lease) => lease.annotations.get(REQUEST).map(|r| r.to_string()),
            None => pause.filter(|_| record.is_some()).map(|r| r.to_string()),
        },
        renewed: held.as_ref().and_then(|l| l.renewed),
        holder: held.and_then(|l| l.holder),
        record,
        report,
        nodes,
    }))
}

/// The Nodes that carry our mark, by name.
async fn marked<C, K: Cluster + 'static>(ports: &Ports<C, K>) -> Result<Vec<MarkedNode>, Error> {
    let (sink, mut facts) = mpsc::channel(64);
    let cluster = ports.cluster.clone();
    let watches = tokio::task::spawn_local(async move { cluster.watch(sink).await });
    let mut nodes = Vec::new();
    while let Some(fact) = facts.recv().await {
        match fact {
            Fact::Node(node) => nodes.extend(mark(&node)),
            Fact::Synced(Kind::Node) => {
                watches.abort();
                nodes.sort_by(|a: &MarkedNode, b| a.node.cmp(&b.node));
                return Ok(nodes);
            }
            _ => {}
        }
    }
    // The channel closed before the list was complete: the watch was refused.
    match watches.await {
        Ok(Err(e)) => Err(e.into()),
        Ok(Ok(())) | Err(_) => Ok(nodes),
    }
}

fn mark(node: &Node) -> Option<MarkedNode> {
    Some(MarkedNode {
        node: node.name.clone(),
        mark: NodeMark::parse(node.annotation(STATE)?)?,
        reason: node.annotation(REASON).map(Text::from),
        since: node.annotation(SINCE).and_then(|s| s.parse().ok()),
    })
}
