//! Whom a field belongs to decides whether a fix may touch it.

use fastnode::cluster::manifests::{Manifests, Sending};
use fastnode::fixes::{Options, Way};
use serde_json::json;

use crate::bench::{Bench, FAULTY, key, on_virtual_time};

#[test]
fn a_list_that_was_written_once_is_patched_and_its_owner_named() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let proposal = bench.propose("kube-proxy-hostname-override").await;
        let Some(Way::TakeOver { owners }) = &proposal.way else { panic!("{:?}", proposal.way) };
        assert!(!owners.is_empty());
        assert!(proposal.notes.iter().any(|note| note.contains(&owners[0])), "{:?}", proposal.notes);
    });
}

#[test]
fn what_helm_manages_is_changed_in_its_values() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let marks = json!([
            { "op": "add", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "Helm" },
            { "op": "add", "path": "/metadata/annotations/meta.helm.sh~1release-name", "value": "cni" },
        ]);
        bench.sim.cluster.patch_daemonset(&key("aws-node"), &marks, Sending::default()).await.unwrap();
        let proposal = bench.propose("cluster-endpoint").await;
        match &proposal.way {
            Some(Way::ByHand { what }) => {
                assert!(
                    what.contains("release kube-system/cni") && what.contains("--set env.CLUSTER_ENDPOINT=https://"),
                    "{what}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(!proposal.is_open());
        let taking = Options { take_ownership: true, ..Options::default() };
        bench.apply("cluster-endpoint", taking).await;
        bench.revert("cluster-endpoint").await;
    });
}
