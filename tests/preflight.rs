//! What is refused before anything is touched, and what is only said.

mod worlds;

use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::policy::{Amount, Gate, Policy, Surge};
use fastnode::preflight::{Fault, Preflight, Warning, check};
use worlds::*;

/// A cluster before its first rotation: six outdated nodes, nothing of ours.
fn before() -> Snapshot {
    let mut snapshot = world();
    snapshot.rotation = None;
    snapshot.nodes.remove(&NodeName::from("new-0"));
    snapshot.instances.remove(&InstanceId::from("i-new-0"));
    snapshot.pods.retain(|_, p| p.node != Some("new-0".into()));
    let group = group_mut(&mut snapshot);
    group.desired = 6;
    group.tags.retain(|key, _| !key.starts_with("fastnode:"));
    group.suspended.clear();
    snapshot.reindex();
    snapshot
}

fn with(policy: Policy, change: impl FnOnce(&mut Snapshot)) -> Preflight {
    let mut snapshot = before();
    change(&mut snapshot);
    snapshot.reindex();
    check(&policy, &snapshot, now())
}

fn faults(policy: Policy, change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    with(policy, change).faults.iter().map(ToString::to_string).collect()
}

fn surge(n: u32) -> Policy {
    Policy { surge: Surge::Fixed(Amount::Count(n)), ..Policy::default() }
}

#[test]
fn a_sound_cluster_passes_without_a_word() {
    assert_eq!(with(Policy::default(), |_| {}), Preflight::default());
}

#[test]
fn names_that_mean_nothing_are_named() {
    let mut policy = Policy::default();
    policy.scope.groups = ["wrokers".into()].into();
    assert_eq!(faults(policy, |_| {}), ["group wrokers is not one of this cluster's: workers"]);
    let mut policy = Policy::default();
    policy.scope.nodes = ["old-9".into()].into();
    assert_eq!(faults(policy, |_| {}), ["node old-9 does not exist"]);
    let mut policy = Policy::default();
    policy.scope.nodes = ["old-1".into()].into();
    assert_eq!(faults(policy, |s| node_mut(s, "old-1").instance = None), ["node old-1 belongs to no group in scope"]);
    let gate = Gate::Named(["kube-proxy".to_owned(), "aws-nod".to_owned()].into());
    assert_eq!(
        faults(Policy { gate, ..Policy::default() }, |_| {}),
        ["DaemonSet aws-nod, named in the gate, does not exist"]
    );
    assert_eq!(with(Policy::default(), |s| s.groups.clear()).faults, [Fault::NoGroup]);
    assert_eq!(
        Fault::NoGroup.to_string(),
        "no Auto Scaling group carries one of the tags that make it the cluster's: kubernetes.io/cluster/NAME (owned \
         or shared), k8s.io/cluster/NAME, or eks:cluster-name with the name as value"
    );
}

#[test]
fn a_selector_that_no_node_meets_is_refused_with_the_labels_there_are() {
    let select = |key: &str, operator, values: &[&str]| {
        let values = values.iter().map(|v| Text::from(*v)).collect();
        let mut policy = Policy::default();
        policy.scope.selector = vec![Requirement { key: key.into(), operator, values }];
        policy
    };
    let label = |s: &mut Snapshot| {
        for (node, pool) in [("old-1", "web"), ("old-2", "web"), ("old-3", "batch")] {
            let labels = &mut node_mut(s, node).labels;
            labels.insert("pool".into(), pool.into());
        }
    };
    assert_eq!(faults(select("pool", Operator::In, &["web"]), label), [""; 0]);
    assert_eq!(
        faults(select("pool", Operator::In, &["wbe", "w"]), label),
        ["--selector pool in (wbe, w) does not match any of 6 nodes in scope: pool is batch, web"]
    );
    assert_eq!(
        faults(select("team", Operator::Exists, &[]), label),
        ["--selector team does not match any of 6 nodes in scope: none has a label team"]
    );
    // What is named besides narrows what is looked at.
    let mut narrowed = select("pool", Operator::In, &["batch"]);
    narrowed.scope.nodes = ["old-1".into()].into();
    assert_eq!(faults(narrowed, label), ["--selector pool=batch does not match the one node in scope: pool is web"]);
    let mut elsewhere = select("pool", Operator::In, &["batch"]);
    elsewhere.scope.groups = ["wrokers".into()].into();
    assert_eq!(faults(elsewhere, label).len(), 1, "the unknown group alone is named");
    let mut tight = select("pool", Operator::In, &["web"]);
    tight.scope.nodes = ["old-3".into(), "old-1".into()].into();
    assert_eq!(faults(tight, label), [""; 0], "one of those named is enough");
}

