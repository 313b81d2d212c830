//! The cluster as its watches show it, for a verb that runs no rotation.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::exit::Exit;
use super::failure::Failure;
use crate::cluster::{Cluster, Kind};
use crate::model::Text;
use crate::observe::Snapshot;

/// Facts that may wait for us: a burst of the first list.
const FACTS: usize = 1024;
/// How long the first lists may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `fastnode fix` reads of the cluster. AWS is not asked: how a node has started its Node and its pods tell.
const READ: [Kind; 4] = [Kind::Node, Kind::Pod, Kind::DaemonSet, Kind::Revision];

/// The cluster, kept up.
pub(super) struct Seen(Rc<RefCell<Snapshot>>);

impl Seen {
    /// Begins to watch, and returns once all is known. Must be called inside a `LocalSet`.
    ///
    /// # Errors
    /// If the API server cannot be reached or refuses.
    pub(super) async fn begin<K: Cluster + 'static>(cluster: &Rc<K>, name: &Text) -> Result<Self, Failure> {
        let (sink, mut facts) = mpsc::channel(FACTS);
        let (tell, mut listed) = watch::channel(false);
        let mut snapshot = Snapshot::default();
        snapshot.cluster = name.clone();
        let snapshot = Rc::new(RefCell::new(snapshot));
        let known = Rc::clone(&snapshot);
        tokio::task::spawn_local(async move {
            while let Some(fact) = facts.recv().await {
                let mut known = known.borrow_mut();
                known.apply(fact);
                let all = READ.iter().all(|kind| known.synced.kinds.contains(kind));
                tell.send_if_modified(|listed| all && !std::mem::replace(listed, true));
            }
        });
        cluster.watch(sink).await?;
        // The sender goes only with the watch itself.
        if timeout(PATIENCE, listed.wait_for(|listed| *listed)).await.is_err() {
            let missing: Vec<String> = {
                let known = snapshot.borrow();
                READ.iter().filter(|kind| !known.synced.kinds.contains(kind)).map(|kind| format!("{kind:?}")).collect()
            };
            let seconds = PATIENCE.as_secs();
            let why = format!("failed to list {} within {seconds} s", missing.join(", "));
            return Err(Failure::new(Exit::Access, why));
        }
        Ok(Self(snapshot))
    }

    /// As it is now; not to be held over a wait.
    pub(super) fn now(&self) -> Ref<'_, Snapshot> {
        self.0.borrow()
    }
}
