//! Functional readiness: what must be so on a new node, and which clause says otherwise.

mod worlds;

use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::plan::WaitReason;
use fastnode::policy::{Gate, Policy, Restarts};
use fastnode::readiness::{Judgement, gated, judge, serves, should_run};
use jiff::SignedDuration;
use worlds::*;

const AWS_NODE: &str = "pod-aws-node-new-0";

fn judged(policy: &Policy, snapshot: &Snapshot) -> Judgement {
    let mut snapshot = snapshot.clone();
    snapshot.reindex();
    judge(policy, &snapshot, &snapshot.nodes[&NodeName::from("new-0")])
}

/// What is unmet on `new-0` after `change`, by the default policy.
fn unmet(change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let mut snapshot = world();
    change(&mut snapshot);
    snapshot.reindex();
    judged(&Policy::default(), &snapshot).unmet.iter().map(ToString::to_string).collect()
}

fn restarted(snapshot: &mut Snapshot, uid: &str, container: usize, times: u32, exit: i32) {
    let container = &mut pod_mut(snapshot, uid).containers[container];
    container.restarts = times;
    container.last = Some(LastRun { exit_code: exit, reason: "Error".into(), started: None, finished: None });
}

#[test]
fn a_good_node_lacks_nothing_since_its_last_condition_became_true() {
    let judgement = judged(&Policy::default(), &world());
    assert_eq!(judgement.unmet, []);
    assert_eq!(judgement.since, Some(minute(2) + SignedDuration::from_secs(30)));
}

#[test]
fn readiness_that_is_false_unknown_or_missing_is_not_ready() {
    let with = |status| {
        unmet(move |s| {
            let node = node_mut(s, "new-0");
            let condition = node.conditions.get_mut("Ready").unwrap();
            condition.status = status;
            condition.reason = "KubeletNotReady".into();
            condition.message = Some("cni plugin not initialized".into());
        })
    };
    let want = ["not Ready: KubeletNotReady: cni plugin not initialized"];
    assert_eq!(with(ConditionStatus::False), want);
    assert_eq!(with(ConditionStatus::Unknown), want);
    assert_eq!(unmet(|s| node_mut(s, "new-0").conditions.clear()), ["not Ready: it has no Ready condition yet"]);
}

#[test]
fn a_node_that_is_cordoned_or_going_is_not_functional() {
    assert_eq!(unmet(|s| node_mut(s, "new-0").unschedulable = true), ["the Node is cordoned"]);
    assert_eq!(unmet(|s| node_mut(s, "new-0").deleting = true), ["the Node is being deleted"]);
}

#[test]
fn a_startup_taint_holds_and_is_not_held_against_the_daemonsets() {
    let key = "ebs.csi.aws.com/agent-not-ready";
    // Its DaemonSets do not tolerate the taint, and are expected all the same.
    let held = |s: &mut Snapshot, pods_there: bool| {
        s.daemonsets.values_mut().for_each(|set| set.tolerations.clear());
        node_mut(s, "new-0").taints.push(taint(key, TaintEffect::NoExecute));
        if !pods_there {
            s.pods.remove(&Uid::from(AWS_NODE));
        }
    };
    assert_eq!(unmet(|s| held(s, true)), [format!("startup taint {key} is still on")]);
    let both = unmet(|s| held(s, false));
    assert_eq!(both, [format!("startup taint {key} is still on"), "aws-node: it has no pod here".to_owned()]);
}

#[test]
fn each_thing_that_can_be_wrong_with_a_gated_pod_is_told_apart() {
    let pod = |change: fn(&mut Pod)| unmet(|s| change(pod_mut(s, AWS_NODE)));
    assert_eq!(unmet(|s| drop(s.pods.remove(&Uid::from(AWS_NODE)))), ["aws-node: it has no pod here"]);
    assert_eq!(pod(|p| p.containers.clear()), ["aws-node: its pod shows no container status yet"]);
    assert_eq!(pod(|p| p.containers.truncate(1)), ["aws-node: its pod shows no container status yet"]);
    assert_eq!(pod(|p| p.deleting = Some(now())), ["aws-node: its pod is being deleted"]);
    assert_eq!(pod(|p| p.flags.ready = false), ["aws-node: its pod is not Ready"]);
    assert_eq!(pod(|p| p.phase = Phase::Pending), ["aws-node: its pod is Pending"]);
    assert_eq!(pod(|p| p.phase = Phase::Unknown), ["aws-node: its pod is Unknown"]);
    assert_eq!(pod(|p| p.containers[1].ready = false), ["aws-node: container aws-node is running, not ready"]);
    assert_eq!(
        pod(|p| {
            p.phase = Phase::Pending;
            p.containers[0].state = ContainerState::Waiting("CrashLoopBackOff".into());
            p.containers[0].restarts = 3;
        }),
        ["aws-node: init container init is waiting: CrashLoopBackOff, restarted 3x"]
    );
}

