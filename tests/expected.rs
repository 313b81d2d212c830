//! Which DaemonSets should run where, of a cluster that is there: `tests/stack/run expected-daemonsets` compares
//! the answer with the pods that the real controller made.

#![allow(clippy::unwrap_used, reason = "what cannot be asked fails the test")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use fastnode::cluster::access::Access;
use fastnode::cluster::kube::KubeCluster;
use fastnode::cluster::{Cluster, Kind};
use fastnode::observe::Snapshot;
use fastnode::readiness::should_run;
use tokio::sync::mpsc;

/// Writes, for each DaemonSet of the cluster in `FASTNODE_EXPECTED_KUBECONFIG`, the names of the nodes where it
/// should run, as JSON to `FASTNODE_EXPECTED_OUT`.
#[test]
#[ignore = "needs a control plane: tests/stack/run expected-daemonsets"]
fn of_a_real_cluster() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    let kubeconfig = path("FASTNODE_EXPECTED_KUBECONFIG");
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let snapshot = tokio::task::LocalSet::new().block_on(&runtime, async {
        let connection = Access::Kubeconfig { path: Some(kubeconfig), context: None }.connect().await.unwrap();
        let cluster = KubeCluster::new(connection, 1);
        let (sink, mut facts) = mpsc::channel(1024);
        cluster.watch(sink).await.unwrap();
        let mut snapshot = Snapshot::default();
        while !Kind::ALL.iter().all(|kind| snapshot.synced.kinds.contains(kind)) {
            snapshot.apply(facts.recv().await.unwrap());
        }
        snapshot
    });
    let nodes_of = |set| {
        let nodes = snapshot.nodes.values().filter(move |node| should_run(set, node));
        nodes.map(|node| node.name.to_string()).collect::<Vec<_>>()
    };
    let expected: BTreeMap<String, Vec<String>> =
        snapshot.daemonsets.values().map(|set| (set.key.to_string(), nodes_of(set))).collect();
    std::fs::write(path("FASTNODE_EXPECTED_OUT"), serde_json::to_string_pretty(&expected).unwrap()).unwrap();
}
