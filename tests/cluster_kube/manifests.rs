//! Whole objects: what a fix reads and writes.

use std::collections::BTreeMap;

use fastnode::cluster::manifests::{Manifests, Sending, ServiceRecord};
use fastnode::cluster::{Cluster, ErrorKind};
use fastnode::model::ObjectKey;
use serde_json::json;

use super::server::{Answer, Server, local, status};

const DAEMONSET: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/aws-node";

fn aws_node() -> ObjectKey {
    ObjectKey::new("kube-system", "aws-node")
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_none_and_no_error() {
    local(async {
        let cluster = Server::default().cluster();
        assert_eq!(cluster.daemonset(&aws_node()).await.unwrap(), None);
        assert_eq!(cluster.service(&aws_node()).await.unwrap(), None);
        assert_eq!(cluster.config_map(&aws_node()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_daemonset_is_read_whole_and_again_after_a_fault_that_passes() {
    local(async {
        let whole = json!({ "metadata": { "name": "aws-node", "managedFields": [{ "manager": "eks" }] }, "spec": {} });
        let server = Server::default();
        server
            .on(&format!("GET {DAEMONSET}"), Answer::reset())
            .on(&format!("GET {DAEMONSET}"), Answer::json(200, &whole));
        assert_eq!(server.cluster().daemonset(&aws_node()).await.unwrap(), Some(whole));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_apply_says_who_applies_and_is_sent_once() {
    local(async {
        let server = Server::default();
        let what = format!("PATCH {DAEMONSET}");
        server
            .on(&what, Answer::json(200, &json!({ "spec": 1 })))
            .on(&what, status(500, "InternalError", "etcd", json!({})));
        let cluster = server.cluster();
        let manifest = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet" });
        assert_eq!(
            cluster.apply_daemonset(&aws_node(), &manifest, Sending::default()).await.unwrap(),
            json!({ "spec": 1 })
        );
        let forced = Sending { force: true, ..Sending::default() };
        let error = cluster.apply_daemonset(&aws_node(), &manifest, forced).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let calls = server.calls();
        assert_eq!(calls.len(), 2, "a write is never sent again by the adapter");
        assert_eq!(calls[0].content, "application/apply-patch+yaml");
        assert_eq!(calls[0].query, "fieldManager=fastnode");
        assert_eq!(calls[0].body, manifest);
        assert_eq!(calls[1].query, "fieldManager=fastnode&force=true");
        assert_eq!(cluster.requests(), BTreeMap::from([("patch daemonsets".into(), 2)]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_only_judged_is_marked_so_and_asked_again() {
    local(async {
        let server = Server::default();
        let what = format!("PATCH {DAEMONSET}");
        server.on(&what, Answer::text(502, "bad gateway")).on(&what, Answer::json(200, &json!({})));
        let cluster = server.cluster();
        let patch = json!([{ "op": "test", "path": "/metadata/resourceVersion", "value": "7" }]);
        // Force is a word of server-side apply alone: the server refuses it elsewhere.
        let judged = Sending { dry_run: true, force: true };
        cluster.patch_daemonset(&aws_node(), &patch, judged).await.unwrap();
        let calls = server.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[1].content, "application/json-patch+json");
        assert_eq!(calls[1].query, "fieldManager=fastnode&dryRun=All");
        assert_eq!(calls[1].body, patch);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_and_a_broken_schema_keep_the_servers_words() {
    local(async {
        let server = Server::default();
        let what = format!("PATCH {DAEMONSET}");
        let conflict = "Apply failed with 1 conflict: conflict with \"eks\": .spec.template.spec.containers[name=\"kube-proxy\"].command";
        let invalid = "DaemonSet.apps \"aws-node\" is invalid: spec.template.spec.initContainers[1].image: Required value";
        server
            .on(&what, status(409, "Conflict", conflict, json!({ "causes": [{ "reason": "FieldManagerConflict" }] })))
            .on(&what, status(422, "Invalid", invalid, json!({})));
        let cluster = server.cluster();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let error = cluster.apply_daemonset(&aws_node(), &json!({}), Sending::default()).await.unwrap_err();
            seen.push((error.kind, error.message));
        }
        assert_eq!(seen, [(ErrorKind::Conflict, conflict.to_owned()), (ErrorKind::Invalid, invalid.to_owned())]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_has_an_address_unless_it_is_headless() {
    local(async {
        let server = Server::default();
        let what = "GET /api/v1/namespaces/default/services/kubernetes";
        for ip in ["10.100.0.1", "None"] {
            server.on(what, Answer::json(200, &json!({ "spec": { "clusterIP": ip, "ports": [{ "port": 443 }] } })));
        }
        let (cluster, key) = (server.cluster(), ObjectKey::new("default", "kubernetes"));
        let expected = ServiceRecord { address: Some("10.100.0.1".into()), ports: vec![443] };
        assert_eq!(cluster.service(&key).await.unwrap(), Some(expected));
        assert_eq!(cluster.service(&key).await.unwrap(), Some(ServiceRecord { address: None, ports: vec![443] }));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_config_maps_data_is_read() {
    local(async {
        let server = Server::default();
        let what = "GET /api/v1/namespaces/kube-system/configmaps/kube-proxy-config";
        server.on(what, Answer::json(200, &json!({ "data": { "config": "mode: iptables" } })));
        let key = ObjectKey::new("kube-system", "kube-proxy-config");
        let data = BTreeMap::from([("config".to_owned(), "mode: iptables".to_owned())]);
        assert_eq!(server.cluster().config_map(&key).await.unwrap(), Some(data));
    })
    .await;
}
