//! Which pods leave, and how.

use std::sync::Arc;

use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::plan::Action;
use fastnode::policy::{OnStuck, Policy, Timeout};
use jiff::SignedDuration;

use crate::worlds::*;
use crate::*;

#[test]
fn evictable_only_pods_that_may_move_from_nodes_that_we_drain() {
    assert_eq!(judged(&world(), evict(0)), rule::EVICTABLE, "we do not drain it");
    let open = changed(draining(), |s| node_mut(s, "old-0").unschedulable = false);
    assert_eq!(judged(&open, evict(0)), rule::EVICTABLE);
    let given_up = changed(draining(), |s| mark(s, "old-0", NodeMark::Skipped));
    assert_eq!(judged(&given_up, evict(0)), rule::EVICTABLE);

    type Case = (fn(&mut Pod), fn(&mut Policy));
    let cases: [Case; 4] = [
        (|p| p.owner = None, |p| p.force_unmanaged = true),
        (|p| p.flags.empty_dir = true, |p| p.delete_emptydir_data = true),
        (|p| p.flags.not_safe_to_evict = true, |p| p.ignore_opt_outs = true),
        (|p| p.flags.do_not_disrupt = true, |p| p.ignore_opt_outs = true),
    ];
    for (n, (held, allowed)) in cases.into_iter().enumerate() {
        let world = changed(draining(), |s| held(pod_mut(s, "pod-web-0")));
        assert_eq!(judged(&world, evict(0)), rule::EVICTABLE, "case {n}");
        let mut policy = Policy::default();
        allowed(&mut policy);
        assert_eq!(verdict(&policy, &world, vec![evict(0)]), NOTHING, "case {n} where it is allowed");
    }
    let stays: [fn(&mut Pod); 2] =
        [|p| p.flags.mirror = true, |p| Arc::make_mut(p.owner.as_mut().unwrap()).kind = "DaemonSet".into()];
    for change in stays {
        let world = changed(draining(), |s| change(pod_mut(s, "pod-web-0")));
        assert_eq!(judged(&world, evict(0)), rule::EVICTABLE);
    }
}

#[test]
fn past_budgets_only_when_asked_for_and_after_the_time_out() {
    let delete = |grace_seconds| Action::DeletePod {
        node: "old-0".into(),
        pod: ObjectKey::new("shop", "web-0"),
        uid: "pod-web-0".into(),
        grace_seconds,
    };
    // Draining since minute 5, now minute 10.
    let asked = |minutes| Policy {
        past_budgets: true,
        drain_timeout: Timeout::After(SignedDuration::from_mins(minutes)),
        on_stuck: OnStuck::Wait,
        ..Policy::default()
    };
    assert_eq!(verdict(&asked(5), &draining(), vec![delete(1)]), NOTHING);
    assert_eq!(verdict(&asked(5), &draining(), vec![delete(0)]), rule::PAST_BUDGETS);
    assert_eq!(verdict(&asked(6), &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    let never = Policy { drain_timeout: Timeout::Never, ..asked(5) };
    assert_eq!(verdict(&never, &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    let unasked = Policy { past_budgets: false, ..asked(5) };
    assert_eq!(verdict(&unasked, &draining(), vec![delete(1)]), rule::PAST_BUDGETS);
    assert_eq!(verdict(&asked(5), &world(), vec![delete(1)]), rule::EVICTABLE);
}
