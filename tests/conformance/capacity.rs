//! Desired capacity: what counts in it, and how it changes.

use fastnode::cloud::ErrorKind;
use fastnode::model::Lifecycle;

use crate::making::Setup;
use crate::world::{counted, in_service, instance, of, on, says};

/// New SetDesiredCapacity value is above max value: desired must be no more than the maximum.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html>
#[test]
fn desired_above_the_maximum_is_refused() {
    on(Setup { max: 4, ..Setup::new("above-max") }, async |w| {
        let refused = w.try_desired(5).await.unwrap_err();
        says(
            &refused,
            ErrorKind::Refused,
            "New SetDesiredCapacity value 5 is above max value 4 for the AutoScalingGroup.",
        );
        assert_eq!(w.state().await.group.desired, 3);
        w.desired(4).await;
    });
}

/// Desired must be no less than the minimum.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html>
#[test]
fn desired_below_the_minimum_is_refused() {
    on(Setup { min: 3, ..Setup::new("below-min") }, async |w| {
        let refused = w.try_desired(2).await.unwrap_err();
        says(
            &refused,
            ErrorKind::Refused,
            "New SetDesiredCapacity value 2 is below min value 3 for the AutoScalingGroup.",
        );
        assert_eq!(w.state().await.group.desired, 3);
    });
}

/// If you choose to decrement … this call can fail if it would bring the group below its minimum size.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-capacity-limits.html>
#[test]
fn a_decrement_at_the_minimum_is_refused() {
    on(Setup { min: 3, ..Setup::new("decrement-at-min") }, async |w| {
        let before = w.state().await;
        let refused = w.try_terminate(&in_service(&before)[0], true).await.unwrap_err();
        says(&refused, ErrorKind::Refused, "desiredSize equals minSize (3)");
        says(&refused, ErrorKind::Refused, "will violate group's min size constraint");
        assert_eq!(w.quiet().await, before, "a refused call changes nothing");
    });
}

/// ShouldDecrementDesiredCapacity: indicates whether terminating the instance also decrements the size.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn a_decrement_lowers_desired_and_launches_nothing() {
    on(Setup::new("decrement"), async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.decrement(&victim).await;
        assert_eq!(w.state().await.group.desired, 2);
        let after = w.settled().await;
        assert_eq!((after.group.desired, after.instances.len()), (2, 2));
        assert_eq!(w.quiet().await.instances.len(), 2, "nothing was launched in its place");
    });
}

/// Raising desired launches the difference.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-manually.html>
#[test]
fn raising_desired_launches_the_difference() {
    on(Setup::new("raise"), async |w| {
        w.desired(5).await;
        let launching = w.until("two are launching", |s| of(s, &Lifecycle::Pending).len() == 2).await;
        assert_eq!(counted(&launching), 5, "Pending instances count in desired");
        assert_eq!(in_service(&w.settled().await).len(), 5);
    });
}

/// Lowering desired terminates the difference.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-manually.html>
#[test]
fn lowering_desired_terminates_the_difference() {
    on(Setup::new("lower"), async |w| {
        w.desired(1).await;
        let leaving = w.until("two are leaving", |s| of(s, &Lifecycle::Terminating).len() == 2).await;
        assert_eq!(counted(&leaving), 1);
        assert_eq!(w.settled().await.instances.len(), 1);
    });
}

/// Desired as it is already is no change: nothing is launched, terminated or recorded.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-capacity-limits.html>
#[test]
fn the_same_desired_changes_nothing() {
    on(Setup::new("same-desired"), async |w| {
        let before = w.state().await;
        w.desired(3).await;
        assert_eq!(w.quiet().await, before);
        assert!(w.activities().await.is_empty());
    });
}

/// If a new value for MaxSize is specified without setting DesiredCapacity, and the new maximum is smaller than the
/// current size of the group, this sets the group's DesiredCapacity to the new MaxSize value.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html>
#[test]
fn a_lower_maximum_takes_desired_along() {
    on(Setup::new("lower-max"), async |w| {
        w.try_max(2).await.unwrap();
        let group = w.state().await.group;
        assert_eq!((group.max, group.desired), (2, 2));
        let after = w.settled().await;
        assert_eq!(after.instances.len(), 2);
        let ended = w.activities().await.remove(0);
        assert!(ended.cause.contains("changing the desired capacity from 3 to 2"), "{}", ended.cause);
    });
}

/// A maximum below the minimum is refused.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html>
#[test]
fn a_maximum_below_the_minimum_is_refused() {
    on(Setup { min: 2, ..Setup::new("max-below-min") }, async |w| {
        let refused = w.try_max(1).await.unwrap_err();
        assert!(
            refused.to_string().contains("Max bound, 1, must be greater than or equal to min bound, 2"),
            "{refused}"
        );
        assert_eq!(w.state().await.group.max, 6);
    });
}

/// Raising the maximum alone launches nothing, and lets desired follow.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-capacity-limits.html>
#[test]
fn a_higher_maximum_makes_room_and_nothing_else() {
    on(Setup { max: 3, ..Setup::new("higher-max") }, async |w| {
        assert_eq!(w.try_desired(4).await.unwrap_err().kind, ErrorKind::Refused);
        w.try_max(4).await.unwrap();
        assert_eq!(w.quiet().await.instances.len(), 3);
        w.desired(4).await;
        assert_eq!(in_service(&w.settled().await).len(), 4);
    });
}

/// A terminating instance no longer counts: the group replaces it while it is still there.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html>
#[test]
fn what_is_terminating_is_listed_and_not_counted() {
    on(Setup { terminate_hook: Some(6.0), ..Setup::new("terminating-counts") }, async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.terminate(&victim).await;
        let state = w.state().await;
        assert_eq!(instance(&state, &victim).map(|i| &i.lifecycle), Some(&Lifecycle::Terminating));
        assert_eq!((state.group.desired, counted(&state)), (3, 2));
        let replaced = w.until("three are in service again", |s| in_service(s).len() == 3).await;
        assert_eq!(replaced.instances.len(), 4, "the old one is still there, and in nobody's count");
    });
}
