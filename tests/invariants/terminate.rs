//! What may be terminated, and what a group launches or shrinks by for it.

use fastnode::invariants::rule;
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::plan::{Action, NodePurpose};
use jiff::SignedDuration;

use crate::worlds::*;
use crate::*;

#[test]
fn drained_only_what_we_drained_to_the_end_is_terminated() {
    let good = ready_to_terminate;
    let mutations: [fn(&mut Snapshot); 8] = [
        |s| node_mut(s, "old-0").unschedulable = false,
        |s| drop(node_mut(s, "old-0").labels.remove(marks::ROTATION)),
        |s| drop(node_mut(s, "old-0").labels.insert(marks::ROTATION.into(), "another".into())),
        |s| drop(node_mut(s, "old-0").annotations.remove(marks::STATE)),
        |s| drop(node_mut(s, "old-0").annotations.insert(marks::STATE.into(), "skipped".into())),
        |s| {
            let back = pod("pod-back", ObjectKey::new("shop", "back"), &s.nodes[&NodeName::from("old-0")]);
            s.pods.insert(back.uid.clone(), back.into());
        },
        |s| {
            let name: Text = "csi-1".into();
            let attachment =
                VolumeAttachment { name: name.clone(), node: "old-0".into(), volume: None, attached: true };
            s.attachments.insert(name, attachment);
        },
        |s| instance_mut(s, "i-old-0").lifecycle = Lifecycle::Standby,
    ];
    for (n, mutation) in mutations.into_iter().enumerate() {
        assert_eq!(judged(&changed(good(), mutation), terminate(0)), rule::DRAINED, "mutation {n}");
    }
    // What stays with its node, or has ended, does not hold it.
    let harmless = changed(good(), |s| {
        let node = s.nodes[&NodeName::from("old-0")].clone();
        let mut done = pod("pod-done", ObjectKey::new("shop", "done"), &node);
        done.phase = Phase::Succeeded;
        let mut mirror = pod("pod-mirror", ObjectKey::new("kube-system", "static"), &node);
        mirror.flags.mirror = true;
        [done, mirror].into_iter().for_each(|p| drop(s.pods.insert(p.uid.clone(), p.into())));
    });
    assert_eq!(judged(&harmless, terminate(0)), NOTHING);
    // A pod that is going is not gone.
    let going = changed(draining(), |s| pod_mut(s, "pod-web-0").deleting = Some(now()));
    assert_eq!(judged(&going, terminate(0)), rule::DRAINED);
    let said = change_node("old-0", NodePurpose::MarkDrained, ours("drained"));
    assert_eq!(judged(&draining(), said.clone()), rule::DRAINED, "nor is it to be called drained");
    assert_eq!(judged(&good(), said), NOTHING);
}

#[test]
fn deregistration_what_serves_behind_load_balancers_stays_until_they_let_go() {
    let attached = |delay: Option<u32>, label: bool, since: Option<i64>| {
        changed(ready_to_terminate(), |s| {
            let web = Attachment("arn:aws:elasticloadbalancing:r:1:targetgroup/web/1".into());
            group_mut(s).attachments.insert(web.clone());
            s.delays.extend(delay.map(|delay| (web, delay)));
            let node = node_mut(s, "old-0");
            if label {
                node.labels.insert(marks::EXCLUDE_FROM_LB.into(), "true".into());
            }
            let began = since.map(|seconds| (now() - SignedDuration::from_secs(seconds)).to_string());
            node.annotations.extend(began.map(|at| (marks::EXCLUDED_SINCE.into(), at.into())));
        })
    };
    assert_eq!(judged(&attached(Some(60), true, Some(60)), terminate(0)), NOTHING);
    assert_eq!(judged(&attached(Some(60), true, Some(59)), terminate(0)), rule::DEREGISTRATION);
    assert_eq!(judged(&attached(Some(60), false, None), terminate(0)), rule::DEREGISTRATION);
    assert_eq!(judged(&attached(None, true, Some(299)), terminate(0)), rule::DEREGISTRATION, "300 s by default");
    assert_eq!(judged(&attached(None, true, Some(300)), terminate(0)), NOTHING);
    assert_eq!(judged(&attached(Some(0), true, Some(0)), terminate(0)), NOTHING);
}

