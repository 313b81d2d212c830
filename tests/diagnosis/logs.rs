//! Signatures in logs.

use fastnode::cluster::evidence::LogRun::{Current, Previous};
use fastnode::model::{ContainerState, LastRun, NodeName};
use fastnode::readiness::diagnosis::Confidence;

use serde_json::{Value, json};

use super::scene::{Scene, at};

const NONE: [&str; 0] = [];

/// kube-proxy's own words until 1.33: six lookups with sleeps of 1, 2, 4, 8 and 16 s between them, and the fallback.
fn lookups(why: &str) -> Vec<(f64, String)> {
    let line = |at: f64| {
        let second = 8 + at as u32;
        let text = format!("E1123 12:02:{second:02}.118204       1 server.go:661] Failed to retrieve node info: {why}");
        (at, text)
    };
    let mut lines: Vec<_> = [4.0, 5.1, 7.4, 11.9, 20.2, 36.9].map(line).to_vec();
    let fallback = "I1123 12:02:44.900213       1 server.go:418] can't determine this node's IP, assuming 127.0.0.1; \
                    if this is incorrect, please set the --bind-address flag";
    lines.push((36.91, fallback.to_owned()));
    lines
}

fn not_found() -> Vec<(f64, String)> {
    lookups("nodes \"ip-10-0-3-17.corp.example\" not found")
}

fn with_proxy_log(lines: &[(f64, String)]) -> Scene {
    let lines: Vec<(f64, &str)> = lines.iter().map(|(at, text)| (*at, text.as_str())).collect();
    Scene::new().unready("kube-proxy").log("kube-proxy", Current, &lines)
}

#[test]
fn the_articles_lookup_sequence_is_the_wrong_name_and_costs_what_it_took() {
    let finding = with_proxy_log(&not_found()).proxy_command(&["kube-proxy", "--v=2"]).finding();
    assert_eq!((&*finding.signature, finding.confidence), ("kube-proxy-node-name", Confidence::Certain));
    assert_eq!(finding.fix.as_deref(), Some("kube-proxy-hostname-override"));
    assert_eq!(finding.cost_s, Some(32.9));
    assert_eq!(finding.nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["new-0"]);
    assert_eq!(finding.evidence.len(), 8, "six lookups, the fallback, and the spec: {:#?}", finding.evidence);
    assert_eq!(finding.evidence[0].time, Some(at(4.0)));
    assert_eq!(&*finding.evidence[0].source, "log of kube-proxy-new-0/kube-proxy");
    assert!(finding.evidence[0].text.ends_with("nodes \"ip-10-0-3-17.corp.example\" not found"));
    assert_eq!(&*finding.evidence[7].text, "no container has --hostname-override");
}

#[test]
fn with_the_flag_there_already_adding_it_is_no_fix() {
    for command in [
        vec!["kube-proxy", "--hostname-override=$(MY_NODE)"],
        vec!["kube-proxy", "--hostname-override", "$(NODE_NAME)"],
        vec!["/bin/sh", "-c", "kube-proxy --v=2 --hostname-override=${NODE_NAME}"],
    ] {
        let finding = with_proxy_log(&not_found()).proxy_command(&command).finding();
        assert_eq!(
            (&*finding.signature, finding.confidence, finding.fix),
            ("kube-proxy-node-name", Confidence::Possible, None)
        );
    }
    let other = ["kube-proxy", "--hostname-override-file=/x"];
    assert!(with_proxy_log(&not_found()).proxy_command(&other).finding().fix.is_some(), "another flag");
}