#[test]
fn a_pod_of_an_older_revision_waits_for_the_update_unless_only_a_deletion_would_bring_it() {
    let newer = |s: &mut Snapshot| {
        let set = s.daemonsets[&Uid::from("ds-aws-node")].clone();
        s.revisions.insert(set.uid.clone(), revision(&set, 2, "hash-2"));
    };
    assert_eq!(unmet(newer), ["aws-node: its pod is of an older revision, an update is in progress"]);
    assert_eq!(unmet(|s| s.revisions.clear()).len(), 2, "a revision that is not known is not the newest");
    let on_delete = unmet(|s| {
        newer(s);
        s.daemonsets.get_mut(&Uid::from("ds-aws-node")).unwrap().strategy = UpdateStrategy::OnDelete;
    });
    assert!(on_delete.is_empty(), "{on_delete:?}");
}

#[test]
fn of_two_pods_under_a_surging_update_one_good_one_is_enough() {
    let surging = |s: &mut Snapshot| {
        let set = s.daemonsets[&Uid::from("ds-aws-node")].clone();
        s.revisions.insert(set.uid.clone(), revision(&set, 2, "hash-2"));
        let mut next = daemon_pod(&set, &s.nodes[&NodeName::from("new-0")]);
        next.uid = "pod-next".into();
        next.revision = Some("hash-2".into());
        next.created = minute(4);
        s.pods.insert(next.uid.clone(), next.into());
    };
    assert_eq!(unmet(surging), [""; 0]);
    let starting = unmet(|s| {
        surging(s);
        pod_mut(s, "pod-next").phase = Phase::Pending;
    });
    assert_eq!(starting, ["aws-node: its pod is Pending"], "the newer of two bad ones is named");
}

#[test]
fn one_restart_of_any_container_fails_the_gate_init_containers_included() {
    assert_eq!(
        unmet(|s| restarted(s, AWS_NODE, 1, 1, 1)),
        ["aws-node: container aws-node restarted 1x, last exit code 1"]
    );
    assert_eq!(
        unmet(|s| restarted(s, AWS_NODE, 0, 2, 137)),
        ["aws-node: init container init restarted 2x, last exit code 137"]
    );
}

#[test]
fn a_waiter_that_asked_to_start_over_was_not_restarted() {
    let waiter = |name: &str, init, exit| {
        let name = name.to_owned();
        unmet(move |s| {
            restarted(s, AWS_NODE, 0, 4, exit);
            pod_mut(s, AWS_NODE).containers[0].name = name.into();
            pod_mut(s, AWS_NODE).containers[0].init = init;
        })
        .len()
    };
    assert_eq!(waiter("fastnode-wait-api", true, 75), 0);
    assert_eq!(waiter("fastnode-wait-api", true, 1), 1, "another exit code is a failure");
    assert_eq!(waiter("init", true, 75), 1, "another container is no waiter");

    let mut snapshot = world();
    restarted(&mut snapshot, AWS_NODE, 0, 4, 75);
    pod_mut(&mut snapshot, AWS_NODE).containers[0].name = "fastnode-wait-api".into();
    pod_mut(&mut snapshot, AWS_NODE).containers[0].init = true;
    let told = judged(&Policy::default(), &snapshot).tolerated;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].to_string(), "aws-node: waiter fastnode-wait-api was started over 4x, as it asked");
}

