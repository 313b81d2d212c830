//! Logs and Events, as they are asked for and as they come.

use fastnode::cluster::ErrorKind;
use fastnode::cluster::evidence::{Evidence, LogRun};
use fastnode::model::ObjectKey;
use serde_json::{Value, json};

use super::server::{Answer, Server, local, status};

const LOG: &str = "GET /api/v1/namespaces/kube-system/pods/aws-node-x1/log";
const EVENTS: &str = "GET /api/v1/events";

fn pod() -> ObjectKey {
    ObjectKey::new("kube-system", "aws-node-x1")
}

#[tokio::test(start_paused = true)]
async fn a_log_is_asked_for_with_times_and_within_bounds() {
    local(async {
        let server = Server::default();
        server.on(LOG, Answer::text(200, "2026-11-20T10:11:13.4Z one\n2026-11-20T10:11:14Z two\n"));
        server.on(LOG, Answer::text(200, ""));
        let cluster = server.cluster();
        let lines = cluster.logs(&pod(), "aws-node", LogRun::Previous).await.unwrap();
        assert_eq!(lines.iter().map(|l| &*l.text).collect::<Vec<_>>(), ["one", "two"]);
        assert!(cluster.logs(&pod(), "aws-node", LogRun::Current).await.unwrap().is_empty());
        let queries: Vec<_> = server.asked(LOG).into_iter().map(|seen| seen.query).collect();
        let common = "container=aws-node&timestamps=true&tailLines=400&limitBytes=131072";
        assert_eq!(queries, [format!("{common}&previous=true"), common.to_owned()]);
        assert_eq!(cluster_requests(&cluster), [("get pods/log".to_owned(), 2)]);
    })
    .await;
}

fn cluster_requests(cluster: &fastnode::cluster::kube::KubeCluster) -> Vec<(String, u64)> {
    use fastnode::cluster::Cluster;
    cluster.requests().into_iter().map(|(verb, count)| (verb.to_string(), count)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_was_and_a_pod_that_is_gone_have_an_empty_log_and_a_refusal_is_told() {
    local(async {
        let server = Server::default();
        let no_run = "previous terminated container \"aws-node\" in pod \"aws-node-x1\" not found";
        server.on(LOG, status(400, "BadRequest", no_run, Value::Null));
        server.on(LOG, status(404, "NotFound", "pods \"aws-node-x1\" not found", json!({ "kind": "pods" })));
        server.on(LOG, status(403, "Forbidden", "pods \"aws-node-x1\" is forbidden", json!({ "kind": "pods" })));
        server.on(LOG, status(500, "InternalError", "dial tcp 10.0.1.7:10250: i/o timeout", Value::Null));
        let cluster = server.cluster();
        for _ in 0..2 {
            assert!(cluster.logs(&pod(), "aws-node", LogRun::Previous).await.unwrap().is_empty());
        }
        let refused = cluster.logs(&pod(), "aws-node", LogRun::Previous).await.unwrap_err();
        assert_eq!((refused.kind, &*refused.verb), (ErrorKind::Forbidden, "get pods/log"));
        let dead = cluster.logs(&pod(), "aws-node", LogRun::Previous).await.unwrap_err();
        assert_eq!(dead.kind, ErrorKind::Unavailable);
        assert_eq!(server.calls().len(), 4, "a node that does not answer is not asked again");
    })
    .await;
}

fn event(name: &str, extra: &Value) -> Value {
    let mut event = json!({
        "metadata": { "name": "x", "namespace": "kube-system", "uid": "e-1" },
        "involvedObject": { "kind": "Pod", "namespace": "kube-system", "name": name, "uid": "p-1", "fieldPath": "spec" },
        "type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container",
        "firstTimestamp": "2026-11-20T10:00:00Z", "lastTimestamp": "2026-11-20T10:05:00Z", "count": 7,
        "source": { "component": "kubelet", "host": "n1" }, "reportingComponent": "",
    });
    for (key, value) in extra.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

#[tokio::test(start_paused = true)]
async fn warnings_are_one_list_in_pages_and_events_of_either_form_are_read() {
    local(async {
        let server = Server::default();
        let newer = json!({
            "involvedObject": { "kind": "Node", "namespace": "default", "name": "n1", "uid": "n1" }, "count": null,
            "firstTimestamp": null, "lastTimestamp": null, "eventTime": "2026-11-20T10:01:00.000001Z", "source": {},
            "series": { "count": 3, "lastObservedTime": "2026-11-20T10:02:00.000001Z" },
            "reportingComponent": "node-controller",
        });
        server.on(EVENTS, Answer::page("9", "abc", &[event("aws-node-x1", &json!({}))]));
        server.on(EVENTS, Answer::page("9", "", &[event("-", &newer)]));
        let found = server.cluster().warnings().await.unwrap();
        let queries: Vec<_> = server.asked(EVENTS).into_iter().map(|seen| seen.query).collect();
        let first = "fieldSelector=type%3DWarning&limit=500";
        assert_eq!(queries, [first.to_owned(), format!("{first}&continue=abc")]);
        let [old, new] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((old.about.clone(), old.count, &*old.source), (pod(), 7, "kubelet"));
        assert_eq!(old.last.map(|t| t.to_string()).as_deref(), Some("2026-11-20T10:05:00Z"));
        assert_eq!((&*new.kind, new.about.clone(), new.count), ("Node", ObjectKey::new("", "n1"), 3));
        assert_eq!(new.first.map(|t| t.to_string()).as_deref(), Some("2026-11-20T10:01:00.000001Z"));
        assert_eq!(new.last.map(|t| t.to_string()).as_deref(), Some("2026-11-20T10:02:00.000001Z"));
        assert_eq!(&*new.source, "node-controller");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn starts_of_kubelets_are_asked_for_alone() {
    local(async {
        let server = Server::default();
        let start = json!({
            "involvedObject": { "kind": "Node", "name": "n1", "uid": "n1" }, "type": "Normal", "reason": "Starting",
            "message": "Starting kubelet.",
        });
        server.on(EVENTS, Answer::page("9", "", &[event("-", &start)]));
        let found = server.cluster().starts().await.unwrap();
        let queries: Vec<_> = server.asked(EVENTS).into_iter().map(|seen| seen.query).collect();
        assert_eq!(queries, ["fieldSelector=involvedObject.kind%3DNode%2Creason%3DStarting&limit=500"]);
        assert_eq!(
            (found[0].about.clone(), &*found[0].source, found[0].warning),
            (ObjectKey::new("", "n1"), "kubelet", false)
        );
    })
    .await;
}