#[test]
fn todays_wordings_are_the_wrong_name_too() {
    let structured = [
        (4.0, "I1123 12:02:04.1       1 server_linux.go:53] \"Using iptables proxy\""),
        (
            5.0,
            r#"E1123 12:02:05.1       1 server.go:687] "Failed to retrieve node info" err="nodes \"ip-10-0-3-17\" not found""#,
        ),
        (
            6.0,
            r#"E1123 12:02:06.1       1 server.go:687] "Failed to retrieve node info" err="nodes \"ip-10-0-3-17\" not found""#,
        ),
    ];
    let polls = [
        (4.0, "I1123 12:02:04.1       1 server_linux.go:53] \"Using iptables proxy\""),
        (34.1, r#"E1123 12:02:34.2       1 node.go:118] "Timed out waiting for node to exist" node="ip-10-0-3-17""#),
        (
            34.1,
            "I1123 12:02:34.2       1 server.go:682] \"Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag\"",
        ),
    ];
    let named = [(
        34.1,
        "E1123 12:02:34.2       1 node.go:118] Timed out waiting for node ip-10-0-3-17.corp to exist: context deadline exceeded",
    )];
    for (lines, cost) in [(&structured[..], Some(1.0)), (&polls[..], Some(30.1)), (&named[..], None)] {
        let finding = Scene::new().unready("kube-proxy").log("kube-proxy", Current, lines).finding();
        assert_eq!((&*finding.signature, finding.confidence), ("kube-proxy-node-name", Confidence::Likely));
        assert_eq!(finding.cost_s, cost);
    }
}

/// kube-proxy ended after five minutes, and its second run was ready at 336 s.
fn ended_after_five_minutes(line: &str) -> Scene {
    let mut scene = Scene::new().restarted("kube-proxy").log("kube-proxy", Previous, &[(301.0, line)]);
    let pod = scene.pod("kube-proxy");
    let last = LastRun { exit_code: 1, reason: "Error".into(), started: Some(at(1.0)), finished: Some(at(302.0)) };
    pod.containers[1].last = Some(last);
    pod.containers[1].state = ContainerState::Running(Some(at(330.0)));
    pod.initialized = Some(at(1.0));
    pod.ready_since = Some(at(336.0));
    scene
}

#[test]
fn a_kube_proxy_that_ends_after_five_minutes_of_looking_has_the_wrong_name() {
    for line in [
        r#"E1123 12:07:01.1       1 server.go:135] "Error running ProxyServer" err="node \"ip-10-0-3-17.corp.example\" not found""#,
        r#"E1123 12:07:01.1       1 run.go:72] "command failed" err="node \"ip-10-0-3-17.corp.example\" not found""#,
    ] {
        let finding = ended_after_five_minutes(line).proxy_command(&["kube-proxy", "--v=2"]).finding();
        assert_eq!((&*finding.signature, finding.confidence), ("kube-proxy-node-name", Confidence::Certain));
        assert_eq!(finding.cost_s, Some(300.0), "from the run's start: nothing is logged while it looks");
        let own = line.replace("ip-10-0-3-17.corp.example", "new-0");
        assert_eq!(ended_after_five_minutes(&own).finding().signature, "kube-proxy-before-node".into());
    }
    let other =
        r#"E1123 12:07:01.1       1 topology.go:33] "Failed to read topology" err="node \"ip-10-0-3-17\" not found""#;
    assert!(!ended_after_five_minutes(other).names().contains(&"kube-proxy-node-name".to_owned()));
    let cidr = r#"E1123 12:07:01.1       1 run.go:72] "command failed" err="node \"ip-10-0-3-17\" does not have any PodCIDR allocated""#;
    assert!(!ended_after_five_minutes(cidr).names().contains(&"kube-proxy-node-name".to_owned()));
}

#[test]
fn a_lookup_under_the_nodes_own_name_came_too_early_and_has_no_wrong_name() {
    let own: Vec<_> = lookups("nodes \"new-0\" not found");
    for lines in [&own[..2], &own[..]] {
        let finding = with_proxy_log(lines).proxy_command(&["kube-proxy", "--v=2"]).finding();
        assert_eq!((&*finding.signature, finding.fix), ("kube-proxy-before-node", None), "{lines:?}");
    }
    for line in [
        r#"E1123 12:02:34.2       1 node.go:118] "Timed out waiting for node to exist" node="new-0""#,
        "E1123 12:02:34.2       1 node.go:118] Timed out waiting for node new-0 to exist: context deadline exceeded",
        r#"E1123 12:02:34.2       1 server.go:210] "Failed" err="timed out waiting for node \"new-0\" to exist: context deadline exceeded""#,
    ] {
        let finding = Scene::new().unready("kube-proxy").log("kube-proxy", Current, &[(34.1, line)]).finding();
        assert_eq!(&*finding.signature, "kube-proxy-before-node", "{line}");
        let other = line.replace("new-0", "new-0.corp.example");
        let finding = Scene::new().unready("kube-proxy").log("kube-proxy", Current, &[(34.1, &other)]).finding();
        assert_eq!(&*finding.signature, "kube-proxy-node-name", "{other}");
    }
}

#[test]
fn a_lookup_that_fails_for_another_reason_is_not_the_name() {
    for why in [
        "Get \"https://10.0.9.4:443/api/v1/nodes/ip-10-0-3-17\": dial tcp 10.0.9.4:443: connect: connection refused",
        "Get \"https://ABCD.gr7.us-west-2.eks.amazonaws.com/api/v1/nodes/ip-10-0-3-17\": dial tcp 10.0.9.4:443: i/o timeout",
        "Get \"https://x\": net/http: TLS handshake timeout",
        "Get \"https://x.eks.amazonaws.com\": dial tcp: lookup x.eks.amazonaws.com: no such host",
    ] {
        let finding = with_proxy_log(&lookups(why)).finding();
        assert_eq!((&*finding.signature, finding.fix), ("api-unreachable", None), "{why}");
        assert_eq!(finding.cost_s, Some(32.9));
    }
    let polls = [
        (
            9.0,
            r#"E1123 12:02:09.1       1 reflector.go:166] "Unhandled Error" err="failed to list *v1.Node: Get \"https://10.0.9.4\": dial tcp 10.0.9.4:443: i/o timeout""#,
        ),
        (34.1, r#"E1123 12:02:34.2       1 node.go:118] "Timed out waiting for node to exist" node="ip-10-0-3-17""#),
    ];
    assert_eq!(
        Scene::new().unready("kube-proxy").log("kube-proxy", Current, &polls).finding().signature,
        "api-unreachable".into()
    );
}

#[test]
fn other_answers_and_other_speakers_are_none_of_these() {
    let forbidden =
        lookups("nodes \"ip-10-0-3-17\" is forbidden: User \"system:kube-proxy\" cannot get resource \"nodes\"");
    assert_eq!(with_proxy_log(&forbidden[..6]).names(), ["not-functional"]);
    let resource = lookups("the server could not find the requested resource");
    assert_eq!(with_proxy_log(&resource[..6]).names(), ["not-functional"]);
    // Late by an informer's breath, and then found.
    let found = [
        (4.0, "E1123 12:02:04.1       1 server.go:661] Failed to retrieve node info: nodes \"ip-10-0-3-17\" not found"),
        (5.1, "I1123 12:02:05.2       1 node.go:172] Successfully retrieved node IP: 10.0.3.17"),
    ];
    assert_eq!(Scene::new().unready("kube-proxy").log("kube-proxy", Current, &found).names(), ["not-functional"]);
    let line = not_found().remove(0).1;
    let other = Scene::new().unready("kiam-agent").log("kiam-agent", Current, &[(4.0, &line)]);
    assert_eq!(other.names(), ["not-functional"], "another component's words");
}

#[test]
fn the_fallback_alone_is_told_where_its_cause_has_left_the_log() {
    let fallback = not_found().pop().unwrap();
    assert_eq!(with_proxy_log(&[fallback]).finding().signature, "kube-proxy-loopback".into());
    let chosen = (4.0, "I1123 12:02:04.1       1 server.go:418] can't determine this node's IP family".to_owned());
    assert_eq!(with_proxy_log(&[chosen]).names(), ["not-functional"]);
}

pub const DIAL: &str = r#"{"level":"error","ts":"2026-11-23T12:02:37.118Z","caller":"aws-k8s-agent/main.go:28","msg":"Failed to start: error communicating with apiserver: Get \"https://172.20.0.1:443/version?timeout=5s\": dial tcp 172.20.0.1:443: i/o timeout"}"#;

#[test]
fn aws_node_that_dialled_the_service_address_in_vain_started_too_early() {
    let finding = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, DIAL)]).finding();
    assert_eq!((&*finding.signature, finding.confidence), ("aws-node-before-service-rules", Confidence::Certain));
    assert_eq!(finding.fix.as_deref(), Some("aws-node-wait"));
    assert_eq!(finding.cost_s, Some(43.0), "from its first start to its readiness");
    assert_eq!(&*finding.evidence[0].source, "log of aws-node-new-0/aws-node, previous run");
    let restart = &finding.evidence[1];
    assert_eq!((&*restart.source, restart.time), ("pod aws-node-new-0", Some(at(37.0))));
    assert_eq!(&*restart.text, "container aws-node restarted 1x, 12 s after start, last exit code 1");

    // The control plane's own address is not the service's: no rule of kube-proxy's leads there.
    let endpoint = DIAL.replace("172.20.0.1", "10.0.37.12");
    let names = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, &endpoint)]).names();
    assert_eq!(names, ["early-restart"]);
    let refused = DIAL.replace("i/o timeout", "connect: connection refused");
    let names = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, &refused)]).names();
    assert_eq!(names, ["early-restart"]);
}