#[test]
fn a_restart_that_is_not_tolerated_lasts_be_its_pod_ready_or_not() {
    let lasts = |policy: &Policy, change: fn(&mut Pod)| {
        let mut snapshot = world();
        restarted(&mut snapshot, AWS_NODE, 1, 1, 1);
        change(pod_mut(&mut snapshot, AWS_NODE));
        judged(policy, &snapshot).unmet.iter().any(|u| u.lasting)
    };
    let zero = Policy::default();
    assert!(lasts(&zero, |_| {}));
    assert!(lasts(&zero, |p| p.containers[1].ready = false));
    assert!(!lasts(&zero, |p| p.deleting = Some(now())), "another pod takes its place");
    assert!(!lasts(&zero, |p| p.revision = Some("older".into())), "another pod takes its place");
    let warn = Policy { restarts: Restarts::Warn, ..zero };
    assert!(!lasts(&warn, |p| p.containers[1].ready = false));
}

#[test]
fn restarts_pass_only_where_the_policy_says_so() {
    let mut snapshot = world();
    restarted(&mut snapshot, AWS_NODE, 1, 1, 1);
    let warn = judged(&Policy { restarts: Restarts::Warn, ..Policy::default() }, &snapshot);
    assert!(warn.is_met() && warn.since.is_some());
    assert_eq!(warn.tolerated[0].to_string(), "aws-node: container aws-node restarted 1x, last exit code 1");

    let baseline = Policy { restarts: Restarts::Baseline, ..Policy::default() };
    assert!(!judged(&baseline, &snapshot).is_met(), "no old node was ever restarted");

    // An old node whose container was restarted over the months says nothing about a start …
    restarted(&mut snapshot, "pod-aws-node-old-3", 1, 9, 1);
    pod_mut(&mut snapshot, "pod-aws-node-old-3").containers[1].state = ContainerState::Running(Some(minute(-60)));
    assert!(!judged(&baseline, &snapshot).is_met());
    // … one that has run since its node's first minutes was restarted in these.
    restarted(&mut snapshot, "pod-aws-node-old-4", 1, 1, 1);
    assert!(judged(&baseline, &snapshot).is_met());
    restarted(&mut snapshot, AWS_NODE, 1, 2, 1);
    assert!(!judged(&baseline, &snapshot).is_met(), "once is what an old node shows, not twice");
}

#[test]
fn what_every_healthy_old_node_of_the_group_has_the_new_one_must_have() {
    let driver = "ebs.csi.aws.com";
    let csi = |s: &mut Snapshot, node: &str, drivers: &[&str]| {
        let drivers = drivers.iter().map(|d| Text::from(*d)).collect();
        s.csi_nodes.insert(node.into(), CsiNode { node: node.into(), drivers });
    };
    let old = |s: &mut Snapshot| (0..6).for_each(|n| csi(s, &old_name(n), &[driver]));
    let lacking = ["CSI driver ebs.csi.aws.com is on every healthy old node of its group, not here"];
    assert_eq!(unmet(old), lacking);
    assert_eq!(
        unmet(|s| {
            old(s);
            csi(s, "new-0", &[driver, "efs.csi.aws.com"]);
        }),
        [""; 0]
    );
    let not_everywhere = |s: &mut Snapshot| {
        old(s);
        csi(s, "old-5", &[]);
    };
    assert_eq!(unmet(not_everywhere), [""; 0], "not every old node has it");
    let broken_one = unmet(|s| {
        not_everywhere(s);
        node_mut(s, "old-5").conditions.get_mut("Ready").unwrap().status = ConditionStatus::Unknown;
    });
    assert_eq!(broken_one, lacking, "an old node that is not Ready is no measure");

    let devices = |s: &mut Snapshot, on_new: u64| {
        for n in 0..6 {
            node_mut(s, &old_name(n)).allocatable.insert("nvidia.com/gpu".into(), 4);
        }
        node_mut(s, "new-0").allocatable.insert("nvidia.com/gpu".into(), on_new);
    };
    assert_eq!(
        unmet(|s| devices(s, 0)),
        ["extended resource nvidia.com/gpu is on every healthy old node of its group, not here"]
    );
    assert_eq!(unmet(|s| devices(s, 4)), [""; 0]);
    let other_type = unmet(|s| {
        devices(s, 0);
        let label = "node.kubernetes.io/instance-type";
        node_mut(s, "new-0").labels.insert(label.into(), "m7i.xlarge".into());
    });
    assert_eq!(other_type, [""; 0], "an instance type without old nodes has no measure");
}

