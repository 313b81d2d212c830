//! Zones: where launches go, where scale-in takes, and what rebalancing does.

use crate::making::Setup;
use crate::world::{World, counted, in_service, in_zone, instance, on, per_zone};

/// Attempts to launch new instances in the Availability Zone with the fewest instances.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html>
#[test]
fn a_launch_goes_where_there_are_fewest() {
    on(Setup::zonal("fewest"), async |w| {
        let victim = in_zone(&w.state().await, "us-west-2b")[0].clone();
        w.terminate(&victim).await;
        assert_eq!(per_zone(&w.settled().await)["us-west-2b"], 1);
    });
}

/// Several launches spread evenly.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html>
#[test]
fn launches_spread_over_the_zones() {
    on(Setup::zonal("spread"), async |w| {
        w.desired(6).await;
        assert_eq!(per_zone(&w.settled().await).into_values().collect::<Vec<_>>(), [2, 2, 2]);
    });
}

/// Determines which Availability Zones have the most instances, and at least one that is not protected.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html>
#[test]
fn scale_in_takes_from_the_fullest_zone() {
    on(Setup { nodes: 4, ..Setup::zonal("fullest") }, async |w| {
        let before = per_zone(&w.state().await)["us-west-2a"];
        assert_eq!(before, 2);
        w.desired(3).await;
        assert_eq!(per_zone(&w.settled().await).into_values().collect::<Vec<_>>(), [1, 1, 1]);
    });
}

/// The default policy then takes an instance of the oldest launch template.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html>
#[test]
fn scale_in_takes_the_oldest_template_first() {
    on(Setup { outdated: 1, ..Setup::new("oldest-template") }, async |w| {
        let state = w.state().await;
        let old = |i: &&fastnode::model::Instance| format!("{:?}", i.source).contains("version: \"1\"");
        let outdated = state.instances.iter().find(old).expect("one is on version 1").id.clone();
        w.desired(2).await;
        assert!(instance(&w.settled().await, &outdated).is_none());
    });
}

/// Two in one zone and none in the other, AZRebalance suspended.
async fn lopsided(w: &World) {
    for id in in_zone(&w.state().await, "us-west-2b") {
        w.decrement(&id).await;
    }
    let state = w.settled().await;
    assert_eq!(per_zone(&state).into_values().collect::<Vec<_>>(), [2, 0]);
}

fn two_zones(name: &'static str) -> Setup {
    let zones = vec!["us-west-2a", "us-west-2b"];
    Setup { nodes: 4, zones, suspended: vec!["AZRebalance"], ..Setup::new(name) }
}

/// AZRebalance: suspended, the group does not attempt to redistribute instances after zones became uneven.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>
#[test]
fn with_azrebalance_suspended_zones_stay_uneven() {
    on(two_zones("uneven"), async |w| {
        lopsided(w).await;
        assert_eq!(per_zone(&w.quiet().await).into_values().collect::<Vec<_>>(), [2, 0]);
    });
}

/// Resumed, it launches in the emptiest zone and then terminates in the fullest: instances that nobody drained.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html>
#[test]
fn azrebalance_resumed_terminates_in_the_fullest_zone() {
    on(two_zones("rebalance"), async |w| {
        lopsided(w).await;
        let before = in_service(&w.state().await);
        w.resume("AZRebalance").await;
        let even = |s: &fastnode::cloud::GroupState| per_zone(s).into_values().eq([1, 1]);
        let after = w.until("zones are even", even).await;
        let left = before.iter().filter(|id| in_service(&after).contains(id)).count();
        assert_eq!(left, 1, "one of two that served was terminated");
        assert_eq!(w.settled().await.group.desired, 2, "desired is what it was");
    });
}

/// Rebalancing launches new instances before terminating the old ones.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html>
#[test]
fn rebalancing_launches_before_it_terminates() {
    on(two_zones("launch-first"), async |w| {
        lopsided(w).await;
        w.resume("AZRebalance").await;
        let over = w.until("one more than desired is there", |s| counted(s) == 3).await;
        assert_eq!((over.group.desired, in_service(&over).len()), (2, 2), "both old ones still serve");
        w.until("it is back at desired", |s| in_service(s).len() == 2 && counted(s) == 2).await;
    });
}
