//! What is sent again, how often, and what never is.

use std::collections::BTreeMap;
use std::time::Duration;

use fastnode::cluster::kube::KubeCluster;
use fastnode::cluster::{Cluster, ErrorKind, NodeChange};
use fastnode::model::{ObjectKey, Text};
use serde_json::json;
use tokio::time::Instant;

use super::server::{Answer, Server, local, status};

const VERSION: &str = "GET /version";
const REVIEWS: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const LEASE: &str = "GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/fastnode";
const CONFIGS: &str = "GET /api/v1/namespaces/kube-system/configmaps";

fn version() -> Answer {
    Answer::json(200, &json!({ "gitVersion": "v1.36.3" }))
}

/// Faults that pass: each may come once before the answer.
fn passing() -> [Answer; 7] {
    [
        Answer::reset(),
        Answer::text(429, "Too many requests, please try again later.\n").retry_after(1),
        status(500, "InternalError", "etcdserver: leader changed", json!({})),
        Answer::text(502, "<html>Bad Gateway</html>"),
        status(503, "ServiceUnavailable", "the server is starting", json!({})),
        status(504, "Timeout", "request did not complete within the allotted timeout", json!({})),
        Answer::silence(),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_read_bears_one_passing_fault_and_counts_both_requests() {
    local(async {
        for fault in passing() {
            let server = Server::default();
            let review = Answer::json(201, &json!({ "status": { "allowed": true } }));
            let lease = Answer::json(200, &json!({ "metadata": { "name": "fastnode", "resourceVersion": "4" } }));
            let list = Answer::json(200, &json!({ "items": [] }));
            for (what, answer) in [(VERSION, version()), (REVIEWS, review), (LEASE, lease), (CONFIGS, list)] {
                server.on(what, fault.clone()).on(what, answer);
            }
            let cluster = server.cluster();
            cluster.version().await.unwrap();
            assert!(cluster.refused(&[("get", "nodes", None)]).await.unwrap().is_empty());
            cluster.lease(&ObjectKey::new("kube-system", "fastnode")).await.unwrap().unwrap();
            cluster.configs("kube-system").await.unwrap();
            let twice = |verb: &str| (Text::from(verb), 2);
            let expected = ["get /version", "create selfsubjectaccessreviews", "get leases", "list configmaps"];
            assert_eq!(cluster.requests(), BTreeMap::from(expected.map(twice)), "{fault:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_down_is_asked_four_times_ever_more_slowly() {
    local(async {
        let server = Server::default();
        for _ in 0..5 {
            server.on(VERSION, Answer::text(503, "starting"));
        }
        let error = server.cluster().version().await.unwrap_err();
        assert_eq!((error.kind, &*error.message), (ErrorKind::Unavailable, "starting"));
        let at: Vec<Duration> = server.calls().iter().map(|c| c.at).collect();
        let pauses: Vec<u128> = at.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
        assert_eq!(pauses.len(), 3, "{pauses:?}");
        for (pause, least) in pauses.iter().zip([250, 500, 1000]) {
            assert!((least..=2 * least).contains(pause), "{pauses:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_retry_after_is_waited_out_where_there_is_time_for_it() {
    local(async {
        let server = Server::default();
        server.on(VERSION, Answer::text(429, "busy").retry_after(5)).on(VERSION, version());
        server.cluster().version().await.unwrap();
        let waited = server.calls()[1].at;
        assert!(waited >= Duration::from_secs(5), "{waited:?}");

        let server = Server::default();
        server.on(VERSION, Answer::text(429, "busy").retry_after(60));
        let begun = Instant::now();
        let error = server.cluster().version().await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(60)));
        assert_eq!((server.calls().len(), begun.elapsed().as_secs()), (1, 0), "nobody waits a minute for a read");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final() {
    local(async {
        let refusals = [
            status(401, "Unauthorized", "Unauthorized", json!({})),
            status(403, "Forbidden", "configmaps is forbidden", json!({ "kind": "configmaps" })),
            status(404, "NotFound", "not found", json!({})),
            status(422, "Invalid", "invalid", json!({})),
        ];
        for refusal in refusals {
            let server = Server::default();
            server.on(CONFIGS, refusal.clone());
            server.cluster().configs("kube-system").await.unwrap_err();
            assert_eq!(server.calls().len(), 1, "{refusal:?}");
        }
    })
    .await;
}

/// Writes that fail with `answer`; each is to be sent once.
async fn write_all(cluster: &KubeCluster) {
    let change = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
    cluster.change_node(&"n1".into(), &"n1-uid".into(), &change).await.unwrap_err();
    cluster.delete_node(&"n1".into(), &"n1-uid".into()).await.unwrap_err();
    let pod = ObjectKey::new("shop", "api-1");
    cluster.evict(&pod, &"pod-uid".into()).await.unwrap_err();
    cluster.delete_pod(&pod, &"pod-uid".into(), 30).await.unwrap_err();
    cluster.delete_lease(&ObjectKey::new("kube-system", "fastnode"), "4").await.unwrap_err();
    cluster.delete_config("kube-system", "fastnode-r1").await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn writes_are_sent_once_whatever_the_fault() {
    local(async {
        for fault in passing() {
            let server = Server::default();
            let pod = "/api/v1/namespaces/shop/pods/api-1";
            for what in [
                "PATCH /api/v1/nodes/n1".to_owned(),
                "DELETE /api/v1/nodes/n1".to_owned(),
                format!("POST {pod}/eviction"),
                format!("DELETE {pod}"),
                "DELETE /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/fastnode".to_owned(),
                "DELETE /api/v1/namespaces/kube-system/configmaps/fastnode-r1".to_owned(),
            ] {
                server.on(&what, fault.clone());
            }
            let cluster = server.cluster();
            write_all(&cluster).await;
            assert_eq!(server.calls().len(), 6, "{fault:?}");
            assert!(cluster.requests().values().all(|n| *n == 1), "{fault:?}");
        }
    })
    .await;
}