/// What aws-node writes since 1.11 where it tries again: a request of 5 s, a pause of 2 s.
const RETRY: &str = r#"{"level":"error","ts":"2026-11-23T12:02:06.118Z","caller":"k8sapi/k8sutils.go:130","msg":"Unable to reach API Server, Get \"https://172.20.0.1:443/version?timeout=5s\": dial tcp 172.20.0.1:443: i/o timeout"}"#;
const REACHED: &str =
    r#"{"level":"info","msg":"Successful communication with the Cluster! Cluster Version is: v1.31"}"#;
const COPIED: &str = r#"{"level":"info","msg":"Successfully copied CNI plugin binary and config file."}"#;

#[test]
fn one_that_tried_again_and_was_not_restarted_is_a_note_with_what_it_waited_and_no_finding() {
    let lines = [(6.0, RETRY), (8.0, REACHED), (34.0, COPIED)];
    let scene = || Scene::new().late("aws-node", 36.0).log("aws-node", Current, &lines);
    assert_eq!(scene().names(), NONE);
    let said = scene().remarks();
    let expected = "aws-node waited 7.0s for the service rules and was not restarted, so it needs no fix: new-0";
    assert!(said.iter().any(|note| note == expected), "{said:#?}");
    // Another client that tries again.
    let line = "E1123 12:02:06.1       1 main.go:41] dial tcp 172.20.0.1:443: i/o timeout, will retry";
    let kiam = Scene::new().late("kiam-agent", 36.0).log("kiam-agent", Current, &[(6.0, line)]);
    assert_eq!(kiam.names(), NONE);
    // One that still tries waits for kube-proxy, and nothing has ended.
    let still = Scene::new().unready("aws-node").log("aws-node", Current, &lines[..1]);
    let mut found = still.finding();
    assert_eq!((&*found.signature, found.fix.take()), ("api-awaited", None));
}

