//! A short rotation as its events, for the tests of everything that shows events: two nodes, one that is
//! skipped for its budget, and a replacement that takes its time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::event::{About, Chosen, Event, EventKind, Percentiles, Report, TimeLost};
use crate::model::{GroupName, NodeName, ObjectKey};
use crate::plan::{Block, BlockReason, InHand, Outdated, Progress, Stage, Subject, Verdict, Wait, WaitReason};

/// So many seconds after it began.
pub(super) fn at(seconds: i64) -> Timestamp {
    "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn about(zone: &str, instance: &str, node: Option<&str>) -> About {
    About {
        group: Some("web-a".into()),
        zone: Some(zone.into()),
        instance: Some(instance.into()),
        node: node.map(NodeName::from),
    }
}

fn old(n: u32) -> About {
    about("us-west-2a", &format!("i-0ld{n}"), Some(&format!("ip-10-0-3-{n}.us-west-2.compute.internal")))
}

fn new(known: bool) -> About {
    about("us-west-2a", "i-0new1", known.then_some("ip-10-0-9-1.us-west-2.compute.internal"))
}

fn progress(outdated: u32, current: u32, draining: u32, arriving: u32, skipped: u32) -> BTreeMap<GroupName, Progress> {
    let web = Progress {
        outdated,
        current,
        functional: current,
        draining,
        leaving: 0,
        arriving,
        skipped,
        own_desired: 2,
        surge: 1,
    };
    let idle = Progress { current: 3, functional: 3, own_desired: 3, ..Progress::default() };
    BTreeMap::from([("web-a".into(), web), ("batch".into(), idle)])
}

fn in_hand(about: &About, stage: Stage, since: i64, pods_left: u32) -> InHand {
    InHand {
        group: "web-a".into(),
        zone: about.zone.clone(),
        instance: about.instance.clone(),
        node: about.node.clone(),
        stage,
        since: Some(at(since)),
        pods_left,
    }
}

fn node_wait(about: &About, reason: WaitReason, since: i64) -> Wait {
    let subject = about.node.clone().map_or_else(|| Subject::Instance(about.instance.clone().unwrap()), Subject::Node);
    Wait { subject, reason, since: Some(at(since)), until: Some(at(since + 900)) }
}

/// The moment at which the second node waits for its budget and the replacement for a DaemonSet.
pub(super) fn middle() -> EventKind {
    let budget = WaitReason::Budget { pod: ObjectKey::new("shop", "cart-7d9f-x2x"), budget: "shop/cart".into() };
    let gate = WaitReason::DaemonSet {
        daemonset: ObjectKey::new("kube-system", "aws-node"),
        why: "container aws-node is not ready".into(),
    };
    EventKind::Progress {
        groups: progress(1, 1, 1, 1, 0),
        in_hand: vec![in_hand(&new(true), Stage::Joined, 160, 0), in_hand(&old(18), Stage::Draining, 140, 1)],
        waits: vec![node_wait(&old(18), budget, 142), node_wait(&new(true), gate, 170)],
    }
}

pub(super) fn report() -> Report {
    Report {
        outcome: Verdict::Incomplete,
        nodes_rotated: 1,
        remarks: BTreeMap::new(),
        replacements_failed: BTreeMap::from([(
            "ip-10-0-9-4.us-west-2.compute.internal".into(),
            "DaemonSet kube-system/kiam-agent: container kiam was restarted once".into(),
        )]),
        nodes_skipped: BTreeMap::from([(
            "ip-10-0-3-18.us-west-2.compute.internal".into(),
            "drain time-out: disruption budget shop/cart allows no eviction of shop/cart-7d9f-x2x".into(),
        )]),
        duration_s: 1115.0,
        lower_bound_s: 312.0,
        bottleneck: "web-a: a surge of 1".into(),
        evictions: 12,
        pods_moved: 11,
        pods_moved_twice: 1,
        aws_calls: BTreeMap::from([
            ("autoscaling:DescribeAutoScalingGroups".into(), 14),
            ("autoscaling:SetDesiredCapacity".into(), 1),
        ]),
        kube_requests: BTreeMap::from([("create pods/eviction".into(), 15), ("patch nodes".into(), 7)]),
        stages: BTreeMap::from([
            ("joined".into(), Percentiles { p50: 31.0, p90: 40.0, p99: 41.0, max: 41.0 }),
            ("drain".into(), Percentiles { p50: 8.4, p90: 61.0, p99: 95.0, max: 95.0 }),
        ]),
        critical_path: vec!["node: boot and registration, 31s".into(), "kube-system/aws-node: restarts, 22s".into()],
        fixes: Vec::new(),
        time_lost: vec![TimeLost { what: "disruption budget shop/cart".into(), seconds: 803.0 }],
        left_behind: vec!["web-a: the surge of 1 could not be given back".into()],
    }
}