#[test]
fn what_is_unmet_names_what_is_waited_for() {
    let mut snapshot = world();
    snapshot.pods.remove(&Uid::from(AWS_NODE));
    let judgement = judged(&Policy::default(), &snapshot);
    let [unmet] = judgement.unmet.as_slice() else { panic!("{judgement:?}") };
    let why = "aws-node: it has no pod here".into();
    assert_eq!(unmet.reason, WaitReason::DaemonSet { daemonset: ObjectKey::new("kube-system", "aws-node"), why });
    assert_eq!(judgement.since, None);
}

#[test]
fn the_gate_holds_what_makes_a_node_a_node_and_never_a_log_shipper() {
    let auto = Policy::default();
    let plain = |name: &str| DaemonSet { priority_class: None, ..daemonset("kube-system", name) };
    for name in ["kube-proxy", "aws-node", "node-local-dns", "ebs-csi-node", "eks-pod-identity-agent", "cilium"] {
        assert!(gated(&auto, &plain(name)), "{name}");
    }
    assert!(gated(&auto, &daemonset("ops", "anything-critical")));
    assert!(!gated(&auto, &plain("anything-else")));
    for name in ["fluent-bit", "aws-fluent-bit", "cloudwatch-agent", "prometheus-node-exporter"] {
        assert!(!gated(&auto, &daemonset("logging", name)), "{name} may say it is critical");
    }
    let chart =
        DaemonSet { labels: labels(&[("app.kubernetes.io/name", "fluent-bit")]), ..daemonset("ops", "shipper") };
    assert!(!gated(&auto, &chart), "a chart's release is named by its label");

    let named = |name: &str| Policy { gate: Gate::Named([name.to_owned()].into()), ..Policy::default() };
    assert!(gated(&named("fluent-bit"), &plain("fluent-bit")));
    assert!(gated(&named("kube-system/fluent-bit"), &plain("fluent-bit")));
    assert!(!gated(&named("logging/fluent-bit"), &plain("fluent-bit")));
    assert!(!gated(&named("fluent-bit"), &plain("aws-node")));
    assert!(!gated(&Policy { gate: Gate::None, ..Policy::default() }, &plain("aws-node")));
}

