//! Percentiles by group and the like, the comparison with an earlier measurement, and what a change is worth.

use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::policy::{Amount, Policy, Surge};
use fastnode::readiness::stages::{Boots, Measurement, ReadError, Stage, worth};
use jiff::SignedDuration;

use crate::worlds::*;

/// The old nodes show the same start; `new-0` is slower by so many seconds.
fn measured(slower: i64) -> (Snapshot, Measurement) {
    let mut snapshot = world();
    let ready = minute(2) + SignedDuration::from_secs(30 + slower);
    pod_mut(&mut snapshot, "pod-aws-node-new-0").ready_since = Some(ready);
    snapshot.reindex();
    let measured = Measurement::of(&Policy::default(), &snapshot, &Boots::new(), now());
    (snapshot, measured)
}

#[test]
fn figures_are_told_by_group_zone_type_and_template() {
    let (_, measured) = measured(60);
    assert_eq!((measured.nodes, measured.usable, measured.left_out.len()), (7, 7, 0));
    let start = measured.all.stages[&Stage::Start];
    assert_eq!((start.nodes, start.seconds.p50, start.seconds.p90, start.seconds.max), (7, 30.0, 90.0, 90.0));
    let of =
        |figures: &std::collections::BTreeMap<Text, _>| figures.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of(&measured.groups), ["workers"]);
    assert_eq!(of(&measured.zones), ["a", "b", "c"]);
    assert_eq!(of(&measured.instance_types), ["m7i.large"]);
    assert_eq!(of(&measured.templates), ["lt-1 version 1", "lt-1 version 2"]);
    assert_eq!(measured.templates["lt-1 version 2"].median(Stage::Start), Some(90.0));
    assert_eq!(measured.zones["b"].median(Stage::Start), Some(30.0));
    assert_eq!(measured.starts.last().unwrap().node, NodeName::from("new-0"));
}

#[test]
fn the_scope_narrows_what_is_measured() {
    let (snapshot, _) = measured(0);
    let mut policy = Policy::default();
    policy.scope.nodes.insert("new-0".into());
    assert_eq!(Measurement::of(&policy, &snapshot, &Boots::new(), now()).nodes, 1);
    policy.scope.nodes.clear();
    policy.scope.groups.insert("batch".into());
    assert_eq!(Measurement::of(&policy, &snapshot, &Boots::new(), now()).nodes, 0);
    policy.scope.groups.clear();
    policy.scope.selector = vec![Requirement {
        key: "topology.kubernetes.io/zone".into(),
        operator: Operator::In,
        values: vec!["b".into()],
    }];
    assert_eq!(Measurement::of(&policy, &snapshot, &Boots::new(), now()).nodes, 2);
}

#[test]
fn a_measurement_is_read_again_as_it_was_written() {
    let (_, measured) = measured(60);
    let json = serde_json::to_vec(&measured).unwrap();
    assert_eq!(Measurement::read(&json).unwrap(), measured);
    assert!(matches!(Measurement::read(b"{\"v\": 9}"), Err(ReadError::Version(9))));
    assert!(matches!(Measurement::read(b"{}"), Err(ReadError::NotOne(_))));
    assert!(matches!(Measurement::read(b"not json"), Err(ReadError::NotOne(_))));
}

#[test]
fn a_comparison_tells_before_and_now_and_what_it_is_worth() {
    let (snapshot, _) = measured(0);
    let policy = Policy::default();
    let slow: Vec<Uid> = snapshot.pods.keys().filter(|u| u.as_str().starts_with("pod-aws-node")).cloned().collect();
    let before = {
        let mut snapshot = snapshot.clone();
        for uid in &slow {
            let pod = pod_mut(&mut snapshot, uid.as_str());
            pod.ready_since = Some(pod.ready_since.unwrap() + SignedDuration::from_secs(100));
        }
        snapshot.reindex();
        Measurement::of(&policy, &snapshot, &Boots::new(), minute(5))
    };
    let mut now = Measurement::of(&policy, &snapshot, &Boots::new(), now());
    now.compare(&before, &policy, &snapshot);
    let compared = now.compared.as_ref().unwrap();
    assert_eq!(compared.stages[&Stage::Start], (130.0, 30.0));
    assert_eq!(compared.stages[&Stage::Joined], (15.0, 15.0));
    assert_eq!(compared.groups[&Text::from("workers")], (130.0, 30.0));
    assert_eq!(compared.worth[0].surge, Text::from("1"));
    // Six old nodes and the replacement, one by one, each 100 s sooner: the canary, five cycles, the last replacement.
    assert_eq!((compared.worth[0].nodes, compared.worth[0].saved_s()), (7, 700.0));
    assert!(compared.worth[1].saved_s() <= 350.0, "{:?}", compared.worth[1]);
}

#[test]
fn a_start_that_became_slower_costs_what_it_would_save_the_other_way() {
    let (snapshot, now) = measured(0);
    let policy = Policy::default();
    let mut slower = now.clone();
    let mut quicker = now.clone();
    slower.all.stages.get_mut(&Stage::Start).unwrap().seconds.p50 += 100.0;
    let mut forth = now;
    forth.compare(&slower, &policy, &snapshot);
    quicker.all.stages.get_mut(&Stage::Start).unwrap().seconds.p50 -= 20.0;
    let mut back = measured(0).1;
    back.compare(&quicker, &policy, &snapshot);
    assert_eq!(forth.compared.unwrap().worth[0].saved_s(), 700.0);
    assert_eq!(back.compared.unwrap().worth[0].saved_s(), 140.0);
}

#[test]
fn what_seconds_are_worth_depends_on_the_surge() {
    let (snapshot, _) = measured(0);
    let policy = Policy { surge: Surge::Fixed(Amount::Percent(50)), ..Policy::default() };
    let worth = worth(&policy, &snapshot, 200.0, 100.0);
    let surges: Vec<&str> = worth.iter().map(|w| &*w.surge).collect();
    assert_eq!(surges, ["1", "50%", "auto"]);
    assert!(worth[0].saved_s() > worth[1].saved_s() && worth[1].saved_s() >= worth[2].saved_s(), "{worth:?}");
    assert!(worth.iter().all(|w| w.slower_s > w.quicker_s));
}

#[test]
fn the_slowest_set_on_the_path_is_the_lever() {
    let (_, measured) = measured(60);
    let lever = measured.lever.unwrap();
    assert!(["aws-node", "kube-proxy"].contains(&&*lever.daemonset.name));
    assert!(lever.seconds >= 1.0 && !lever.worth.is_empty());
}