/// The whole story, in order.
pub(super) fn events() -> Vec<Event> {
    let pod = |n: u32| ObjectKey::new("shop", &format!("cart-{n}"));
    let node = |a: &About| a.node.clone().unwrap();
    let outdated = vec![Outdated::TemplateVersion { have: "7".into(), want: "8".into() }];
    let block = Block {
        subject: Subject::Group("managed".into()),
        reason: BlockReason::ManagedNodeGroup {
            nodegroup: "managed".into(),
            command: "aws eks update-nodegroup-version --cluster-name demo --nodegroup-name managed".into(),
        },
    };
    let planned = EventKind::RotationPlanned {
        cluster: "demo".into(),
        groups: progress(2, 0, 0, 0, 0),
        blocks: vec![block],
        expected_s: 420.0,
        lower_bound_s: 312.0,
        bottleneck: "web-a: a surge of 1".into(),
    };
    let canary = WaitReason::Canary { functional: 0, wanted: 1 };
    let budget = WaitReason::Budget { pod: pod(1), budget: "shop/cart".into() };
    let why = "drain time-out: disruption budget shop/cart allows no eviction of shop/cart-1";
    let story = [
        (0, planned),
        (1, EventKind::RotationStarted { rotation: "20261123t120000z-1".into(), resumed: false, outdated: 2 }),
        (2, EventKind::ReplacementLaunching { about: new(false) }),
        (
            3,
            EventKind::Wait(Wait {
                subject: Subject::Group("web-a".into()),
                reason: canary,
                since: Some(at(3)),
                until: None,
            }),
        ),
        (33, EventKind::ReplacementRunning { about: new(false) }),
        (52, EventKind::ReplacementJoined { about: new(true) }),
        (63, EventKind::ReplacementReady { about: new(true), seconds: 11.0 }),
        (
            80,
            EventKind::ReplacementFunctional {
                about: new(true),
                seconds: 18.2,
                start: None,
                tolerated: vec![],
                differs: vec![],
            },
        ),
        (81, EventKind::NodeSelected { about: old(17), reason: Chosen::Outdated, outdated: outdated.clone() }),
        (82, EventKind::NodeDraining { about: old(17), pods: 11 }),
        (82, EventKind::PodEvicting { pod: pod(0), node: node(&old(17)) }),
        (82, EventKind::PodEvicted { pod: pod(0), node: node(&old(17)), moved_before: false }),
        (83, EventKind::PodGone { pod: pod(0), node: node(&old(17)) }),
        (91, EventKind::NodeDrained { about: old(17), seconds: 9.0, reason: Chosen::Outdated }),
        (92, EventKind::NodeTerminating { about: old(17), decrement: false, by_others: false }),
        (133, EventKind::NodeGone { about: old(17), seconds: 41.0, by_others: false }),
        (140, EventKind::NodeSelected { about: old(18), reason: Chosen::Outdated, outdated }),
        (141, EventKind::NodeDraining { about: old(18), pods: 1 }),
        (142, EventKind::PodBlocked { pod: pod(1), node: node(&old(18)), by: "shop/cart".into() }),
        (142, EventKind::Wait(node_wait(&old(18), budget, 142))),
        (180, middle()),
        (203, EventKind::Tick),
        (1042, EventKind::NodeSkipped { about: old(18), why: why.into() }),
        (
            1043,
            EventKind::Error {
                message: "failed to call autoscaling:DescribeAutoScalingGroups: throttled".into(),
                fatal: false,
            },
        ),
        (1116, EventKind::RotationFinished(Box::new(report()))),
    ];
    story.into_iter().map(|(seconds, kind)| Event { time: at(seconds), kind }).collect()
}