#[test]
fn a_run_that_reached_the_api_server_and_ended_later_ended_for_something_else() {
    let lines = [(6.0, RETRY), (8.0, REACHED), (36.0, r#"{"level":"fatal","msg":"no ENI could be attached"}"#)];
    let scene = Scene::new().restarted("aws-node").log("aws-node", Previous, &lines);
    assert!(!scene.names().contains(&"aws-node-before-service-rules".to_owned()));
}

#[test]
fn one_that_has_ended_and_is_not_started_again_yet_counts_as_one_that_was() {
    let mut scene = Scene::new().unready("aws-node").log("aws-node", Current, &[(37.0, DIAL)]);
    let ended = LastRun { exit_code: 1, reason: "Error".into(), started: Some(at(25.0)), finished: Some(at(37.0)) };
    scene.pod("aws-node").containers[1].state = ContainerState::Terminated(ended);
    let finding = scene.finding();
    assert_eq!((&*finding.signature, finding.confidence), ("aws-node-before-service-rules", Confidence::Likely));
}

/// aws-node as it comes, with these further init containers and this environment.
fn aws_node(inits: &Value, env: &Value) -> Value {
    let image = "602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni:v1.7.10-eksbuild.1";
    json!({ "initContainers": inits, "containers": [{ "name": "aws-node", "image": image, "env": env }] })
}

#[test]
fn a_waiter_that_is_there_already_is_no_fix_and_one_that_is_not_is_said_with_the_image() {
    let scene = || Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, DIAL)]);
    let init = json!({ "name": "aws-vpc-cni-init", "image": "amazon-k8s-cni-init:v1.7.10" });
    let finding = scene().spec("aws-node", &aws_node(&json!([init]), &json!([]))).finding();
    assert_eq!((finding.confidence, finding.fix.as_deref()), (Confidence::Certain, Some("aws-node-wait")));
    let said = finding.evidence.last().unwrap();
    assert_eq!(&*said.text, "no init container waits; image amazon-k8s-cni:v1.7.10-eksbuild.1");
    for waiter in [
        json!({ "name": "fastnode-wait-service", "image": "x" }),
        json!({ "name": "hold-on", "image": "x", "args": ["await", "tcp", "172.20.0.1:443"] }),
    ] {
        let finding = scene().spec("aws-node", &aws_node(&json!([init, waiter]), &json!([]))).finding();
        assert_eq!((finding.confidence, finding.fix), (Confidence::Likely, None), "{waiter}");
        // No log is left: the restart alone is weighed the same way.
        let restart = Scene::new().restarted("aws-node").spec("aws-node", &aws_node(&json!([waiter]), &json!([])));
        let restart = restart.finding();
        assert_eq!((&*restart.signature, restart.fix), ("early-restart", None));
    }
}

