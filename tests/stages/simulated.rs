//! The simulator's new nodes, measured as real ones are.

use std::time::Duration;

use fastnode::cloud::Cloud;
use fastnode::cluster::evidence::Evidence;
use fastnode::controller::observe;
use fastnode::model::{GroupName, Text};
use fastnode::policy::Policy;
use fastnode::readiness::stages::{Measurement, Stage, Step, boots};
use fastnode::sim::{Scenario, World};

use crate::runs::{on_virtual_time, ports, settings};

/// The nodes that a group launches beyond its own, measured once they are functional.
fn launched(scenario: &str, more: u32) -> Measurement {
    let text = format!("name = 'test'\nabout = 'test'\ncluster = 'test'\n{scenario}");
    let scenario = Scenario::parse(&text, "test.toml").unwrap();
    on_virtual_time(async {
        let sim = World::start(&scenario, 1);
        let ports = ports(&sim);
        let mut settings = settings("test", Policy::default());
        let name = GroupName::from("g");
        let before = observe(&ports, &settings).await.unwrap();
        sim.cloud.set_desired(&name, before.groups[&name].desired + more).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let mut snapshot = observe(&ports, &settings).await.unwrap();
        let ids: Vec<_> = snapshot.instances.keys().cloned().collect();
        snapshot.apply_details(ports.cloud.instances(&ids).await.unwrap());
        let activities = ports.cloud.activities(&name, jiff::Timestamp::MIN).await.unwrap();
        snapshot.apply_activities(&name, activities);
        let new = snapshot.nodes.keys().filter(|name| !before.nodes.contains_key(*name));
        settings.policy.scope.nodes = new.cloned().collect();
        let boots = boots(&ports.cluster.starts().await.unwrap());
        Measurement::of(&settings.policy, &snapshot, &boots, ports.clock.now())
    })
}

const GROUP: &str = "[[groups]]\nname='g'\nnodes=3\nmax=9\nzones=['a','b','c']\n";

fn set(name: &str, more: &str) -> String {
    format!("[[daemonsets]]\nname='{name}'\ncritical=true\nhost_network=true\n{more}\n")
}

/// What the paths are made of, with the mean of each.
fn shares(measured: &Measurement) -> Vec<(String, Step, f64)> {
    let name =
        |set: &Option<fastnode::model::ObjectKey>| set.as_ref().map_or("node".to_owned(), |s| s.name.to_string());
    measured.all.critical_path.iter().map(|s| (name(&s.daemonset), s.step, s.mean_s)).collect()
}

#[test]
fn a_late_proxy_and_the_restarts_it_causes_are_on_the_path_in_this_order() {
    let other_names = "version='v1.21.14'\ndhcp_domain='corp.example'\n";
    let proxy = set("kube-proxy", "hostname_override=false");
    let cni = set(
        "aws-node",
        "version='v1.7.5-eksbuild.1'\nneeds='kube-proxy'\nneeds_timeout_s=[10.0, 1.0]\nmakes_ready=true",
    );
    let measured = launched(&format!("{other_names}{GROUP}{proxy}{cni}"), 3);
    assert_eq!((measured.usable, measured.left_out.len()), (3, 0));
    let shares = shares(&measured);
    let of = |name: &str, step| shares.iter().find(|(n, s, _)| n == name && *s == step).map(|(.., seconds)| *seconds);
    // The lookup sleeps 1, 2, 4, 8 and 16 s.
    let lookup = of("kube-proxy", Step::Ready).unwrap();
    assert!((31.0..40.0).contains(&lookup), "{shares:?}");
    assert!(of("aws-node", Step::Restarted).unwrap() > 1.0, "{shares:?}");
    let at = |name: &str, step| shares.iter().position(|(n, s, _)| n == name && *s == step).unwrap();
    // The kubelet starts 52 s after the launch, and registers 6 s later.
    assert!((40.0..65.0).contains(&of("node", Step::Booted).unwrap()), "{shares:?}");
    assert!((3.0..9.0).contains(&of("node", Step::Registered).unwrap()), "{shares:?}");
    assert_eq!((of("node", Step::Joined), measured.all.stages[&Stage::Booted].nodes), (None, 3));
    assert!(at("node", Step::Registered) < at("kube-proxy", Step::Ready));
    assert!(at("kube-proxy", Step::Ready) < at("aws-node", Step::Restarted));
    // A path has no gaps: its parts are the whole.
    let whole: f64 = shares.iter().map(|(.., seconds)| seconds).sum();
    let totals: f64 = measured.starts.iter().map(|s| s.moments.seconds(Stage::Total).unwrap()).sum();
    assert!((whole - totals / 3.0).abs() < 1e-6, "{whole} {totals}");
    assert!(measured.all.restarts >= 3 && measured.all.restarted_nodes == 3);
    // The restart that the late proxy brought costs more than the lookup itself: the kubelet takes its time.
    assert_eq!(measured.lever.as_ref().unwrap().daemonset.name, Text::from("aws-node"));
}

#[test]
fn a_quick_proxy_leaves_no_wait_and_no_restart() {
    let measured = launched(&format!("{GROUP}{}{}", set("kube-proxy", ""), set("aws-node", "makes_ready=true")), 2);
    assert_eq!((measured.usable, measured.all.restarts), (2, 0));
    assert!(measured.all.median(Stage::Start).unwrap() < 30.0);
    assert!(shares(&measured).iter().all(|(_, step, _)| *step != Step::Restarted));
}
