//! fastnode's own node, where it runs as a pod on a node that is rotated.
//!
//! ```text
//!  every other node done --> own node cordoned, its pods evicted --> only our own pod is left to evict
//!     --> acts in flight end --> lock given back --> our pod evicts itself --> SIGTERM: nothing more is written
//!  the next pod, elsewhere: the record is open, the node marked --> it drains what is left, terminates, ends
//! ```
//!
//! Whatever came after our own eviction would be cut off anywhere, so nothing comes after it: the node stays
//! cordoned, and the scheduler cannot put the next pod on it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::engine::interrupted;
use super::{Error, Interrupt, Settings};
use crate::cluster::{Cluster, ErrorKind};
use crate::model::marks::{ROTATION, STATE};
use crate::model::{NodeMark, NodeName, ObjectKey, Uid};
use crate::observe::Snapshot;
use crate::plan::Action;

/// The pod that fastnode runs in, about to be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnPod {
    node: NodeName,
    pod: ObjectKey,
    uid: Uid,
}

/// A budget may keep our pod for a while; whoever runs us starts the next pod also when this one just ends.
const EVICTING: Duration = Duration::from_secs(60);
/// Between two evictions of it.
const AGAIN: Duration = Duration::from_secs(2);
/// The kubelet sends its SIGTERM well within this.
const STAYING: Duration = Duration::from_secs(60);

/// The node that fastnode runs on: as it was told, else where its pod is.
pub(super) fn own_node(settings: &Settings, snapshot: &Snapshot) -> Option<NodeName> {
    let by_pod = || {
        let own = settings.own_pod.as_ref()?;
        snapshot.pods.values().find(|pod| pod.key == *own)?.node.clone()
    };
    settings.own_node.clone().or_else(by_pod)
}

/// Our own pod, if this action would evict or delete it.
pub(super) fn is_own(settings: &Settings, action: &Action) -> Option<OwnPod> {
    let (Action::Evict { node, pod, uid } | Action::DeletePod { node, pod, uid, .. }) = action else { return None };
    (settings.own_pod.as_ref() == Some(pod)).then(|| OwnPod { node: node.clone(), pod: pod.clone(), uid: uid.clone() })
}

/// Refuses to run on a node that the rotation in progress is draining: it would have to evict itself at once.
///
/// # Errors
/// [`Error::OnOwnNode`].
pub(super) fn refuse_drained_node(snapshot: &Snapshot) -> Result<(), Error> {
    let node = snapshot.own_node.as_ref().and_then(|own| snapshot.nodes.get(own));
    let Some((node, rotation)) = node.zip(snapshot.rotation.as_ref()) else { return Ok(()) };
    let ours = node.labels.get(ROTATION) == Some(&rotation.id);
    let mark = node.annotation(STATE).and_then(NodeMark::parse);
    if ours && node.unschedulable && matches!(mark, Some(NodeMark::Draining | NodeMark::Drained)) {
        return Err(Error::OnOwnNode { node: node.name.clone() });
    }
    Ok(())
}

impl OwnPod {
    pub(super) fn left(&self) -> Error {
        Error::OwnNode { node: self.node.clone() }
    }

    /// Evicts the pod we run in, with the lock given back, and waits to be ended. Writes nothing else.
    pub(super) async fn leave<K: Cluster>(
        &self,
        cluster: &K,
        interrupt: &mut watch::Receiver<Option<Interrupt>>,
    ) -> Error {
        let evicted = async {
            let end = Instant::now() + EVICTING;
            loop {
                match cluster.evict(&self.pod, &self.uid).await {
                    Ok(()) => return true,
                    Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Conflict) => return true,
                    Err(_) if Instant::now() + AGAIN > end => return false,
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        let evicted = tokio::select! {
            biased;
            signal = interrupted(interrupt) => return Error::Interrupted(signal),
            evicted = evicted => evicted,
        };
        let until = Instant::now() + if evicted { STAYING } else { Duration::ZERO };
        match timeout_at(until, interrupted(interrupt)).await {
            Ok(signal) => Error::Interrupted(signal),
            Err(_) => self.left(),
        }
    }
}
