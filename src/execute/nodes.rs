//! Changes of Nodes, each one PATCH under the Node's UID.

use super::{Effect, Fault, Tools, retry};
use crate::cloud::Cloud;
use crate::cluster::{Cluster, ErrorKind, NodeChange};
use crate::model::{NodeName, Uid};

/// Changes a Node. A Node that is gone, or another of its name, needs no change any more.
pub(super) async fn change<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    node: &NodeName,
    uid: &Uid,
    change: &NodeChange,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    let call = || tools.cluster.change_node(node, uid, change);
    match retry::repeat(&tools.jitter, || tools.locked(), call).await {
        Ok(changed) => effects.push(Effect::Node(Box::new(changed))),
        Err(Fault::Cluster(e)) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Conflict) => {
            effects.push(Effect::NodeGone(node.clone()));
        }
        Err(fault) => return Err(fault),
    }
    Ok(())
}
