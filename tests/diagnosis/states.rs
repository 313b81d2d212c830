//! Signatures in restarts, taints, conditions, Events and evictions.

use fastnode::cluster::ErrorKind;
use fastnode::model::*;
use fastnode::observe::Refusal;
use fastnode::readiness::diagnosis::Confidence;
use jiff::SignedDuration;

use super::scene::{Scene, at};
use super::worlds::*;

const NONE: [&str; 0] = [];

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(Scene::new().names(), NONE);
}

#[test]
fn a_restart_while_the_node_started_is_told_with_what_came_of_it() {
    let mut scene = Scene::new().restarted("aws-node");
    scene.pod("kube-proxy").ready_since = Some(at(68.0));
    let finding = scene.finding();
    assert_eq!((&*finding.signature, finding.fix.as_deref()), ("early-restart", Some("aws-node-wait")));
    assert_eq!((finding.confidence, finding.cost_s), (Confidence::Likely, Some(43.0)));
    let sentence =
        "container aws-node restarted 1x, 12 s after start, last exit code 1; kube-proxy became ready 31 s later";
    assert_eq!((&*finding.evidence[0].text, finding.evidence[0].time), (sentence, Some(at(37.0))));
    assert_eq!(Scene::new().restarted("kiam-agent").finding().fix.as_deref(), Some("wait-for"));
}

#[test]
fn the_log_stands_for_the_exit_code() {
    let line = "{\"level\":\"fatal\",\"msg\":\"dial tcp 10.4.1.9:443: i/o timeout\",\"time\":\"2026-11-23T12:02:37Z\"}";
    let scene = Scene::new().restarted("kiam-agent");
    let finding = scene.log("kiam-agent", fastnode::cluster::evidence::LogRun::Previous, &[(37.0, line)]).finding();
    let text = &finding.evidence[0].text;
    assert!(
        text.starts_with("container kiam-agent restarted 1x, 12 s after start: dial tcp 10.4.1.9:443: i/o timeout"),
        "{text}"
    );
}

#[test]
fn a_later_restart_or_a_later_pod_or_a_waiter_at_work_says_nothing_of_the_start() {
    let late = Scene::new().restarted("aws-node").change(|s| {
        let container = &mut pod_mut(s, "pod-aws-node-new-0").containers[1];
        container.last.as_mut().unwrap().finished = Some(at(91.0));
        container.state = ContainerState::Running(Some(at(92.0)));
    });
    assert_eq!(late.names(), NONE);
    let replaced = Scene::new().restarted("aws-node").change(|s| {
        pod_mut(s, "pod-aws-node-new-0").created = at(301.0);
    });
    assert_eq!(replaced.names(), NONE);
    let waiter = Scene::new().restarted("aws-node").change(|s| {
        let pod = pod_mut(s, "pod-aws-node-new-0");
        let last = pod.containers[1].last.take();
        pod.containers[1].restarts = 0;
        let init = &mut pod.containers[0];
        init.name = "fastnode-wait".into();
        init.restarts = 2;
        init.last = last.map(|run| LastRun { exit_code: 75, ..run });
        // Ready as late as any, and no suspect's log says why.
        pod.initialized = Some(at(60.0));
    });
    assert_eq!(waiter.names(), NONE);
}

#[test]
fn an_agents_taint_that_stays_is_its_drivers_fault() {
    let tainted = |key: &'static str| {
        Scene::new().change(move |s| node_mut(s, "new-0").taints.push(taint(key, TaintEffect::NoExecute)))
    };
    let finding = tainted("ebs.csi.aws.com/agent-not-ready").finding();
    assert_eq!(&*finding.signature, "agent-not-ready");
    assert_eq!(
        &*finding.evidence[0].text,
        "taint ebs.csi.aws.com/agent-not-ready is on 8m00s after the Node's creation"
    );
    let mut young = tainted("ebs.csi.aws.com/agent-not-ready");
    young.now = at(119.0);
    assert_eq!(young.names(), NONE);
    assert_eq!(tainted("example.com/agent-not-ready-yet").names(), NONE, "somebody's own taint");
    assert_eq!(&*tainted("node.cloudprovider.kubernetes.io/uninitialized").finding().signature, "node-uninitialized");
    assert_eq!(tainted("node.cloudprovider.kubernetes.io/shutdown").names(), NONE);
}

fn not_ready(message: &'static str) -> Scene {
    Scene::new().change(move |s| {
        let ready = Condition {
            status: ConditionStatus::False,
            reason: "KubeletNotReady".into(),
            message: Some(message.into()),
            since: Some(at(2.0)),
        };
        node_mut(s, "new-0").conditions.insert("Ready".into(), ready);
    })
}

const NO_NETWORK: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                          message:Network plugin returns error: cni plugin not initialized";

#[test]
fn a_missing_network_configuration_is_a_symptom() {
    assert_eq!(&*not_ready(NO_NETWORK).finding().signature, "network-plugin-not-ready");
    let mut young = not_ready(NO_NETWORK);
    young.now = at(61.0);
    assert_eq!(young.names(), NONE);
    assert_eq!(not_ready("PLEG is not healthy: pleg was last seen active 3m ago").names(), ["not-functional"]);
    let line = "{\"msg\":\"Waiting for API server connectivity to start IPAMD\"}";
    let log = not_ready(NO_NETWORK).unready("aws-node");
    let log = log.log("aws-node", fastnode::cluster::evidence::LogRun::Current, &[(30.0, line)]);
    assert_eq!(log.names(), ["ipamd-waits-for-api"], "its cause is known");
}

