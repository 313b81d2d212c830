//! What is sent, and what each answer means.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use fastnode::cluster::access::{Access, Tokens, Way};
use fastnode::cluster::kube::KubeCluster;
use fastnode::cluster::{Cluster, ConfigRecord, Error, ErrorKind, LeaseRecord, NodeChange};
use fastnode::model::{ObjectKey, Taint, TaintEffect, Text};
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use super::server::{Answer, Server, local, node, status};

const EVICT: &str = "POST /api/v1/namespaces/shop/pods/api-1/eviction";
const PATCH: &str = "PATCH /api/v1/nodes/n1";
const NODE: &str = "GET /api/v1/nodes/n1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

fn pod() -> ObjectKey {
    ObjectKey::new("shop", "api-1")
}

async fn evicted(answer: Answer) -> Result<(), Error> {
    let server = Server::default();
    server.on(EVICT, answer);
    let cluster = server.cluster();
    let result = cluster.evict(&pod(), &"pod-uid".into()).await;
    assert_eq!(server.calls().len(), 1, "an eviction was sent more than once");
    assert_eq!(
        server.calls()[0].body,
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "api-1", "namespace": "shop" },
            "deleteOptions": { "preconditions": { "uid": "pod-uid" } } })
    );
    assert_eq!(cluster.requests(), BTreeMap::from([("create pods/eviction".into(), 1)]));
    result
}

/// The cause both refusals of a budget carry.
fn budget(message: &str, retry_after: Option<u32>) -> Answer {
    let mut details = json!({ "causes": [{ "reason": "DisruptionBudget", "message": message }] });
    if let Some(seconds) = retry_after {
        details["retryAfterSeconds"] = json!(seconds);
    }
    status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", details)
}