#[test]
fn drained_a_replacement_that_never_registered_is_the_one_exception() {
    let terminate = |id: &str| Action::Terminate {
        instance: id.into(),
        group: GROUP.into(),
        node: None,
        decrement: Some(Box::new((announced(1, step(7, 6, Some(id))), Ledger::settled(0)))),
    };
    let lost = |launched: i64| {
        changed(world(), |s| {
            s.instances.values_mut().for_each(|i| i.protected = true);
            s.nodes.remove(&NodeName::from("new-0"));
            s.pods.retain(|_, p| p.node != Some("new-0".into()));
            instance_mut(s, "i-new-0").launched_at = Some(minute(launched));
        })
    };
    assert_eq!(judged(&lost(0), terminate("i-new-0")), NOTHING, "its ten minutes are over");
    assert_eq!(judged(&lost(5), terminate("i-new-0")), rule::DRAINED, "it may still join");
    assert_eq!(judged(&lost(-5), terminate("i-new-0")), rule::DRAINED, "it is older than the rotation");
    assert_eq!(judged(&world(), terminate("i-new-0")), rule::DRAINED, "it has a Node");
    let recorded = changed(lost(5), |s| {
        record_mut(s).failed.insert("i-new-0".into(), "never joined".into());
    });
    assert_eq!(judged(&recorded, terminate("i-new-0")), NOTHING);
    let old = changed(world(), |s| drop(s.nodes.remove(&NodeName::from("old-0"))));
    assert_eq!(judged(&old, terminate("i-old-0")), rule::DRAINED);
}

#[test]
fn shrink_one_goes_and_nothing_else_can() {
    let mutations: [fn(&mut Snapshot); 3] = [
        |s| instance_mut(s, "i-old-3").lifecycle = Lifecycle::Pending,
        |s| instance_mut(s, "i-old-3").protected = false,
        |s| instance_mut(s, "i-old-3").lifecycle = Lifecycle::Terminating,
    ];
    for mutation in mutations {
        assert_eq!(judged(&changed(ready_to_shrink(), mutation), shrink(0)), rule::SHRINK);
    }
    let lower = |s: &Snapshot| {
        let before = announced(1, step(7, 6, None));
        let action = Action::Resize { group: GROUP.into(), from: 7, to: 6, before, after: Ledger::settled(0) };
        judged(s, action)
    };
    let missing = |s: &mut Snapshot| {
        s.instances.remove(&InstanceId::from("i-new-0"));
        group_mut(s).suspended.insert(Process(Process::LAUNCH.into()));
    };
    assert_eq!(lower(&changed(world(), missing)), NOTHING, "the surge never launched");
    assert_eq!(lower(&world()), rule::SHRINK, "AWS would choose one of seven");
    let may_launch = changed(changed(world(), missing), |s| group_mut(s).suspended.clear());
    assert_eq!(lower(&may_launch), rule::SHRINK);
}

#[test]
fn replacement_what_goes_without_decrement_is_replaced_by_the_target() {
    let good = ready_to_terminate;
    let suspended = changed(good(), |s| _ = group_mut(s).suspended.insert(Process(Process::LAUNCH.into())));
    assert_eq!(judged(&suspended, terminate(0)), rule::REPLACEMENT);
    let moved = changed(good(), |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&moved, terminate(0)), rule::REPLACEMENT);
    let unread = changed(good(), |s| {
        group_mut(s).target = Target::Template(TemplateRef { resolved: None, ..template("2") });
    });
    assert_eq!(judged(&unread, terminate(0)), NOTHING, "what was not asked again has not moved");
    let in_shrinking = changed(ready_to_shrink(), |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&in_shrinking, shrink(0)), NOTHING, "with decrement nothing is launched");

    let failed = changed(world(), |s| mark(s, "new-0", NodeMark::Failed));
    let terminate = Action::Terminate {
        instance: "i-new-0".into(),
        group: GROUP.into(),
        node: Some(("new-0".into(), "uid-new-0".into())),
        decrement: None,
    };
    assert_eq!(judged(&failed, terminate.clone()), rule::REPLACEMENT, "the same would be launched again");
    let mended = changed(failed, |s| {
        record_mut(s).failed.insert("i-new-0".into(), "aws-node restarted".into());
        record_mut(s).mended.excused.insert("i-new-0".into());
    });
    assert_eq!(judged(&mended, terminate.clone()), NOTHING, "its fault was mended since");
    let moved = changed(mended, |s| group_mut(s).target = Target::Template(template("3")));
    assert_eq!(judged(&moved, terminate), rule::REPLACEMENT, "what is launched in its place is proved by nothing");
}
