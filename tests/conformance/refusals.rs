//! What is refused, and in which words.

use fastnode::cloud::ErrorKind;
use fastnode::model::InstanceId;

use crate::making::Setup;
use crate::world::{in_service, on, says};

/// ScalingActivityInProgress: the operation can't be performed because there are scaling activities in progress.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn terminating_twice_is_refused_while_it_goes_on() {
    on(Setup { terminate_hook: Some(6.0), ..Setup::new("terminate-twice") }, async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        let activity = w.decrement(&victim).await;
        let refused = w.try_terminate(&victim, true).await.unwrap_err();
        says(
            &refused,
            ErrorKind::Busy,
            &format!("ScalingActivityInProgress: Scaling activity {} is in progress", activity.id),
        );
        assert_eq!(w.state().await.group.desired, 2, "the second call decremented nothing");
    });
}

/// An instance that is gone is no managed instance any more.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn terminating_what_is_gone_is_refused() {
    on(Setup::new("terminate-gone"), async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.decrement(&victim).await;
        w.settled().await;
        let refused = w.try_terminate(&victim, false).await.unwrap_err();
        says(&refused, ErrorKind::NotFound, &format!("No managed instance found for instance ID: {victim}"));
    });
}

/// So is one that never was.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn terminating_an_unknown_instance_is_refused() {
    on(Setup::new("terminate-unknown"), async |w| {
        let unknown = InstanceId::from("i-00000000000000000");
        let refused = w.try_terminate(&unknown, true).await.unwrap_err();
        says(&refused, ErrorKind::NotFound, "Instance Id not found - No managed instance found for instance ID");
        assert_eq!(w.state().await.group.desired, 3);
    });
}

/// A group that does not exist is a ValidationError that names it.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/CommonErrors.html>
#[test]
fn an_unknown_group_is_refused_by_its_name() {
    on(Setup::new("unknown-group"), async |w| {
        let refused = w.desired_of("no-such-group", 1).await.unwrap_err();
        says(&refused, ErrorKind::NotFound, "AutoScalingGroup name not found");
        says(&refused, ErrorKind::NotFound, "no-such-group");
        assert_eq!(w.activities_of("no-such-group").await.unwrap_err().kind, ErrorKind::NotFound);
    });
}

/// Filters that match no group give an empty list, and no error.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html>
#[test]
fn a_cluster_without_groups_is_an_empty_list() {
    on(Setup::new("no-groups"), async |w| {
        assert_eq!(w.groups_of("no-such-cluster").await, []);
    });
}

/// An instance of another group, or of none, cannot be protected in this one.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetInstanceProtection.html>
#[test]
fn protecting_an_unknown_instance_is_refused() {
    on(Setup::new("protect-unknown"), async |w| {
        let refused = w.try_protect(&[InstanceId::from("i-00000000000000000")], true).await.unwrap_err();
        assert!(refused.to_string().contains("is not part of Auto Scaling group protect-unknown"), "{refused}");
    });
}

/// EC2 leaves out what a filter does not match.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
#[test]
fn an_unknown_instance_is_left_out_of_ec2s_view() {
    on(Setup::new("unknown-instance"), async |w| {
        assert_eq!(w.detail(&InstanceId::from("i-00000000000000000")).await, None);
    });
}

/// Tag keys hold 128 characters and values 256; longer ones are refused, and tags can be written and removed.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html>
#[test]
fn tags_hold_256_characters_and_go_away_again() {
    on(Setup::new("tags"), async |w| {
        let full = "x".repeat(256);
        w.tag("fastnode:test", &full).await.unwrap();
        assert_eq!(w.state().await.group.tags.get("fastnode:test").map(|v| v.len()), Some(256));
        assert!(w.tag("fastnode:long", &"x".repeat(257)).await.is_err());
        w.tag("fastnode:test", "second").await.unwrap();
        let tags = w.state().await.group.tags;
        assert_eq!(tags.get("fastnode:test").map(|v| &**v), Some("second"), "written over");
        assert!(!tags.contains_key("fastnode:long"));
        w.untag("fastnode:test").await;
        w.untag("fastnode:test").await;
        assert!(!w.state().await.group.tags.contains_key("fastnode:test"));
    });
}