/// The cases of the DaemonSet controller's `NodeShouldRunDaemonPod`.
#[test]
fn a_daemonset_is_expected_where_its_controller_would_put_it() {
    let plain = DaemonSet { tolerations: vec![], host_network: false, ..daemonset("ops", "agent") };
    let requirement = |key: &str, operator, values: &[&str]| Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|v| Text::from(*v)).collect(),
    };
    let term = |labels: Vec<Requirement>, fields: Vec<Requirement>| NodeSelectorTerm { labels, fields };
    let with_terms = |affinity| DaemonSet { has_affinity: true, affinity, ..plain.clone() };
    let node = node("n", "a", minute(0));
    let tainted = |key: &str, effect| Node { taints: vec![taint(key, effect)], ..node.clone() };
    let runs = |set: &DaemonSet, node: &Node| should_run(set, node);

    assert!(runs(&plain, &node));
    assert!(!runs(&DaemonSet { deleting: true, ..plain.clone() }, &node));
    assert!(runs(&DaemonSet { node_name: Some("n".into()), ..plain.clone() }, &node));
    assert!(!runs(&DaemonSet { node_name: Some("other".into()), ..plain.clone() }, &node));
    assert!(!runs(&DaemonSet { node_selector: labels(&[("kubernetes.io/os", "windows")]), ..plain.clone() }, &node));

    // Terms are ORed, requirements of one ANDed; nothing matches where there is nothing to match.
    let linux = || requirement("kubernetes.io/os", Operator::In, &["linux"]);
    let gpu = || requirement("gpu", Operator::Exists, &[]);
    assert!(runs(&with_terms(vec![term(vec![gpu()], vec![]), term(vec![linux()], vec![])]), &node));
    assert!(!runs(&with_terms(vec![term(vec![linux(), gpu()], vec![])]), &node));
    assert!(!runs(&with_terms(vec![]), &node));
    assert!(!runs(&with_terms(vec![term(vec![], vec![])]), &node));
    let fargate = requirement("eks.amazonaws.com/compute-type", Operator::NotIn, &["fargate", "auto"]);
    assert!(runs(&with_terms(vec![term(vec![fargate], vec![])]), &node), "an absent label is not in");
    let field = |operator, values: &[&str]| vec![requirement("metadata.name", operator, values)];
    assert!(runs(&with_terms(vec![term(vec![], field(Operator::In, &["n"]))]), &node));
    assert!(!runs(&with_terms(vec![term(vec![], field(Operator::In, &["m"]))]), &node));
    assert!(runs(&with_terms(vec![term(vec![], field(Operator::NotIn, &["m"]))]), &node));
    assert!(!runs(&with_terms(vec![term(vec![], field(Operator::In, &["n", "m"]))]), &node), "one value, or invalid");
    assert!(!runs(&with_terms(vec![term(vec![linux()], field(Operator::In, &["m"]))]), &node), "both must hold");

    // Taints: only those that keep pods off, after the added tolerations, startup taints aside.
    assert!(!runs(&plain, &tainted("dedicated", TaintEffect::NoSchedule)));
    assert!(!runs(&plain, &tainted("dedicated", TaintEffect::NoExecute)));
    assert!(runs(&plain, &tainted("dedicated", TaintEffect::PreferNoSchedule)));
    for key in ["unschedulable", "disk-pressure", "memory-pressure", "pid-pressure"] {
        assert!(runs(&plain, &tainted(&format!("node.kubernetes.io/{key}"), TaintEffect::NoSchedule)), "{key}");
        assert!(!runs(&plain, &tainted(&format!("node.kubernetes.io/{key}"), TaintEffect::NoExecute)), "{key}");
    }
    for key in ["node.kubernetes.io/not-ready", "efs.csi.aws.com/agent-not-ready", "readiness.k8s.io/net"] {
        assert!(runs(&plain, &tainted(key, TaintEffect::NoSchedule)), "{key}");
    }
    let tolerant = daemonset("ops", "agent");
    assert!(runs(&tolerant, &tainted("dedicated", TaintEffect::NoExecute)));
}

#[test]
fn capacity_is_what_is_ready_open_and_started() {
    let good = node("n", "a", minute(0));
    assert!(serves(&good));
    assert!(!serves(&Node { unschedulable: true, ..good.clone() }));
    assert!(!serves(&Node { deleting: true, ..good.clone() }));
    assert!(!serves(&Node { conditions: Default::default(), ..good.clone() }));
    let starting = taint("node.cilium.io/agent-not-ready", TaintEffect::NoSchedule);
    assert!(!serves(&Node { taints: vec![starting], ..good.clone() }));
    let outdated = taint(marks::OUTDATED_TAINT, TaintEffect::PreferNoSchedule);
    assert!(serves(&Node { taints: vec![outdated], ..good }));
}

fn differs(change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let mut snapshot = world();
    change(&mut snapshot);
    let judgement = judged(&Policy::default(), &snapshot);
    assert_eq!(judgement.unmet, [], "a difference that a template may mean holds nothing up");
    judgement.differs.iter().map(ToString::to_string).collect()
}

fn each_old(snapshot: &mut Snapshot, change: impl Fn(&mut Node)) {
    (0..6).for_each(|n| change(node_mut(snapshot, &old_name(n))));
}

#[test]
fn pressure_and_conditions_that_come_and_go_hold_a_node_back() {
    let with = |status| {
        move |s: &mut Snapshot| {
            let condition = Condition { status, reason: "Kubelet".into(), message: None, since: Some(minute(4)) };
            node_mut(s, "new-0").conditions.insert("DiskPressure".into(), condition);
        }
    };
    assert_eq!(unmet(with(ConditionStatus::True)), ["DiskPressure: Kubelet"]);
    assert_eq!(unmet(with(ConditionStatus::Unknown)), ["DiskPressure is not known: Kubelet"]);
    let mut over = world();
    with(ConditionStatus::False)(&mut over);
    assert_eq!(judged(&Policy::default(), &over).since, Some(minute(4)), "the soak begins when it has passed");
}

