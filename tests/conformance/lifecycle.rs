//! Lifecycle hooks, protection and suspended processes.

use fastnode::cloud::ErrorKind;
use fastnode::model::Lifecycle;

use crate::making::Setup;
use crate::world::{counted, in_service, instance, of, on, says};

/// With a hook on launches an instance is Pending:Wait, which counts in desired, until the hook is completed.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html>
#[test]
fn a_launch_hook_keeps_an_instance_pending() {
    on(Setup { launch_hook: Some(6.0), ..Setup::new("launch-hook") }, async |w| {
        w.desired(4).await;
        w.until("one is launching", |s| of(s, &Lifecycle::Pending).len() == 1).await;
        let waiting = w.quiet().await;
        let pending = of(&waiting, &Lifecycle::Pending);
        assert_eq!((pending.len(), counted(&waiting)), (1, 4), "it waits, and counts");
        assert_eq!(w.activities().await[0].ended, None);
        let after = w.settled().await;
        assert_eq!(instance(&after, &pending[0]).map(|i| &i.lifecycle), Some(&Lifecycle::InService));
    });
}

/// With a hook on terminations an instance is Terminating:Wait and still runs until the hook is completed.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html>
#[test]
fn a_termination_hook_keeps_an_instance_running() {
    on(Setup { terminate_hook: Some(6.0), ..Setup::new("terminate-hook") }, async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.decrement(&victim).await;
        let waiting = w.quiet().await;
        assert_eq!(instance(&waiting, &victim).map(|i| &i.lifecycle), Some(&Lifecycle::Terminating));
        assert_eq!(w.detail(&victim).await.map(|d| d.state), Some("running".into()));
        w.settled().await;
        let gone = w.detail(&victim).await.map(|d| d.state);
        assert!(gone.as_deref().is_none_or(|state| state == "terminated"), "{gone:?}");
    });
}

/// Instance scale-in protection controls which instances can be terminated on scale in.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html>
#[test]
fn a_protected_instance_is_not_scaled_in() {
    on(Setup::new("protected"), async |w| {
        let ids = in_service(&w.state().await);
        w.protect(&ids[..2], true).await;
        let state = w.state().await;
        assert_eq!(state.instances.iter().filter(|i| i.protected).count(), 2);
        w.desired(2).await;
        let after = w.settled().await;
        assert!(instance(&after, &ids[2]).is_none(), "the one that was not protected went");
    });
}

/// Where all are protected, desired is lowered and nothing is terminated, until protection is taken off.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html>
#[test]
fn a_group_of_protected_instances_stays_above_desired() {
    on(Setup::new("all-protected"), async |w| {
        let ids = in_service(&w.state().await);
        w.protect(&ids, true).await;
        w.desired(2).await;
        let above = w.quiet().await;
        assert_eq!((above.group.desired, in_service(&above).len()), (2, 3));
        w.protect(&ids[1..2], false).await;
        let after = w.settled().await;
        assert!(instance(&after, &ids[1]).is_none());
    });
}

/// Protection does not protect from manual termination by TerminateInstanceInAutoScalingGroup.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html>
#[test]
fn a_protected_instance_can_be_terminated_by_its_id() {
    on(Setup::new("protected-by-id"), async |w| {
        let victim = in_service(&w.state().await)[0].clone();
        w.protect(std::slice::from_ref(&victim), true).await;
        w.decrement(&victim).await;
        assert!(instance(&w.settled().await, &victim).is_none());
    });
}

/// If you enable scale-in protection on the group, all new instances have it; those already running do not.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html>
#[test]
fn a_group_can_protect_what_it_launches() {
    on(Setup { protected: true, ..Setup::new("protects-new") }, async |w| {
        let before = w.state().await;
        assert!(before.group.new_instances_protected);
        w.desired(4).await;
        let after = w.settled().await;
        let new: Vec<_> = after.instances.iter().filter(|i| instance(&before, &i.id).is_none()).collect();
        assert!(new.len() == 1 && new[0].protected, "{new:?}");
    });
}

/// Protection can be set on instances in InService, EnteringStandby or Standby, and on no others.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetInstanceProtection.html>
#[test]
fn what_is_leaving_cannot_be_protected() {
    on(Setup { standby: 1, ..Setup::new("protect-leaving") }, async |w| {
        let state = w.state().await;
        let victim = in_service(&state)[0].clone();
        w.protect(&of(&state, &Lifecycle::Standby), true).await;
        w.terminate(&victim).await;
        let refused = w.try_protect(std::slice::from_ref(&victim), true).await.unwrap_err();
        says(&refused, ErrorKind::Refused, "is not in InService or EnteringStandby or Standby.");
    });
}

/// Launch: suspended, the group does not scale out, nor replaces what is terminated; resumed, it does.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>
#[test]
fn with_launch_suspended_nothing_is_launched() {
    on(Setup::new("launch-suspended"), async |w| {
        w.suspend("Launch").await;
        assert!(w.state().await.group.is_suspended("Launch"));
        w.terminate(&in_service(&w.state().await)[0]).await;
        let short = w.quiet().await;
        assert_eq!((short.group.desired, counted(&short)), (3, 2));
        w.resume("Launch").await;
        assert!(w.settled().await.group.suspended.is_empty());
    });
}

/// Terminate: suspended, the group does not scale in; resumed, it does.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>
#[test]
fn with_terminate_suspended_nothing_is_scaled_in() {
    on(Setup { suspended: vec!["Terminate"], ..Setup::new("terminate-suspended") }, async |w| {
        w.desired(2).await;
        let above = w.quiet().await;
        assert_eq!((above.group.desired, in_service(&above).len()), (2, 3));
        w.resume("Terminate").await;
        assert_eq!(in_service(&w.settled().await).len(), 2);
    });
}

/// Suspending and resuming touch the processes that are named and no others, and can be said twice.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_ResumeProcesses.html>
#[test]
fn processes_are_suspended_and_resumed_one_by_one() {
    on(Setup { suspended: vec!["ReplaceUnhealthy"], ..Setup::new("processes") }, async |w| {
        w.suspend("AZRebalance").await;
        w.suspend("AZRebalance").await;
        let names =
            |group: &fastnode::model::NodeGroup| group.suspended.iter().map(|p| p.0.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&w.state().await.group), ["AZRebalance", "ReplaceUnhealthy"]);
        w.resume("AZRebalance").await;
        w.resume("AZRebalance").await;
        assert_eq!(names(&w.state().await.group), ["ReplaceUnhealthy"]);
    });
}
