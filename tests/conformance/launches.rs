//! Launches: when they come, what they leave in the activities, and what becomes of those that fail.

use fastnode::cloud::ErrorKind;
use fastnode::model::{ActivityStatus, Lifecycle};

use crate::making::Setup;
use crate::world::{counted, in_service, instance, of, on};

/// When an instance is terminated without decrement, the group launches another to replace it: later, not with it.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn a_launch_follows_a_termination_after_a_while() {
    on(Setup::new("launch-follows"), async |w| {
        let before = w.state().await;
        let victim = in_service(&before)[0].clone();
        w.terminate(&victim).await;
        let at_once = w.state().await;
        assert_eq!((at_once.group.desired, of(&at_once, &Lifecycle::Pending).len()), (3, 0), "not yet");
        let launching = w.until("one is launching", |s| of(s, &Lifecycle::Pending).len() == 1).await;
        assert_eq!(counted(&launching), 3);
        let after = w.settled().await;
        let new: Vec<_> = after.instances.iter().filter(|i| instance(&before, &i.id).is_none()).collect();
        assert_eq!((after.instances.len(), new.len()), (3, 1));
    });
}

/// Activities are listed newest first; each says what was done to which instance, and why.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-activities.html>
#[test]
fn activities_tell_a_requested_launch_and_its_cause() {
    on(Setup::new("launch-activity"), async |w| {
        w.desired(5).await;
        w.until("two are launching", |s| of(s, &Lifecycle::Pending).len() == 2).await;
        let begun = w.activities().await;
        assert_eq!(begun.len(), 2);
        for activity in &begun {
            let id = activity.instance.as_ref().expect("a launch names its instance");
            assert_eq!(*activity.description, format!("Launching a new EC2 instance: {id}"));
            assert!(activity.cause.contains("a user request explicitly set group desired capacity"), "{activity:?}");
            assert!(activity.cause.contains("changing the desired capacity from 3 to 5"), "{activity:?}");
            assert!(activity.cause.contains("increasing the capacity from 3 to 5"), "{activity:?}");
            assert_eq!((activity.status, activity.ended), (ActivityStatus::InProgress, None));
        }
        w.settled().await;
        for activity in w.activities().await {
            assert_eq!(activity.status, ActivityStatus::Successful);
            assert!(activity.ended.is_some_and(|end| end >= activity.started));
        }
    });
}

/// A termination's activity is InProgress until the instance is gone; a user's says so in its cause.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-activities.html>
#[test]
fn activities_tell_a_users_termination() {
    on(Setup::new("termination-activity"), async |w| {
        let ids = in_service(&w.state().await);
        let kept = w.terminate(&ids[0]).await;
        assert_eq!(kept.instance.as_ref(), Some(&ids[0]));
        assert_eq!(*kept.description, format!("Terminating EC2 instance: {}", ids[0]));
        assert!(kept.cause.ends_with("was taken out of service in response to a user request."), "{}", kept.cause);
        assert_eq!(kept.status, ActivityStatus::InProgress);
        let shrunk = w.decrement(&ids[1]).await;
        let words = "in response to a user request, shrinking the capacity from 3 to 2.";
        assert!(shrunk.cause.ends_with(words), "{}", shrunk.cause);
        w.settled().await;
        let listed = w.activities().await;
        for told in [kept, shrunk] {
            let ended = listed.iter().find(|a| a.id == told.id).expect("what was answered is listed");
            assert_eq!(ended.status, ActivityStatus::Successful);
        }
        assert!(listed.is_sorted_by(|a, b| a.started >= b.started), "newest first");
    });
}

/// A scale-in that nobody asked for by instance names the difference between desired and actual capacity.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-activities.html>
#[test]
fn activities_tell_a_scale_in_apart_from_a_users_termination() {
    on(Setup::new("scale-in-activity"), async |w| {
        w.desired(2).await;
        w.until("one is leaving", |s| of(s, &Lifecycle::Terminating).len() == 1).await;
        let activity = w.activities().await.remove(0);
        assert!(activity.cause.contains("explicitly set group desired capacity"), "{}", activity.cause);
        let words =
            "in response to a difference between desired and actual capacity, shrinking the capacity from 3 to 2.";
        assert!(activity.cause.contains(words), "{}", activity.cause);
    });
}

/// We currently do not have sufficient … capacity in the Availability Zone you requested: the attempt is a failed
/// activity with the message, and the group launches in another zone.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html>
#[test]
fn a_zone_without_capacity_fails_an_activity_and_another_zone_takes_the_launch() {
    let lacks = vec![("us-west-2a", None)];
    on(Setup { no_capacity: lacks, ..Setup::zonal("zone-without-capacity") }, async |w| {
        // Of three zones with one each, a is emptiest once its own is gone.
        let before = w.state().await;
        let victim = crate::world::in_zone(&before, "us-west-2a")[0].clone();
        w.terminate(&victim).await;
        let after = w.settled().await;
        assert_eq!(crate::world::per_zone(&after)["us-west-2a"], 0);
        let activities = w.activities().await;
        let failed = activities.iter().find(|a| a.status == ActivityStatus::Failed).expect("the failed attempt");
        assert!(failed.description.starts_with("Launching a new EC2 instance"), "{failed:?}");
        assert_eq!(failed.instance, None);
        let message = failed.message.as_deref().unwrap_or_default();
        assert!(message.contains("We currently do not have sufficient"), "{message}");
        assert!(message.contains("us-west-2a") && message.contains("Launching EC2 instance failed"), "{message}");
    });
}

/// Where no zone has capacity, desired stands and the group goes on trying.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html>
#[test]
fn without_any_capacity_desired_stands_and_the_group_tries_again() {
    let lacks = vec![("us-west-2a", Some(12.0))];
    on(Setup { no_capacity: lacks, ..Setup::new("no-capacity") }, async |w| {
        w.desired(4).await;
        let short = w.quiet().await;
        assert_eq!((short.group.desired, counted(&short)), (4, 3));
        assert_eq!(w.activities().await[0].status, ActivityStatus::Failed);
        assert_eq!(in_service(&w.settled().await).len(), 4, "capacity came back");
    });
}

/// A reply that is lost says nothing of the call: it may have taken effect, and here it has.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>
#[test]
fn a_lost_reply_to_desired_leaves_its_effect() {
    let lost = Some("SetDesiredCapacity");
    on(Setup { lost_reply: lost, ..Setup::new("lost-desired") }, async |w| {
        let unknown = w.try_desired(4).await.unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::UnknownOutcome, "{unknown}");
        assert_eq!(w.state().await.group.desired, 4);
        assert_eq!(in_service(&w.settled().await).len(), 4);
    });
}

/// The same of a termination: it was sent once, and one instance went.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>
#[test]
fn a_lost_reply_to_a_termination_leaves_its_effect_once() {
    let lost = Some("TerminateInstanceInAutoScalingGroup");
    on(Setup { lost_reply: lost, ..Setup::new("lost-terminate") }, async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        let unknown = w.try_terminate(&victim, true).await.unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::UnknownOutcome, "{unknown}");
        let state = w.state().await;
        assert_eq!(instance(&state, &victim).map(|i| &i.lifecycle), Some(&Lifecycle::Terminating));
        assert_eq!(state.group.desired, 2);
        assert_eq!(w.settled().await.instances.len(), 2);
    });
}