#[test]
fn part_of_a_device_is_not_the_device() {
    let gpus = |old: [u64; 6], new: u64| {
        unmet(|s| {
            for (n, gpus) in old.into_iter().enumerate() {
                node_mut(s, &old_name(n)).allocatable.insert("nvidia.com/gpu".into(), gpus);
            }
            node_mut(s, "new-0").allocatable.insert("nvidia.com/gpu".into(), new);
        })
    };
    let short = ["extended resource nvidia.com/gpu: 7 here, 8 or more on every healthy old node"];
    assert_eq!(gpus([8; 6], 7), short);
    assert_eq!(gpus([8, 8, 8, 7, 8, 8], 7), [""; 0], "an old node has as few");
    assert_eq!(
        gpus([8; 6], 0),
        ["extended resource nvidia.com/gpu is on every healthy old node of its group, not here"]
    );
}

#[test]
fn differences_from_all_old_nodes_are_named() {
    assert_eq!(differs(|_| {}), [""; 0]);
    let label = |s: &mut Snapshot| each_old(s, |node| drop(node.labels.insert("team".into(), "web".into())));
    assert_eq!(differs(label), ["label team is on every healthy old node, not here"]);
    let but_one = |s: &mut Snapshot| {
        label(s);
        node_mut(s, "old-4").labels.remove("team");
    };
    assert_eq!(differs(but_one), [""; 0]);

    let own = taint("dedicated", TaintEffect::NoSchedule);
    let gone = |s: &mut Snapshot| each_old(s, |node| node.taints.push(own.clone()));
    assert_eq!(differs(gone), ["taint dedicated:NoSchedule is on every healthy old node, not here"]);
    let new = |s: &mut Snapshot| node_mut(s, "new-0").taints.push(own.clone());
    assert_eq!(differs(new), ["taint dedicated:NoSchedule is here, on no healthy old node"]);
    let ours =
        |s: &mut Snapshot| each_old(s, |n| n.taints.push(taint(marks::OUTDATED_TAINT, TaintEffect::PreferNoSchedule)));
    assert_eq!(differs(ours), [""; 0], "the rotation's own");

    let memory = |amount| {
        move |s: &mut Snapshot| {
            node_mut(s, "new-0").allocatable.insert("memory".into(), amount);
        }
    };
    assert_eq!(differs(memory(6_300_000_000)), [""; 0], "nine tenths");
    let less = "allocatable memory: 6200000000 here, 88% of the least (7000000000) on healthy old nodes";
    assert_eq!(differs(memory(6_200_000_000)), [less]);
    let other_type = |s: &mut Snapshot| {
        memory(1_000_000_000)(s);
        node_mut(s, "new-0").labels.insert("node.kubernetes.io/instance-type".into(), "m7i.small".into());
    };
    assert_eq!(differs(other_type), [""; 0]);
}

#[test]
fn a_restart_is_told_with_how_long_it_ran_and_when_kube_proxy_was_ready() {
    let restarts = |proxy_ready: Option<i64>| {
        unmet(move |s| {
            let at = |seconds| minute(2) + SignedDuration::from_secs(seconds);
            let container = &mut pod_mut(s, AWS_NODE).containers[1];
            container.restarts = 1;
            container.last =
                Some(LastRun { exit_code: 1, reason: "Error".into(), started: Some(at(3)), finished: Some(at(15)) });
            let proxy = pod_mut(s, "pod-kube-proxy-new-0");
            proxy.flags.ready = proxy_ready.is_some();
            proxy.ready_since = proxy_ready.map(at);
        })
    };
    let first = "aws-node: container aws-node restarted 1x, 12 s after start, last exit code 1";
    assert_eq!(restarts(Some(46)), [format!("{first}; kube-proxy became ready 31 s later")]);
    assert_eq!(restarts(Some(14)), [first], "it was there");
    let late = ["kube-proxy: its pod is not Ready".to_owned(), format!("{first}; kube-proxy is not ready")];
    let mut found = restarts(None);
    found.sort_by_key(|sentence| !sentence.starts_with("kube-proxy"));
    assert_eq!(found, late);
}