#[test]
fn a_daemonset_down_on_more_than_a_tenth_of_the_nodes_is_the_clusters_fault() {
    let down = faults(Policy::default(), |s| pod_mut(s, "pod-aws-node-old-2").flags.ready = false);
    assert_eq!(
        down,
        ["DaemonSet kube-system/aws-node has no Running and Ready pod on 1 of 6 healthy nodes, so no new node would \
          be functional (old-2: aws-node: its pod is not Ready); --gate kube-proxy leaves it out"]
    );
    let of_ten = |missing: usize| {
        with(Policy::default(), |s| {
            (6..10).for_each(|n| add_node(s, &old_name(n), zone_of(n), "1", long_ago()));
            (0..missing).for_each(|n| drop(s.pods.remove(&Uid::from(format!("pod-aws-node-old-{n}")))));
        })
    };
    assert_eq!(of_ten(1).faults, []);
    let daemonset = ObjectKey::new("kube-system", "aws-node");
    assert_eq!(of_ten(1).warnings, [Warning::DaemonSetMissing { daemonset, missing: 1, expected: 10 }]);
    assert_eq!(of_ten(2).faults.len(), 1);
    let elsewhere = with(Policy::default(), |s| {
        pod_mut(s, "pod-aws-node-old-2").flags.ready = false;
        node_mut(s, "old-2").conditions.clear();
    });
    assert_eq!(elsewhere.faults, [], "a node that is not healthy is no witness");
}

#[test]
fn restarts_and_old_revisions_of_old_nodes_are_said_and_do_not_refuse() {
    let found = with(Policy::default(), |s| {
        pod_mut(s, "pod-aws-node-old-2").containers[1].restarts = 7;
        pod_mut(s, "pod-kube-proxy-old-3").revision = Some("hash-0".into());
    });
    assert_eq!(found.faults, []);
    let said: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
    assert!(
        said[0].contains("container aws-node of DaemonSet kube-system/aws-node was restarted on 1 of 6"),
        "{said:?}"
    );
    assert!(said[1].contains("kube-proxy has pods of an older revision on 1 of 6"), "{said:?}");
}

#[test]
fn a_maximum_in_the_way_is_refused_with_the_number_it_needs() {
    let tight = |policy, max| faults(policy, |s| group_mut(s).max = max);
    assert_eq!(
        tight(surge(3), 8),
        ["group workers has a maximum of 8, and the surge needs 9: raise it, or allow --raise-max"]
    );
    assert_eq!(tight(surge(3), 9), [""; 0]);
    assert_eq!(tight(Policy { raise_max: true, ..surge(3) }, 8), [""; 0]);
    assert_eq!(tight(Policy::default(), 6).len(), 1, "auto needs one");
    let unavailable = Policy { unavailable: Amount::Count(1), ..Policy::default() };
    assert_eq!(tight(unavailable, 6), [""; 0], "auto can do without where something may be unavailable");
    let ours = faults(surge(3), |s| {
        let group = group_mut(s);
        group.max = 9;
        group.desired = 9;
        group.tags.insert(marks::TAG_SURGE.into(), Ledger::settled(3).to_tag().into());
    });
    assert_eq!(ours, [""; 0], "our own surge is not counted twice");
    let begun = faults(surge(3), |s| {
        let group = group_mut(s);
        group.max = 9;
        group.desired = 9;
        group.tags.insert(marks::TAG_ROTATION.into(), "r".into());
        group.tags.insert(marks::TAG_SURGE.into(), Ledger::settled(0).to_tag().into());
    });
    assert_eq!(begun, [""; 0], "a surge that no tag confirms yet does not keep a rotation from going on");
}

