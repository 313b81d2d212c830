//! Whom a field belongs to decides whether a fix may touch it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use fastnode::cluster::Result;
use fastnode::cluster::manifests::{Manifests, Sending, ServiceRecord};
use fastnode::fixes::{Catalogue, Options, Remedy, Way};
use fastnode::model::ObjectKey;
use fastnode::sim::SimCluster;
use serde_json::{Value, json};

use crate::bench::{Bench, FAULTY, key, on_virtual_time};

/// A cluster whose DaemonSets are written by somebody else just before each of the next so many writes, as their
/// controller does while pods come and go.
struct Restless(SimCluster, Cell<u32>);

impl Restless {
    async fn stir(&self, key: &ObjectKey) {
        if self.1.get() > 0 {
            self.1.set(self.1.get() - 1);
            let count = self.1.get().to_string();
            let patch = json!([{ "op": "add", "path": "/metadata/annotations/example.com~1seen", "value": count }]);
            self.0.patch_daemonset(key, &patch, Sending::default()).await.unwrap();
        }
    }
}

impl Manifests for Restless {
    async fn daemonset(&self, key: &ObjectKey) -> Result<Option<Value>> {
        self.0.daemonset(key).await
    }

    async fn apply_daemonset(&self, key: &ObjectKey, manifest: &Value, sending: Sending) -> Result<Value> {
        self.stir(key).await;
        self.0.apply_daemonset(key, manifest, sending).await
    }

    async fn patch_daemonset(&self, key: &ObjectKey, patch: &Value, sending: Sending) -> Result<Value> {
        self.stir(key).await;
        self.0.patch_daemonset(key, patch, sending).await
    }

    async fn service(&self, key: &ObjectKey) -> Result<Option<ServiceRecord>> {
        self.0.service(key).await
    }

    async fn config_map(&self, key: &ObjectKey) -> Result<Option<BTreeMap<String, String>>> {
        self.0.config_map(key).await
    }
}

#[test]
fn an_object_that_moves_on_while_it_is_judged_is_looked_at_again() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let restless = Rc::new(Restless(bench.sim.cluster.clone(), Cell::new(0)));
        let (cloud, catalogue) = (Rc::new(bench.sim.cloud.clone()), Catalogue::shipped().unwrap());
        let remedy =
            Remedy::new(cloud, restless.clone(), bench.sim.clock, "test".into(), catalogue, Some("a:1".into()));
        // By server-side apply, and by a patch.
        for fix in ["aws-node-wait", "kube-proxy-hostname-override"] {
            restless.1.set(2);
            let proposal = remedy.propose(fix, &Options::default()).await.unwrap();
            assert!(proposal.is_open(), "{fix}: {:?}", proposal.way);
            remedy.apply(&proposal).await.unwrap();
            restless.1.set(2);
            let undo = remedy.propose_revert(fix).await.unwrap();
            remedy.revert(&undo).await.unwrap();
            // One that never rests is nobody's fault, and is said.
            restless.1.set(u32::MAX);
            assert!(!remedy.propose(fix, &Options::default()).await.unwrap().is_open());
        }
    });
}

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
        // Its chart has no value for init containers, and one that makes a wait needless.
        let waits = bench.propose("aws-node-wait").await;
        match &waits.way {
            Some(Way::ByHand { what }) => {
                assert!(
                    what.contains("--set env.CLUSTER_ENDPOINT=https://") && what.contains("init containers"),
                    "{what}"
                );
            }
            other => panic!("{other:?}"),
        }
        // Of a chart that is not known the fields are named.
        bench.sim.cluster.patch_daemonset(&key("kube-proxy"), &marks, Sending::default()).await.unwrap();
        let proxy = bench.propose("kube-proxy-hostname-override").await;
        match &proxy.way {
            Some(Way::ByHand { what }) => {
                assert!(what.contains("spec.template.spec.containers[kube-proxy].command"), "{what}");
                assert!(what.contains("spec.template.spec.containers[kube-proxy].env[NODE_NAME]"), "{what}");
            }
            other => panic!("{other:?}"),
        }
        let taking = Options { take_ownership: true, ..Options::default() };
        bench.apply("cluster-endpoint", taking).await;
        bench.revert("cluster-endpoint").await;
    });
}
