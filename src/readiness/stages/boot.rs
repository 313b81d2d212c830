//! When instances had booted: when their kubelets started, by these kubelets' own Events.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Moments, SLACK};
use crate::cluster::evidence::EventRecord;
use crate::model::NodeName;

/// The starts of each node's kubelet that are known.
pub type Boots = BTreeMap<NodeName, Vec<Timestamp>>;

/// Where EC2's launch time is unknown, a kubelet's start at most so long before its Node's creation is the one that
/// made it.
const BEFORE: SignedDuration = SignedDuration::from_mins(15);

/// The starts of kubelets that Events tell of. A kubelet writes one as it starts
/// (`k8s.io/kubernetes` pkg/kubelet `BirthCry`); kube-proxy writes one about its Node that reads alike.
pub fn boots(events: &[EventRecord]) -> Boots {
    let mut boots = Boots::new();
    let starts = events.iter().filter(|e| &*e.kind == "Node" && &*e.reason == "Starting" && &*e.source == "kubelet");
    for event in starts {
        if let Some(at) = event.first {
            boots.entry(NodeName::from(event.about.name.clone())).or_default().push(at);
        }
    }
    boots
}

/// The first start between the instance's launch and its Node's creation: one before that was another instance's of
/// the same name, one after it a restart.
pub(super) fn booted(moments: &Moments, starts: &[Timestamp]) -> Option<Timestamp> {
    let from = moments.provisioned.or_else(|| moments.joined.checked_sub(BEFORE).ok())?;
    let within = |at: &&Timestamp| at.duration_since(from) >= -SLACK && moments.joined.duration_since(**at) >= -SLACK;
    starts.iter().filter(within).min().map(|at| (*at).clamp(from.min(moments.joined), moments.joined))
}