#[test]
fn neither_surge_nor_unavailable_is_no_room() {
    assert!(faults(surge(0), |_| {})[0].contains("neither a surge nor an unavailable node"));
    let rounded = Policy { unavailable: Amount::Percent(10), ..surge(0) };
    assert_eq!(faults(rounded, |_| {}).len(), 1, "10% of 6, rounded down, is none");
}

#[test]
fn behind_load_balancers_the_last_node_is_not_taken_without_a_surge() {
    let alone = |s: &mut Snapshot| {
        let group = group_mut(s);
        (group.desired, group.max) = (1, 1);
        group.attachments = [Attachment("arn:aws:elasticloadbalancing:web".into())].into();
    };
    let unavailable = |surge, unavailable| Policy { surge, unavailable, ..Policy::default() };
    let none = Surge::Fixed(Amount::Count(0));
    let refused = faults(unavailable(none, Amount::Count(1)), alone);
    assert!(refused.len() == 1 && refused[0].contains("is behind load balancers, and without a surge"), "{refused:?}");
    let automatic = faults(unavailable(Surge::Auto, Amount::Count(1)), alone);
    assert!(automatic[0].contains("a maximum of 1, and the surge needs 2"), "{automatic:?}");
    let two = |s: &mut Snapshot| {
        alone(s);
        group_mut(s).desired = 2;
        group_mut(s).max = 2;
    };
    assert_eq!(faults(unavailable(none, Amount::Percent(100)), two), [""; 0]);
    let plain = |s: &mut Snapshot| {
        alone(s);
        group_mut(s).attachments.clear();
    };
    assert_eq!(faults(unavailable(none, Amount::Count(1)), plain), [""; 0], "nobody is sent to it");
}

#[test]
fn nothing_to_do_is_never_refused() {
    let current = |s: &mut Snapshot| {
        for instance in s.instances.values_mut() {
            instance.source = LaunchSource::Template { id: "lt-1".into(), version: "2".into() };
        }
        group_mut(s).max = 6;
    };
    assert_eq!(faults(surge(3), current), [""; 0]);
    let managed = faults(surge(3), |s| {
        current(s);
        group_mut(s).managed_by = Some("apps".into());
    });
    assert_eq!(managed, [""; 0]);
}

#[test]
fn held_groups_are_said_and_refused_only_where_nothing_else_is_to_be_done() {
    let managed = |s: &mut Snapshot| group_mut(s).managed_by = Some("apps".into());
    let all = faults(Policy::default(), managed);
    assert!(all[0].starts_with("every group with outdated nodes is held: workers: it belongs to EKS"), "{all:?}");
    let one = with(Policy::default(), |s| {
        managed(s);
        let other = NodeGroup { name: "batch".into(), managed_by: None, ..s.groups[&GroupName::from(GROUP)].clone() };
        s.instances.get_mut(&InstanceId::from("i-old-5")).unwrap().group = "batch".into();
        s.groups.insert(other.name.clone(), other);
    });
    assert_eq!(one.faults, []);
    assert!(matches!(one.warnings.as_slice(), [Warning::Held { .. }]), "{one:?}");
}

#[test]
fn a_budget_that_never_frees_is_named_where_it_covers_a_pod_to_move() {
    let budget = |app: &str| Budget {
        key: ObjectKey::new("shop", "web"),
        selector: Some(Selector(vec![Requirement {
            key: "app".into(),
            operator: Operator::In,
            values: vec![app.into()],
        }])),
        allowed: 0,
        healthy: 1,
        desired: 1,
        expected: 1,
        observed: true,
        unhealthy_always: false,
    };
    let found = |app: &str| {
        with(Policy::default(), |s| {
            pod_mut(s, "pod-web-0").labels = std::sync::Arc::new(labels(&[("app", "web")]));
            s.budgets.insert(ObjectKey::new("shop", "web"), budget(app));
        })
        .warnings
    };
    let web = ObjectKey::new("shop", "web");
    assert_eq!(found("web"), [Warning::NeverFrees { budget: web, desired: 1, expected: 1 }]);
    assert_eq!(found("other"), []);
}