#[tokio::test(start_paused = true)]
async fn an_eviction_granted() {
    local(async {
        let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        evicted(Answer::json(201, &success)).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_refusal_of_an_eviction_is_told_apart() {
    let several = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    let cases = [
        (
            budget("The disruption budget api needs 2 healthy pods and has 2 currently", None),
            ErrorKind::BudgetExhausted,
            None,
        ),
        (
            budget("The disruption budget api is still being processed by the server.", Some(10)).retry_after(10),
            ErrorKind::BudgetUnobserved,
            Some(10),
        ),
        (
            Answer::text(429, "Too many requests, please try again later.\n").retry_after(1),
            ErrorKind::Throttled,
            Some(1),
        ),
        (
            status(429, "TooManyRequests", "The request is throttled", json!({ "retryAfterSeconds": 3 })),
            ErrorKind::Throttled,
            Some(3),
        ),
        (status(500, "", several, Value::Null), ErrorKind::SeveralBudgets, None),
        (status(500, "InternalError", "etcdserver: request timed out", json!({})), ErrorKind::Unavailable, None),
        (
            status(
                504,
                "Timeout",
                "Timeout: couldn't update PodDisruptionBudget \"api\" due to conflicts",
                json!({ "retryAfterSeconds": 10 }),
            ),
            ErrorKind::Unavailable,
            Some(10),
        ),
        (
            status(
                403,
                "Forbidden",
                "poddisruptionbudget.policy \"api\" is forbidden: pdb disruptions allowed is negative",
                json!({ "name": "api", "group": "policy", "kind": "poddisruptionbudget" }),
            ),
            ErrorKind::BudgetRefused,
            None,
        ),
        (
            status(
                403,
                "Forbidden",
                "pods \"api-1\" is forbidden: unable to create new content in namespace shop because it is being terminated",
                json!({ "name": "api-1", "kind": "pods", "causes": [{ "reason": "NamespaceTerminating", "message": "namespace shop is being terminated", "field": "metadata.namespace" }] }),
            ),
            ErrorKind::NamespaceTerminating,
            None,
        ),
        (
            status(
                403,
                "Forbidden",
                "pods \"api-1\" is forbidden: User \"ci\" cannot create resource \"pods/eviction\" in API group \"\" in the namespace \"shop\"",
                json!({ "name": "api-1", "kind": "pods" }),
            ),
            ErrorKind::Forbidden,
            None,
        ),
        (
            status(404, "NotFound", "pods \"api-1\" not found", json!({ "name": "api-1", "kind": "pods" })),
            ErrorKind::NotFound,
            None,
        ),
        (
            status(
                409,
                "Conflict",
                "Operation cannot be fulfilled on Pod \"api-1\": the UID in the precondition (a) does not match",
                json!({}),
            ),
            ErrorKind::Conflict,
            None,
        ),
        (status(401, "Unauthorized", "Unauthorized", json!({})), ErrorKind::Unauthorized, None),
        (Answer::text(502, "<html>Bad Gateway</html>"), ErrorKind::Unavailable, None),
    ];
    local(async {
        for (answer, kind, retry_after) in cases {
            let error = evicted(answer.clone()).await.unwrap_err();
            assert_eq!((&error.kind, error.retry_after), (&kind, retry_after), "{answer:?}");
            assert_eq!(&*error.verb, "create pods/eviction");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_eviction_names_the_budget_and_its_numbers() {
    local(async {
        let answer = budget("The disruption budget api needs 2 healthy pods and has 2 currently", None);
        assert_eq!(
            evicted(answer).await.unwrap_err().to_string(),
            "failed to create pods/eviction: Cannot evict pod as it would violate the pod's disruption budget. \
             (The disruption budget api needs 2 healthy pods and has 2 currently)"
        );
    })
    .await;
}

fn texts(pairs: &[(&str, Option<&str>)]) -> BTreeMap<Text, Option<Text>> {
    pairs.iter().map(|(k, v)| (Text::from(*k), v.map(Text::from))).collect()
}

fn soft() -> Taint {
    Taint { key: "fastnode.dev/outdated".into(), value: None, effect: TaintEffect::PreferNoSchedule }
}

async fn change(cluster: &KubeCluster, change: NodeChange) -> Result<fastnode::model::Node, Error> {
    cluster.change_node(&"n1".into(), &"n1-uid".into(), &change).await
}

#[tokio::test(start_paused = true)]
async fn a_change_without_taints_is_one_patch_of_just_its_keys_under_the_uid() {
    local(async {
        let server = Server::default();
        server.on(PATCH, Answer::json(200, &node("n1", 8, &json!([]))));
        let cluster = server.cluster();
        let changed = NodeChange {
            unschedulable: Some(true),
            labels: texts(&[("fastnode.dev/rotation", Some("r1"))]),
            annotations: texts(&[("fastnode.dev/state", Some("draining")), ("fastnode.dev/since", None)]),
            ..NodeChange::default()
        };
        let node = change(&cluster, changed).await.unwrap();
        assert_eq!((node.name.as_str(), node.uid.as_str()), ("n1", "n1-uid"));
        let sent = &server.calls()[0];
        assert_eq!(
            (sent.content.as_str(), sent.query.as_str()),
            ("application/merge-patch+json", "fieldManager=fastnode")
        );
        assert_eq!(
            sent.body,
            json!({
                "metadata": {
                    "uid": "n1-uid",
                    "labels": { "fastnode.dev/rotation": "r1" },
                    "annotations": { "fastnode.dev/state": "draining", "fastnode.dev/since": null },
                },
                "spec": { "unschedulable": true },
            })
        );
        assert_eq!(cluster.requests(), BTreeMap::from([("patch nodes".into(), 1)]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_is_added_and_removed_with_everybody_elses_whole_and_under_the_version_read() {
    local(async {
        let theirs = json!({ "key": "theirs", "value": "x", "effect": "NoExecute", "timeAdded": "2026-11-02T00:00:00Z" });
        let other = json!({ "key": "fastnode.dev/outdated", "effect": "NoSchedule" });
        let server = Server::default();
        let before = json!([theirs, other]);
        server.on(NODE, Answer::json(200, &node("n1", 7, &before)));
        let ours = json!({ "key": "fastnode.dev/outdated", "effect": "PreferNoSchedule" });
        server.on(PATCH, Answer::json(200, &node("n1", 8, &json!([theirs, other, ours]))));
        server.on(PATCH, Answer::json(200, &node("n1", 9, &json!([theirs]))));
        let cluster = server.cluster();

        change(&cluster, NodeChange { add_taint: Some(soft()), ..NodeChange::default() }).await.unwrap();
        let removal = NodeChange { remove_taint: Some(soft().key), ..NodeChange::default() };
        change(&cluster, removal).await.unwrap();

        let sent = server.asked(PATCH);
        assert_eq!(sent[0].body, json!({ "metadata": { "uid": "n1-uid", "resourceVersion": "7" }, "spec": { "taints": [theirs, other, ours] } }));
        // The answer to our own write is remembered: no read in between.
        assert_eq!(sent[1].body, json!({ "metadata": { "uid": "n1-uid", "resourceVersion": "8" }, "spec": { "taints": [theirs] } }));
        assert_eq!(server.asked(NODE).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_there_already_is_replaced_not_doubled() {
    local(async {
        let server = Server::default();
        server.on(
            NODE,
            Answer::json(
                200,
                &node(
                    "n1",
                    7,
                    &json!([{ "key": "fastnode.dev/outdated", "value": "old", "effect": "PreferNoSchedule" }]),
                ),
            ),
        );
        server.on(PATCH, Answer::json(200, &node("n1", 8, &json!([]))));
        change(&server.cluster(), NodeChange { add_taint: Some(soft()), ..NodeChange::default() }).await.unwrap();
        assert_eq!(
            server.asked(PATCH)[0].body["spec"]["taints"],
            json!([{ "key": "fastnode.dev/outdated", "effect": "PreferNoSchedule" }])
        );
    })
    .await;
}

fn conflict() -> Answer {
    status(409, "Conflict", "Operation cannot be fulfilled on nodes \"n1\": the object has been modified", json!({}))
}

#[tokio::test(start_paused = true)]
async fn taints_that_changed_meanwhile_are_read_again_a_bounded_number_of_times() {
    local(async {
        let add = || NodeChange { add_taint: Some(soft()), ..NodeChange::default() };
        let server = Server::default();
        server.on(NODE, Answer::json(200, &node("n1", 7, &json!([])))).on(PATCH, conflict());
        server.on(NODE, Answer::json(200, &node("n1", 8, &json!([{ "key": "new", "effect": "NoSchedule" }]))));
        server.on(PATCH, Answer::json(200, &node("n1", 9, &json!([]))));
        change(&server.cluster(), add()).await.unwrap();
        let second = &server.asked(PATCH)[1].body;
        assert_eq!(
            (&second["metadata"]["resourceVersion"], second["spec"]["taints"].as_array().unwrap().len()),
            (&json!("8"), 2)
        );

        let server = Server::default();
        for version in 0..20 {
            server.on(NODE, Answer::json(200, &node("n1", version, &json!([])))).on(PATCH, conflict());
        }
        assert_eq!(change(&server.cluster(), add()).await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(server.asked(PATCH).len(), 5);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_node_of_that_name_is_a_conflict() {
    local(async {
        let server = Server::default();
        // As a real server refuses a patch whose `metadata.uid` is another object's.
        let cause = json!({ "name": "n1", "kind": "Node", "causes": [{ "reason": "FieldValueInvalid",
            "message": "Invalid value: \"n1-uid\": field is immutable", "field": "metadata.uid" }] });
        server.on(PATCH, status(422, "Invalid", "Node \"n1\" is invalid: metadata.uid: Invalid value", cause));
        let cordon = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
        assert_eq!(change(&server.cluster(), cordon).await.unwrap_err().kind, ErrorKind::Conflict);

        let mut other = node("n1", 7, &json!([]));
        other["metadata"]["uid"] = json!("another");
        server.on(NODE, Answer::json(200, &other));
        let error = change(&server.cluster(), NodeChange { add_taint: Some(soft()), ..NodeChange::default() })
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(error.message, "node n1 is another one now: its UID is another, not n1-uid");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deletions_carry_the_uid_and_a_grace_of_at_least_a_second() {
    local(async {
        let server = Server::default();
        let done = Answer::json(200, &json!({ "kind": "Status", "status": "Success" }));
        server.on("DELETE /api/v1/namespaces/shop/pods/api-1", done.clone()).on("DELETE /api/v1/nodes/n1", done);
        let cluster = server.cluster();
        cluster.delete_pod(&pod(), &"pod-uid".into(), 0).await.unwrap();
        cluster.delete_node(&"n1".into(), &"n1-uid".into()).await.unwrap();
        let bodies: Vec<Value> = server.calls().into_iter().map(|c| c.body).collect();
        assert_eq!(
            bodies,
            [
                json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1, "preconditions": { "uid": "pod-uid" } }),
                json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": "n1-uid" } }),
            ]
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_created_replaced_at_its_version_and_lost_to_whoever_was_faster() {
    local(async {
        let key = ObjectKey::new("kube-system", "fastnode");
        let server = Server::default();
        let cluster = server.cluster();
        assert_eq!(cluster.lease(&key).await.unwrap(), None);

        let stored = json!({ "kind": "Lease", "metadata": { "name": "fastnode", "resourceVersion": "5", "annotations": { "fastnode.dev/rotation": "r1" } },
            "spec": { "holderIdentity": "me", "leaseDurationSeconds": 15, "acquireTime": "2026-11-02T00:00:00.250000Z",
                "renewTime": "2026-11-02T00:00:05.000001Z", "leaseTransitions": 3 } });
        let lease = LeaseRecord {
            holder: Some("me".into()),
            duration_seconds: 15,
            acquired: Some("2026-11-02T00:00:00.25Z".parse().unwrap()),
            renewed: Some("2026-11-02T00:00:05.000001Z".parse().unwrap()),
            transitions: 3,
            annotations: BTreeMap::from([("fastnode.dev/rotation".into(), "r1".into())]),
            version: None,
        };
        server.on(&format!("POST {LEASE}"), Answer::json(201, &stored));
        let created = cluster.put_lease(&key, &lease).await.unwrap();
        assert_eq!(created, LeaseRecord { version: Some("5".into()), ..lease });
        let sent = &server.asked(&format!("POST {LEASE}"))[0].body;
        assert_eq!(sent["spec"], stored["spec"]);
        assert_eq!(sent["metadata"], json!({ "name": "fastnode", "namespace": "kube-system", "annotations": { "fastnode.dev/rotation": "r1" } }));

        let put = format!("PUT {LEASE}/fastnode");
        server.on(&put, conflict());
        // Given up: the API takes neither an empty holder nor a duration of 0.
        let released = LeaseRecord { holder: Some(String::new()), duration_seconds: 0, renewed: None, ..created };
        assert_eq!(cluster.put_lease(&key, &released).await.unwrap_err().kind, ErrorKind::Conflict);
        let sent = &server.asked(&put)[0].body;
        assert_eq!(sent["metadata"]["resourceVersion"], "5");
        assert_eq!((&sent["spec"]["holderIdentity"], &sent["spec"]["leaseDurationSeconds"]), (&Value::Null, &json!(1)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn config_maps_of_ours() {
    const CONFIGS: &str = "/api/v1/namespaces/kube-system/configmaps";
    local(async {
        let server = Server::default();
        let stored = json!({ "metadata": { "name": "fastnode-r1", "resourceVersion": "5", "creationTimestamp": "2026-11-02T00:00:00Z" }, "data": { "policy": "{}" } });
        let record = ConfigRecord {
            name: "fastnode-r1".into(),
            data: BTreeMap::from([("policy".into(), "{}".into())]),
            version: Some("5".into()),
            created: Some("2026-11-02T00:00:00Z".parse().unwrap()),
        };
        server.on(&format!("GET {CONFIGS}"), Answer::json(200, &json!({ "items": [stored, { "metadata": { "name": "empty" } }] })));
        let cluster = server.cluster();
        let found = cluster.configs("kube-system").await.unwrap();
        assert_eq!((found.len(), &found[0]), (2, &record));
        assert_eq!(server.calls()[0].query, "labelSelector=fastnode.dev/rotation");

        server.on(&format!("POST {CONFIGS}"), Answer::json(201, &stored));
        let new = ConfigRecord { version: None, created: None, ..record.clone() };
        assert_eq!(cluster.put_config("kube-system", "r1", &new).await.unwrap(), record);
        let sent = &server.asked(&format!("POST {CONFIGS}"))[0].body;
        assert_eq!(sent["metadata"], json!({ "name": "fastnode-r1", "namespace": "kube-system", "labels": { "fastnode.dev/rotation": "r1" } }));
        assert_eq!(sent["data"], json!({ "policy": "{}" }));

        server.on(&format!("PUT {CONFIGS}/fastnode-r1"), conflict());
        assert_eq!(cluster.put_config("kube-system", "r1", &record).await.unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(server.asked(&format!("PUT {CONFIGS}/fastnode-r1"))[0].body["metadata"]["resourceVersion"], "5");

        server.on(&format!("DELETE {CONFIGS}/fastnode-r1"), Answer::json(200, &json!({})));
        cluster.delete_config("kube-system", "fastnode-r1").await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refused_rights_are_named_in_the_order_asked() {
    const REVIEWS: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    local(async {
        let server = Server::default();
        for allowed in [true, false, false] {
            server.on(REVIEWS, Answer::json(201, &json!({ "status": { "allowed": allowed } })));
        }
        let wanted = [("patch", "nodes", None), ("create", "pods/eviction", None), ("update", "leases", Some("kube-system"))];
        let refused = server.cluster().refused(&wanted).await.unwrap();
        assert_eq!(refused, ["create pods/eviction", "update leases in kube-system"]);
        let asked: Vec<Value> =
            server.asked(REVIEWS).into_iter().map(|r| r.body["spec"]["resourceAttributes"].clone()).collect();
        assert_eq!(
            asked,
            [
                json!({ "verb": "patch", "group": "", "resource": "nodes" }),
                json!({ "verb": "create", "group": "", "resource": "pods", "subresource": "eviction" }),
                json!({ "verb": "update", "group": "coordination.k8s.io", "resource": "leases", "namespace": "kube-system" }),
            ]
        );
    })
    .await;
}

/// Hands out `old` until it is asked for a fresh one.
#[derive(Default)]
struct Renewing(RefCell<Vec<bool>>);

impl Tokens for Renewing {
    fn token(&self, fresh: bool) -> LocalBoxFuture<'_, Result<String, String>> {
        self.0.borrow_mut().push(fresh);
        let renewed = self.0.borrow().contains(&true);
        Box::pin(async move { Ok(if renewed { "new".into() } else { "old".into() }) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once_and_the_request_goes_on() {
    local(async {
        let server = Server::default();
        let refused = || status(401, "Unauthorized", "Unauthorized", json!({}));
        server.on("GET /version", refused()).on("GET /version", Answer::json(200, &json!({ "gitVersion": "v1.36.3" })));
        let cluster = server.cluster_with(Some(Rc::new(Renewing::default())));
        assert_eq!(&*cluster.version().await.unwrap(), "v1.36.3");
        let tokens: Vec<String> = server.calls().into_iter().map(|c| c.token).collect();
        assert_eq!(tokens, ["Bearer old", "Bearer new"]);

        // A watch is begun the same way.
        let server = Server::default();
        server.on("watch /api/v1/pods", refused());
        let cluster = server.cluster_with(Some(Rc::new(Renewing::default())));
        let (sink, mut facts) = tokio::sync::mpsc::channel(100);
        cluster.watch(sink).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(server.asked("watch /api/v1/pods").len(), 2);
        while let Ok(fact) = facts.try_recv() {
            assert!(!matches!(fact, fastnode::cluster::Fact::WatchFailed(..)), "{fact:?}");
        }

        let server = Server::default();
        server.on("GET /version", refused()).on("GET /version", refused());
        let cluster = server.cluster_with(Some(Rc::new(Renewing::default())));
        assert_eq!(cluster.version().await.unwrap_err().kind, ErrorKind::Unauthorized);
        assert_eq!(server.calls().len(), 2);
    })
    .await;
}

struct NoTokens;

impl Tokens for NoTokens {
    fn token(&self, _: bool) -> LocalBoxFuture<'_, Result<String, String>> {
        Box::pin(async { Err("the AWS credentials have expired".into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_sent_and_the_reason_is_given() {
    local(async {
        let server = Server::default();
        let cluster = server.cluster_with(Some(Rc::new(NoTokens)));
        let error = cluster.version().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized);
        assert_eq!(
            error.to_string(),
            "failed to get /version: no token for https://api.test: the AWS credentials have expired"
        );
        assert!(server.calls().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    local(async {
        let server = Server::default();
        server.on("GET /version", Answer::silence()).on("GET /version", Answer::silence());
        let error = server.cluster().version().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(error.message, "cannot reach https://api.test: no answer within 10 s");
        assert_eq!(server.calls().len(), 2, "each try takes its 10 s: there is time for two");
    })
    .await;
}

#[test]
fn a_kubeconfig_that_is_named_goes_first_then_the_pod_then_eks() {
    let file = std::path::Path::new("/x");
    let named = Way::Kubeconfig { path: Some("/x".into()), context: None };
    assert_eq!(Way::choose(Some(file), None, true), named);
    assert_eq!(Way::choose(None, Some("c"), true), Way::Kubeconfig { path: None, context: Some("c".into()) });
    assert_eq!(Way::choose(None, None, true), Way::InCluster);
    assert_eq!(Way::choose(None, None, false), Way::Eks);
}

/// A port of loopback nobody listens on.
fn dead_end() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_kubeconfig_names_its_context_and_an_unreachable_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let host = dead_end();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "clusters": [{ "name": "c", "cluster": { "server": host, "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
        "contexts": [{ "name": "main", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let access =
        |context: Option<&str>| Access::Kubeconfig { path: Some(file.clone()), context: context.map(str::to_owned) };
    local(async {
        let cluster = KubeCluster::new(access(None).connect().await.unwrap(), 1);
        let error = cluster.version().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.starts_with(&format!("cannot reach {host}: Connection refused")), "{error}");

        let error = access(Some("typo")).connect().await.err().unwrap();
        assert_eq!(error.message, r#"there is no context "typo" in it, only ["main"]"#);
        std::fs::remove_file(&file).unwrap();
        let error = access(None).connect().await.err().unwrap();
        assert!(error.to_string().starts_with(&format!("failed to use {}: ", file.display())), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_kubeconfigs_proxy_is_asked_for_the_server() {
    local(async {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = proxy.local_addr().unwrap().port();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{ "name": "c", "cluster": {
                "server": "https://api.test:6443", "proxy-url": format!("http://127.0.0.1:{port}") } }],
            "users": [{ "name": "u", "user": { "token": "t" } }],
            "contexts": [{ "name": "a", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(file.path(), text.to_string()).unwrap();
        let asked = tokio::task::spawn_local(async move {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
        let cluster = KubeCluster::new(access.connect().await.unwrap(), 7);
        let error = cluster.evict(&pod(), &"u".into()).await.unwrap_err();
        assert!(error.message.starts_with("cannot reach https://api.test:6443 (through proxy 127.0.0.1): "), "{error}");
        assert!(asked.await.unwrap().starts_with("CONNECT api.test:6443 HTTP/1.1\r\n"));
    })
    .await;
}

#[tokio::test]
async fn a_ca_that_is_none_is_told_before_anything_is_sent() {
    let cluster = |ca: &str| fastnode::cloud::EksCluster {
        name: "prod".into(),
        version: "1.36".into(),
        endpoint: "https://127.0.0.1:1".into(),
        ca: ca.into(),
        status: "ACTIVE".into(),
    };
    for ca in ["not base64!", "bm9uZQ=="] {
        let access = Access::Eks { cluster: cluster(ca), tokens: Rc::new(NoTokens) };
        let error = access.connect().await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Certificate);
        assert!(
            error.message.starts_with("the certificate authority of prod is not base64 of PEM certificates"),
            "{error}"
        );
    }
}