#[test]
fn a_connection_that_was_never_made_is_a_dial_in_vain_however_the_client_words_it() {
    let line = r#"E1123 12:02:37.0       1 main.go:41] Get "https://172.20.0.1:443/api/v1/nodes?limit=500": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"#;
    let finding = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(37.0, line)]).finding();
    assert_eq!(&*finding.signature, "dependent-before-service-rules");
    // A server that answers slowly is another matter.
    let slow = line.replace("request canceled while waiting for connection", "request canceled");
    let names = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(37.0, &slow)]).names();
    assert_eq!(names, ["early-restart"]);
}

#[test]
fn without_the_services_address_the_first_of_a_range_counts_as_one() {
    let mut scene = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, DIAL)]);
    scene.evidence.service = None;
    assert_eq!(scene.finding().signature, "aws-node-before-service-rules".into());
    let six = DIAL.replace("172.20.0.1", "[fd30:1c53:5f8a::1]");
    let mut scene = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(37.0, &six)]);
    scene.evidence.service = Some("fd30:1c53:5f8a::1".into());
    assert_eq!(scene.finding().signature, "aws-node-before-service-rules".into());
}

#[test]
fn one_that_never_became_ready_may_have_failed_for_more() {
    let scene = Scene::new().restarted("aws-node").unready("aws-node").log("aws-node", Previous, &[(37.0, DIAL)]);
    let finding = scene.finding();
    assert_eq!((finding.confidence, finding.cost_s), (Confidence::Likely, None));
}

#[test]
fn any_other_dependent_waits_by_its_own_fix() {
    let line = "{\"level\":\"fatal\",\"msg\":\"error creating server gateway: dial tcp 172.20.0.1:443: i/o timeout\"}";
    let finding = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(37.0, line)]).finding();
    assert_eq!((&*finding.signature, finding.fix.as_deref()), ("dependent-before-service-rules", Some("wait-for")));
    assert_eq!(&*finding.daemonset.unwrap().name, "kiam-agent");
    let server = line.replace("172.20.0.1:443", "10.4.1.9:443");
    let names = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(37.0, &server)]).names();
    assert_eq!(names, ["early-restart"]);
}

#[test]
fn a_cni_of_2021_is_to_be_updated() {
    let lines = [
        (
            37.0,
            "{\"msg\":\"Failed to create client: couldn't get current server API group list; will keep using cached value. (Get \\\"https://172.20.0.1:443/api?timeout=32s\\\": dial tcp 172.20.0.1:443: i/o timeout)\"}",
        ),
        (
            37.1,
            "{\"msg\":\"ipamd init: failed to set eniconfig: the cache is not started, the cache has not been filled yet\"}",
        ),
    ];
    let finding = Scene::new().restarted("aws-node").log("aws-node", Previous, &lines).finding();
    assert_eq!((&*finding.signature, finding.fix.as_deref()), ("cni-cache-not-filled", Some("addon-update")));
    let names = Scene::new().restarted("aws-node").log("aws-node", Previous, &lines[1..]).names();
    assert_eq!(names, ["early-restart"], "one of the two alone is anybody's cache");
}

#[test]
fn an_awaited_api_server_points_at_kube_proxy_and_is_not_told_beside_its_fault() {
    let wait = [(30.0, "{\"level\":\"error\",\"msg\":\"Unable to reach API Server, retrying\"}")];
    let scene = || Scene::new().restarted("aws-node").log("aws-node", Current, &wait);
    assert_eq!(scene().names(), ["api-awaited"]);
    let lines: Vec<(f64, String)> = not_found();
    let lines: Vec<(f64, &str)> = lines.iter().map(|(at, text)| (*at, text.as_str())).collect();
    assert_eq!(scene().log("kube-proxy", Current, &lines).names(), ["kube-proxy-node-name"]);
    let other = [(30.0, "{\"level\":\"error\",\"msg\":\"Unable to reach metrics endpoint\"}")];
    assert_eq!(Scene::new().restarted("aws-node").log("aws-node", Current, &other).names(), ["early-restart"]);
}