#[test]
fn a_deregistration_delay_that_could_not_be_read_is_named_with_the_right_it_takes() {
    let web = || Attachment("arn:aws:elasticloadbalancing:r:1:targetgroup/web/1".into());
    let warnings = |known: bool| {
        let attach = |s: &mut Snapshot| {
            group_mut(s).attachments.insert(web());
            s.delays.extend(known.then(|| (web(), 30)));
        };
        with(Policy::default(), attach).warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings(false),
        ["the deregistration delay of target group web of group workers could not be read, so 300 s are waited for \
          each node; allow elasticloadbalancing:DescribeTargetGroupAttributes and DescribeLoadBalancerAttributes"]
    );
    assert_eq!(warnings(true), Vec::<String>::new());
}

#[test]
fn nodes_of_other_keepers_are_named_and_left_alone() {
    let cases = [
        ("eks.amazonaws.com/compute-type", "fargate", "Fargate's, renewed with its pod"),
        ("eks.amazonaws.com/compute-type", "auto", "EKS Auto Mode's, which replaces its nodes itself"),
        ("eks.amazonaws.com/compute-type", "hybrid", "a hybrid node, upgraded in place by whoever runs it"),
        ("karpenter.sh/nodepool", "default", "Karpenter's, which replaces drifted nodes itself"),
        ("team", "a", "in no Auto Scaling group that carries the cluster's tag"),
    ];
    for (label, value, whose) in cases {
        let other = |s: &mut Snapshot| {
            let mut node = s.nodes[&NodeName::from("old-0")].clone();
            (node.name, node.uid, node.instance) = ("other-0".into(), "uid-other-0".into(), Some("i-other".into()));
            node.labels = labels(&[(label, value)]);
            s.nodes.insert(node.name.clone(), node);
        };
        let warnings: Vec<_> = with(Policy::default(), other).warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [format!("1 node is left alone, other-0 for one: {whose}")]);
        let mut policy = Policy::default();
        policy.scope.nodes = ["other-0".into()].into();
        let expected = match label {
            "team" => "node other-0 belongs to no group in scope".to_owned(),
            _ => format!("node other-0 is left alone: it is {whose}"),
        };
        assert_eq!(faults(policy, other), [expected]);
    }
}

#[test]
fn a_managed_node_group_that_is_named_is_refused_with_the_command_that_updates_it() {
    let two = |s: &mut Snapshot| {
        let mut managed = group_mut(s).clone();
        (managed.name, managed.managed_by) = ("managed".into(), Some("ng-1".into()));
        let mut instance = instance_mut(s, "i-old-0").clone();
        (instance.id, instance.group) = ("i-managed".into(), "managed".into());
        s.instances.insert(instance.id.clone(), instance);
        s.groups.insert(managed.name.clone(), managed);
    };
    let why = "it belongs to EKS managed node group ng-1, which updates it itself: aws eks update-nodegroup-version \
               --cluster-name blue --nodegroup-name ng-1";
    let cluster = with(Policy::default(), two);
    assert_eq!(cluster.faults, []);
    assert_eq!(cluster.warnings, [Warning::Held { group: "managed".into(), why: why.to_owned() }]);
    let mut policy = Policy::default();
    policy.scope.groups = ["managed".into(), "workers".into()].into();
    assert_eq!(with(policy.clone(), two).faults, [Fault::NamedHeld { group: "managed".into(), why: why.to_owned() }]);
    policy.scope.groups = ["managed".into()].into();
    assert!(matches!(with(policy.clone(), two).faults.as_slice(), [Fault::AllHeld { .. }]));
    // One that is current asks for nothing.
    let current = |s: &mut Snapshot| {
        two(s);
        let managed = s.groups.get_mut(&GroupName::from("managed")).unwrap();
        managed.target =
            Target::Template(TemplateRef { id: "lt-1".into(), version: "1".into(), resolved: None, image: None });
    };
    assert_eq!(with(policy, current), Preflight::default());
}
