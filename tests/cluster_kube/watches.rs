//! The watches' protocol, on virtual time.

use std::time::Duration;

use fastnode::cluster::kube::KubeCluster;
use fastnode::cluster::{Cluster, ErrorKind, Fact, Kind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::server::{Answer, End, Server, local, node, path, pod, status};

const PODS: &str = "GET /api/v1/pods";
const WATCH: &str = "watch /api/v1/pods";

/// Facts about pods, in short.
fn short(fact: &Fact) -> Option<String> {
    match fact {
        Fact::Relisting(Kind::Pod) => Some("relisting".into()),
        Fact::Synced(Kind::Pod) => Some("synced".into()),
        Fact::Pod(pod) => Some(pod.key.name.to_string()),
        Fact::PodGone(uid) => Some(format!("{uid} gone")),
        Fact::WatchFailed(Kind::Pod, why) => Some(format!("failed: {why}")),
        _ => None,
    }
}

/// What is told of pods within `time`.
async fn told(cluster: &KubeCluster, time: Duration) -> (Vec<String>, mpsc::Receiver<Fact>) {
    let (sink, mut facts) = mpsc::channel(2);
    cluster.watch(sink).await.unwrap();
    let mut heard = Vec::new();
    let listen = async {
        while let Some(fact) = facts.recv().await {
            heard.extend(short(&fact));
        }
    };
    timeout(time, listen).await.unwrap_err();
    (heard, facts)
}

fn bookmark(version: &str) -> (&'static str, Value) {
    (
        "BOOKMARK",
        json!({ "metadata": { "resourceVersion": version, "creationTimestamp": null }, "spec": { "containers": null } }),
    )
}

fn expired() -> Answer {
    let gone =
        json!({ "kind": "Status", "message": "too old resource version: 5 (9)", "reason": "Expired", "code": 410 });
    Answer::watch(&[("ERROR", gone)], End::Close)
}

#[tokio::test(start_paused = true)]
async fn pages_then_changes_from_where_the_first_page_stood() {
    local(async {
        let server = Server::default();
        server
            .on(PODS, Answer::page("50", "token-2", &[pod("a", 3), pod("b", 4)]))
            .on(PODS, Answer::page("50", "", &[pod("c", 5)]))
            .on(
                WATCH,
                Answer::watch(
                    &[("MODIFIED", pod("a", 51)), ("DELETED", pod("b", 52)), ("ADDED", pod("d", 53))],
                    End::Hold,
                ),
            );
        let cluster = server.cluster();
        let (heard, _facts) = told(&cluster, Duration::from_secs(5)).await;
        assert_eq!(heard, ["relisting", "a", "b", "c", "synced", "a", "b-uid gone", "d"]);

        let pages = server.asked(PODS);
        assert_eq!(
            pages.iter().map(|p| p.query.as_str()).collect::<Vec<_>>(),
            ["limit=500", "limit=500&continue=token-2"]
        );
        let watch = &server.asked(WATCH)[0].query;
        assert!(watch.contains("resourceVersion=50") && watch.contains("allowWatchBookmarks=true"), "{watch}");
        let seconds: u32 = watch.split("timeoutSeconds=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
        assert!((300..=600).contains(&seconds), "{seconds}");
        // A paged list counts once, as the port says.
        let counts = cluster.requests();
        assert_eq!((counts["list pods"], counts["watch pods"]), (1, 1));
        for kind in Kind::ALL {
            assert_eq!(server.asked(&format!("watch {}", path(kind))).len(), 1, "{kind:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_by_itself_goes_on_at_once_from_the_last_bookmark() {
    local(async {
        let server = Server::default();
        server.on(PODS, Answer::page("50", "", &[])).on(
            WATCH,
            Answer::watch(&[("ADDED", pod("a", 51)), bookmark("60")], End::CloseAfter(Duration::from_secs(100))),
        );
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(120)).await;
        assert_eq!(heard, ["relisting", "synced", "a"]);
        let watches = server.asked(WATCH);
        assert_eq!(watches.len(), 2);
        assert!(watches[1].query.contains("resourceVersion=60"), "{}", watches[1].query);
        assert_eq!(watches[1].at.as_secs(), 100, "reopened late");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_not_yet_handed_on_is_told_again_by_the_resumed_watch() {
    local(async {
        let server = Server::default();
        let cut = format!("{}\n{}", json!({"type": "ADDED", "object": pod("a", 51)}), "{\"type\":\"ADDED\",\"obj");
        server.on(PODS, Answer::page("50", "", &[])).on(WATCH, Answer::text(200, &cut));
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(5)).await;
        assert_eq!(heard, ["relisting", "synced", "a", "failed: the server ended the watch early"]);
        assert!(server.asked(WATCH)[1].query.contains("resourceVersion=51"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again_and_never_in_a_hot_loop() {
    local(async {
        let server = Server::default();
        server
            .on(PODS, Answer::page("5", "", &[pod("a", 3)]))
            .on(WATCH, expired())
            .on(PODS, Answer::page("9", "", &[pod("b", 8)]));
        // The HTTP answer may be 410 as well.
        server.on(WATCH, status(410, "Expired", "too old resource version", json!({})));
        server.on(PODS, Answer::page("11", "", &[]));
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(10)).await;
        let heard: Vec<_> = heard.iter().filter(|fact| !fact.starts_with("failed")).collect();
        assert_eq!(heard, ["relisting", "a", "synced", "relisting", "b", "synced", "relisting", "synced"]);
        let lists = server.asked(PODS);
        assert!(lists[1].at - lists[0].at >= Duration::from_millis(250), "{:?}", lists[1].at);
        assert!(server.asked(WATCH)[2].query.contains("resourceVersion=11"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_watch_at_once_is_asked_ever_more_rarely() {
    local(async {
        let server = Server::default();
        for _ in 0..1000 {
            server.on(WATCH, Answer::watch(&[bookmark("7")], End::Close));
        }
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(300)).await;
        let times: Vec<_> = server.asked(WATCH).iter().map(|w| w.at).collect();
        assert!((10..=25).contains(&times.len()), "{} watches in 300 s", times.len());
        assert!(times.windows(2).all(|w| w[1] - w[0] >= Duration::from_millis(250)), "{times:?}");
        assert!(times.windows(2).all(|w| w[1] - w[0] <= Duration::from_secs(31)), "{times:?}");
        assert!(heard.contains(&"failed: the server ended the watch early".to_owned()));

        let again = Server::default();
        for _ in 0..1000 {
            again.on(WATCH, Answer::watch(&[bookmark("7")], End::Close));
        }
        told(&again.cluster(), Duration::from_secs(300)).await;
        assert_eq!(again.asked(WATCH).iter().map(|w| w.at).collect::<Vec<_>>(), times, "the jitter is not seeded");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_silent_is_taken_up_again() {
    local(async {
        let server = Server::default();
        server.on(PODS, Answer::page("5", "", &[])).on(WATCH, Answer::watch(&[bookmark("6")], End::Hold));
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(200)).await;
        assert_eq!(heard[2], "failed: failed to watch pods: nothing came from https://api.test for 150 s");
        assert!(server.asked(WATCH)[1].query.contains("resourceVersion=6"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_waited_for_and_the_old_facts_stand_meanwhile() {
    local(async {
        let server = Server::default();
        server.on(PODS, Answer::page("5", "", &[pod("a", 3)])).on(WATCH, expired());
        for _ in 0..4 {
            server.on(PODS, status(503, "ServiceUnavailable", "etcd leader changed", json!({})));
        }
        server.on(PODS, Answer::page("9", "", &[pod("a", 3)]));
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(60)).await;
        let failed = "failed: failed to list pods: etcd leader changed";
        assert_eq!(heard[3], "failed: the list or watch expired on the server");
        assert_eq!(&heard[4..8], [failed; 4]);
        assert_eq!(&heard[8..], ["relisting", "a", "synced"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_is_named_and_never_skipped() {
    local(async {
        let server = Server::default();
        let broken = json!({ "metadata": { "name": "x", "resourceVersion": "6" }, "spec": {} });
        server.on(PODS, Answer::page("5", "", &[])).on(WATCH, Answer::watch(&[("ADDED", broken)], End::Hold));
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(5)).await;
        assert!(
            heard[2].starts_with("failed: failed to list pods: failed to decode a Pod: missing field `uid`"),
            "{heard:?}"
        );
        assert_eq!(&heard[3..], ["relisting", "synced"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_denied_at_the_start_ends_all_and_names_the_right() {
    local(async {
        let server = Server::default();
        let message =
            "pods is forbidden: User \"ci\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
        server.on(PODS, status(403, "Forbidden", message, json!({ "kind": "pods" })));
        let cluster = server.cluster();
        let (sink, mut facts) = mpsc::channel(100);
        let error = cluster.watch(sink).await.unwrap_err();
        assert_eq!((error.kind.clone(), &*error.verb), (ErrorKind::Forbidden, "list pods"));
        assert_eq!(error.to_string(), format!("failed to list pods: {message}"));
        while facts.recv().await.is_some() {}
        sleep(Duration::from_secs(1000)).await;
        assert_eq!(server.asked("watch /api/v1/nodes").len(), 1, "a watch outlived the failed start");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_bears_a_hiccup_but_not_a_server_that_is_down() {
    local(async {
        let unavailable = || status(503, "ServiceUnavailable", "starting", json!({}));
        let server = Server::default();
        server.on(PODS, unavailable()).on(PODS, unavailable());
        let (heard, _facts) = told(&server.cluster(), Duration::from_secs(5)).await;
        assert_eq!(heard, ["relisting", "synced"]);

        let server = Server::default();
        server.on(PODS, unavailable()).on(PODS, unavailable()).on(PODS, unavailable());
        let error = server.cluster().watch(mpsc::channel(100).0).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn watches_end_when_nobody_listens() {
    local(async {
        let server = Server::default();
        let cluster = server.cluster();
        let (_, facts) = told(&cluster, Duration::from_secs(5)).await;
        assert_eq!(server.open(), Kind::ALL.len());
        drop(facts);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(server.open(), 0, "watches are held open for nobody");
        let before = server.calls().len();
        sleep(Duration::from_secs(5000)).await;
        assert_eq!(server.calls().len(), before);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nodes_seen_by_the_watch_need_no_read_before_their_taints_change() {
    local(async {
        let server = Server::default();
        server.on("GET /api/v1/nodes", Answer::page("5", "", &[node("n1", 4, &json!([]))]));
        server.on(
            "watch /api/v1/nodes",
            Answer::watch(
                &[("MODIFIED", node("n1", 8, &json!([{ "key": "theirs", "effect": "NoSchedule" }])))],
                End::Hold,
            ),
        );
        server.on("PATCH /api/v1/nodes/n1", Answer::json(200, &node("n1", 9, &json!([]))));
        let cluster = server.cluster();
        let (_, _facts) = told(&cluster, Duration::from_secs(5)).await;
        let change = fastnode::cluster::NodeChange { remove_taint: Some("ours".into()), ..Default::default() };
        cluster.change_node(&"n1".into(), &"n1-uid".into(), &change).await.unwrap();
        let patch = &server.asked("PATCH /api/v1/nodes/n1")[0].body;
        assert_eq!(patch["metadata"]["resourceVersion"], "8");
        assert_eq!(patch["spec"]["taints"], json!([{ "key": "theirs", "effect": "NoSchedule" }]));
        assert!(server.asked("GET /api/v1/nodes/n1").is_empty());
    })
    .await;
}
