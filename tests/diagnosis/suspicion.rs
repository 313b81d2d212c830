//! Who is suspected: whose logs are worth reading, and who is left out.

use fastnode::model::*;
use fastnode::policy::Policy;
use fastnode::readiness::diagnosis::{Scope, Suspects, suspects};
use jiff::SignedDuration;

use super::scene::{Scene, at};
use super::worlds::*;

fn suspected(scene: &mut Scene) -> Suspects {
    scene.snapshot.reindex();
    suspects(&Policy::default(), &scene.snapshot, &scene.scope, &scene.evidence, scene.now)
}

fn pods(scene: &mut Scene) -> Vec<String> {
    suspected(scene).pods.iter().map(|p| p.pod.name.to_string()).collect()
}

#[test]
fn nobody_is_suspected_in_a_healthy_cluster() {
    let found = suspected(&mut Scene::new());
    assert!(found.pods.is_empty() && found.sick.is_empty() && found.unjoined.is_empty() && found.groups.is_empty());
    assert_eq!(found.judged.len(), 7);
}

#[test]
fn a_restarted_pod_is_suspected_with_the_kube_proxy_beside_it() {
    let mut scene = Scene::new().restarted("aws-node");
    assert_eq!(pods(&mut scene), ["aws-node-new-0", "kube-proxy-new-0"]);
    let aws = suspected(&mut scene).pods.remove(0);
    assert_eq!(aws.containers, [("aws-node".into(), true)]);
}

#[test]
fn each_daemonset_has_its_turn_and_the_newest_node_is_first() {
    let mut scene = Scene::new().restarted("aws-node").restarted("kiam-agent");
    scene.snapshot.nodes.clear();
    for (n, name) in ["n-1", "n-2", "n-3"].into_iter().enumerate() {
        add_node(&mut scene.snapshot, name, "a", "2", minute(n as i64));
        for set in ["aws-node", "kiam-agent"] {
            pod_mut(&mut scene.snapshot, &format!("pod-{set}-{name}")).flags.ready = false;
        }
    }
    let order = pods(&mut scene);
    let expected = ["aws-node-n-3", "kiam-agent-n-3", "kube-proxy-n-3", "aws-node-n-2", "kiam-agent-n-2"];
    assert_eq!(&order[..5], expected);
}

#[test]
fn a_pod_that_took_long_to_be_ready_is_suspected_and_one_that_flapped_later_is_not() {
    let mut scene = Scene::new();
    scene.pod("kube-proxy").initialized = Some(at(5.0));
    scene.pod("kube-proxy").ready_since = Some(at(40.0));
    assert_eq!(pods(&mut scene), ["kube-proxy-new-0"]);
    scene.now = at(7200.0);
    scene.pod("kube-proxy").ready_since = Some(at(3600.0));
    assert!(pods(&mut scene).is_empty());
}

#[test]
fn kube_proxy_without_the_flag_is_looked_at_on_the_newest_nodes() {
    let mut scene = Scene::new().proxy_command(&["kube-proxy", "--v=2"]);
    assert_eq!(pods(&mut scene), ["kube-proxy-new-0", "kube-proxy-old-0"]);
    let mut scene = Scene::new().proxy_command(&["kube-proxy", "--hostname-override=$(NODE_NAME)"]);
    assert!(pods(&mut scene).is_empty());
}

#[test]
fn windows_and_fargate_are_left_out() {
    let mut scene = Scene::new().change(|s| {
        node_mut(s, "old-0").labels.insert("kubernetes.io/os".into(), "windows".into());
        node_mut(s, "old-0").conditions.clear();
        node_mut(s, "old-1").labels.insert("eks.amazonaws.com/compute-type".into(), "fargate".into());
        node_mut(s, "old-1").conditions.clear();
    });
    let found = suspected(&mut scene);
    assert_eq!((found.left_out, found.judged.len(), found.sick.len()), (2, 5, 0));
}

#[test]
fn a_cluster_without_kube_proxy_is_known_as_one() {
    assert!(suspected(&mut Scene::new()).has_proxy);
    let mut scene = Scene::new().change(|s| {
        s.daemonsets.remove(&Uid::from("ds-kube-proxy"));
    });
    assert!(!suspected(&mut scene).has_proxy);
}

#[test]
fn an_instance_that_is_asked_about_is_looked_at_whole_and_nothing_else_is() {
    let mut scene = Scene::new().unready("aws-node").change(|s| {
        node_mut(s, "old-0").conditions.clear();
    });
    scene.scope = Scope::Instance("i-new-0".into());
    let found = suspected(&mut scene);
    assert_eq!(found.judged.len(), 1);
    assert_eq!(found.sick.len(), 1);
    let mut names: Vec<_> = found.pods.iter().map(|p| p.pod.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["aws-node-new-0", "kiam-agent-new-0", "kube-proxy-new-0"]);

    let mut late = Scene::new().unjoined(1);
    late.scope = Scope::Instance("i-late".into());
    let found = suspected(&mut late);
    assert_eq!((found.unjoined.len(), found.judged.len()), (1, 0), "its time to join was up to whoever asks");
}

#[test]
fn groups_short_of_instances_are_asked_for_their_activities() {
    let mut scene = Scene::new().change(|s| group_mut(s).desired = 8);
    assert_eq!(suspected(&mut scene).groups.len(), 1);
    let mut scene = Scene::new().unjoined(6);
    scene.now += SignedDuration::from_mins(1);
    assert_eq!(suspected(&mut scene).unjoined.len(), 1);
}

#[test]
fn a_clock_that_is_off_is_named_without_any_log() {
    let pressures = |by: i64| {
        move |s: &mut fastnode::observe::Snapshot| {
            for kind in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
                let since = Some(node_mut(s, "new-0").created + SignedDuration::from_secs(by));
                let status = ConditionStatus::False;
                let condition = Condition { status, reason: "Kubelet".into(), message: None, since };
                node_mut(s, "new-0").conditions.insert(kind.into(), condition);
            }
        }
    };
    for by in [300, -300] {
        let said = Scene::new().change(pressures(by)).remarks();
        assert_eq!(said, ["the clock of new-0 is off by more than 30 s: its times may mislead"], "{by}");
    }
    assert!(Scene::new().change(pressures(5)).remarks().is_empty());
}