#[test]
fn services_that_are_not_read_yet_pass_unless_they_stay() {
    let message = "Error: services have not yet been read at least once, cannot construct envvars";
    let scene = |until| Scene::new().warning("kiam-agent", "Failed", message, until);
    let finding = scene(81.0).finding();
    assert_eq!(&*finding.signature, "services-not-read");
    assert!(finding.evidence[0].text.ends_with("cannot construct envvars (4x)"));
    assert_eq!(scene(70.0).names(), NONE);
    let pull = Scene::new().warning("kiam-agent", "Failed", "Error: ImagePullBackOff", 200.0);
    assert_eq!(pull.names(), NONE);
    let gone = Scene::new().warning("no-such-set", "Failed", message, 200.0);
    assert_eq!(gone.names(), NONE, "the pod is gone, and its trouble with it");
}

#[test]
fn evictions_refused_are_told_by_their_kind() {
    let refused = |kind| {
        Scene::new().change(move |s| {
            let refusal = Refusal {
                kind,
                message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
                at: minute(9),
                attempts: 3,
                retry_at: minute(10),
            };
            s.refusals.insert("pod-web-0".into(), refusal);
        })
    };
    assert_eq!(&*refused(ErrorKind::BudgetExhausted).finding().signature, "budget-exhausted");
    assert_eq!(&*refused(ErrorKind::SeveralBudgets).finding().signature, "budgets-overlap");
    assert_eq!(refused(ErrorKind::Throttled).names(), NONE);
    assert_eq!(refused(ErrorKind::BudgetUnobserved).names(), NONE);
}

#[test]
fn overlapping_budgets_are_seen_before_anybody_evicts() {
    let budget = |name: &str| Budget {
        key: ObjectKey::new("shop", name),
        selector: Some(Selector::default()),
        allowed: 1,
        healthy: 6,
        desired: 5,
        expected: 6,
        observed: true,
        unhealthy_always: false,
    };
    let scene = |names: &[&str]| {
        let budgets: Vec<Budget> = names.iter().map(|name| budget(name)).collect();
        Scene::new().change(move |s| s.budgets.extend(budgets.into_iter().map(|b| (b.key.clone(), b))))
    };
    let finding = scene(&["a", "b"]).finding();
    assert_eq!(&*finding.signature, "budgets-overlap");
    assert_eq!(&*finding.evidence[0].text, "covered by shop/a and shop/b");
    assert_eq!(&*finding.evidence.last().unwrap().text, "and 1 further pod");
    assert_eq!(scene(&["a"]).names(), NONE);
}

#[test]
fn what_nothing_explains_is_told_with_what_is_lacking() {
    let finding = Scene::new().unready("aws-node").finding();
    assert_eq!((&*finding.signature, finding.confidence), ("not-functional", Confidence::Possible));
    assert_eq!(&*finding.evidence[0].text, "aws-node: container aws-node is running, not ready");
    let mut young = Scene::new().unready("aws-node");
    young.now = at(299.0);
    assert_eq!(young.names(), NONE, "it is still starting");
    let cordoned = Scene::new().change(|s| node_mut(s, "new-0").unschedulable = true);
    assert_eq!(cordoned.names(), NONE, "somebody means it");
}

#[test]
fn one_finding_names_all_its_nodes_and_the_mean_of_what_it_costs() {
    let both = Scene::new().restarted("aws-node").change(|s| {
        add_node(s, "new-1", "b", "2", at(60.0));
        let pod = pod_mut(s, "pod-aws-node-new-1");
        let after = |seconds| Some(at(60.0) + SignedDuration::from_secs(seconds));
        pod.containers[1].restarts = 1;
        pod.containers[1].last =
            Some(LastRun { exit_code: 1, reason: "Error".into(), started: after(20), finished: after(30) });
        pod.initialized = after(20);
        pod.ready_since = after(47);
    });
    let finding = both.finding();
    assert_eq!(finding.nodes.len(), 2);
    assert_eq!(finding.cost_s, Some(35.0), "43 s and 27 s");
}

#[test]
fn without_a_log_the_missing_flag_is_told_where_others_were_restarted() {
    let scene = || Scene::new().restarted("aws-node").proxy_command(&["kube-proxy", "--v=2"]);
    let mut both = scene();
    let found = both.findings();
    let told: Vec<_> = found.iter().map(|f| (&*f.signature, f.confidence)).collect();
    let expected = [("kube-proxy-without-name", Confidence::Possible), ("early-restart", Confidence::Likely)];
    assert_eq!(told, expected);
    assert_eq!(found[0].fix.as_deref(), Some("kube-proxy-hostname-override"));
    let read = scene().log("kube-proxy", fastnode::cluster::evidence::LogRun::Current, &[(5.0, "I started")]);
    assert_eq!(read.names(), ["early-restart"], "its log would show it");
    let mut by_file = scene();
    by_file.evidence.proxy_name = true;
    assert_eq!(by_file.names(), ["early-restart"]);
    assert_eq!(Scene::new().proxy_command(&["kube-proxy"]).names(), NONE, "nobody suffers from it");
}
