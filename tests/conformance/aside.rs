//! Instances aside: in Standby, being detached, or in a warm pool.

use fastnode::model::Lifecycle;

use crate::making::Setup;
use crate::world::{counted, in_service, of, on};

/// Instances in Standby are not counted toward the desired capacity once it was decremented for them.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html>
#[test]
fn standby_is_listed_and_not_counted() {
    on(Setup { standby: 1, ..Setup::new("standby") }, async |w| {
        let state = w.quiet().await;
        assert_eq!(of(&state, &Lifecycle::Standby).len(), 1);
        assert_eq!((state.group.desired, counted(&state), state.instances.len()), (3, 3, 4));
    });
}

/// Scale-in takes what is in service; an instance in Standby stays.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html>
#[test]
fn standby_is_not_scaled_in() {
    on(Setup { standby: 1, ..Setup::new("standby-stays") }, async |w| {
        w.desired(1).await;
        let after = w.settled().await;
        assert_eq!((in_service(&after).len(), of(&after, &Lifecycle::Standby).len()), (1, 1));
    });
}

/// A Detaching instance is on its way out of the group, and counts no more.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html>
#[test]
fn detaching_is_not_counted() {
    on(Setup { detaching: 1, ..Setup::new("detaching") }, async |w| {
        let state = w.quiet().await;
        assert_eq!(of(&state, &Lifecycle::Detaching).len(), 1);
        assert_eq!((state.group.desired, counted(&state)), (3, 3));
    });
}

/// Instances in the warm pool do not count toward the group's desired capacity.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-warm-pools.html>
#[test]
fn a_warm_pool_is_not_counted() {
    on(Setup { warm: 2, ..Setup::new("warm") }, async |w| {
        let state = w.quiet().await;
        assert!(state.group.warm_pool);
        assert_eq!((state.group.desired, counted(&state), in_service(&state).len()), (3, 3, 3));
        let warm = w.warm().await;
        assert_eq!(warm.len(), 2);
        for id in &warm {
            assert_eq!(w.detail(id).await.map(|d| d.state), Some("stopped".into()));
        }
    });
}

/// This operation cannot be called on instances in a warm pool.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html>
#[test]
fn a_warm_instance_cannot_be_terminated() {
    on(Setup { warm: 1, ..Setup::new("terminate-warm") }, async |w| {
        let warm = w.warm().await;
        assert!(w.try_terminate(&warm[0], true).await.is_err());
        assert_eq!(w.quiet().await.group.desired, 3, "desired was not decremented");
        assert_eq!(w.warm().await, warm);
    });
}