#[test]
fn a_cni_that_went_on_without_the_api_server_is_false_comfort() {
    let line =
        "{\"level\":\"warn\",\"msg\":\"Proceeding without API server connectivity, will retry in the background\"}";
    let found = Scene::new().unready("aws-node").log("aws-node", Current, &[(55.0, line)]).finding();
    assert_eq!((&*found.signature, found.confidence), ("cni-without-api", Confidence::Certain));
    let line = "{\"level\":\"info\",\"msg\":\"Proceeding with API server connectivity\"}";
    assert_eq!(Scene::new().unready("aws-node").log("aws-node", Current, &[(55.0, line)]).names(), ["not-functional"]);
}

#[test]
fn an_address_manager_that_waits_for_the_api_server_gets_the_clusters_endpoint() {
    let line = "{\"level\":\"info\",\"msg\":\"Waiting for API server connectivity to start IPAMD since security groups for pods are on\"}";
    let found = Scene::new().unready("aws-node").log("aws-node", Current, &[(26.0, line)]).finding();
    assert_eq!((&*found.signature, found.fix.as_deref()), ("ipamd-waits-for-api", Some("cluster-endpoint")));
    let endpoint = json!([{ "name": "CLUSTER_ENDPOINT", "value": "https://x.gr7.us-west-2.eks.amazonaws.com" }]);
    let scene = || Scene::new().unready("aws-node").log("aws-node", Current, &[(26.0, line)]);
    let found = scene().spec("aws-node", &aws_node(&json!([]), &endpoint)).finding();
    assert_eq!((found.confidence, found.fix), (Confidence::Possible, None), "it has one already, and is not ready");
    let empty = json!([{ "name": "CLUSTER_ENDPOINT", "value": "" }]);
    assert!(scene().spec("aws-node", &aws_node(&json!([]), &empty)).finding().fix.is_some());
    let line = "{\"level\":\"info\",\"msg\":\"waiting for IMDS to start IPAMD\"}";
    assert_eq!(Scene::new().unready("aws-node").log("aws-node", Current, &[(26.0, line)]).names(), ["not-functional"]);
}

#[test]
fn an_address_manager_is_stuck_only_where_its_files_never_came() {
    let checking =
        (26.0, "{\"level\":\"info\",\"caller\":\"entrypoint.sh\",\"msg\":\"Checking for IPAM connectivity ... \"}");
    let copied = (29.0, "{\"level\":\"info\",\"msg\":\"Successfully copied CNI plugin binary and config file.\"}");
    let scene = |lines: &[(f64, &str)]| Scene::new().unready("aws-node").log("aws-node", Current, lines);
    assert_eq!(scene(&[checking]).finding().signature, "ipamd-stuck".into());
    assert_eq!(scene(&[checking, copied]).names(), ["not-functional"]);
    let well = Scene::new().late("aws-node", 40.0).log("aws-node", Current, &[checking]);
    assert_eq!(well.names(), NONE, "its files came before the log begins, or it could not be ready");
    let mut early = scene(&[checking]);
    early.now = at(60.0);
    assert_eq!(early.names(), NONE, "it has checked for half a minute");
}

#[test]
fn a_container_without_the_service_in_its_environment() {
    let line = "F1123 12:02:27.0       1 main.go:61] unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined";
    let found = Scene::new().restarted("aws-node").log("aws-node", Previous, &[(27.0, line)]).finding();
    assert_eq!((&*found.signature, found.fix.as_deref()), ("service-host-missing", Some("aws-node-wait")));
    let found = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(27.0, line)]).finding();
    assert_eq!(found.fix.as_deref(), Some("wait-for"));
    let line = "I1123 12:02:27.0       1 main.go:61] using KUBERNETES_SERVICE_HOST 172.20.0.1";
    let names = Scene::new().restarted("kiam-agent").log("kiam-agent", Previous, &[(27.0, line)]).names();
    assert_eq!(names, ["early-restart"]);
}
