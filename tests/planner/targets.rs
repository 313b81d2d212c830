//! Stories of targets: those that change in the middle, and loops that must not happen.

use fastnode::model::*;
use fastnode::plan::Verdict;
use fastnode::policy::{OnTargetChange, Policy};
use jiff::SignedDuration;

use crate::world::{World, template};
use crate::{golden, policy};

/// So many seconds in, the template has a new version.
pub fn moves_at(world: &mut World, seconds: i64) {
    world.at(seconds, |world| {
        world.change_group("workers", |g| g.target = template("5"));
        world.tell("$Latest resolves to 5 now");
    });
}

#[test]
fn a_target_that_moves_may_start_again_with_a_canary() {
    let policy = Policy { on_target_change: OnTargetChange::Recanary, ..policy(2) };
    let mut world = World::new(policy).with_group("workers", &[("a", 3), ("b", 3)], 1);
    moves_at(&mut world, 130);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "target-moves-recanary",
        "$Latest moves in the middle, under --on-target-change recanary. No termination launches the new version \
         uncanaried: the drain in hand ends with decrement, the rest of the surge goes with one more old node, and only \
         then the new target is recorded. The replacements of the former one are outdated now, and a canary comes first \
         again.",
        world,
    );
}

#[test]
fn a_target_that_moves_before_anything_was_proved() {
    let policy = Policy { on_target_change: OnTargetChange::Recanary, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2)], 1);
    moves_at(&mut world, 30);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "target-moves-in-the-canary",
        "The target moves while the canary of the former one boots: the canary is given back, and the new target's comes.",
        world,
    );
}

#[test]
fn latest_is_never_compared_as_text() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2)], 1);
    world.change_group("workers", |g| {
        g.target = Target::Template(TemplateRef {
            id: "lt-1".into(),
            version: "$Latest".into(),
            resolved: Some("4".into()),
            image: None,
        });
    });
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    world.tell("a second rotation");
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "loop-latest",
        "The group says $Latest, its instances say 3 and then 4: compared as text they would differ for ever. Each is \
         rotated once, and a second rotation finds nothing to do.",
        world,
    );
}

#[test]
fn age_and_force_stop_at_the_recorded_start() {
    let older_than = Some(SignedDuration::from_mins(1));
    let policy = Policy { force: true, older_than, ..policy(1) };
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 1)], 1);
    world.change_group("workers", |g| g.target = template("3"));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "loop-age-and-force",
        "--force --older-than 1m on nodes that are on the target: the replacements are older than a minute before the \
         rotation ends, and could be forced as well. Only what was launched before the recorded start is rotated: each \
         node once.",
        world,
    );
}

#[test]
fn an_image_behind_one_version_is_rotated_once_and_skew_that_it_does_not_cure_not_at_all() {
    let mut world = World::new(policy(1)).with_group("workers", &[("a", 2)], 1);
    let target = |image: &str| {
        Target::Template(TemplateRef {
            id: "lt-1".into(),
            version: "3".into(),
            resolved: Some("3".into()),
            image: Some(image.into()),
        })
    };
    world.image = Some("ami-new".into());
    world.change_group("workers", |g| g.target = target("ami-new"));
    for id in ["i-workers-a1", "i-workers-a2"] {
        world.change_instance(id, |i| i.image = Some("ami-old".into()));
    }
    // The control plane is ahead of what either image brings.
    world.snapshot.version = "v1.37.0".into();
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    world.tell("a second rotation");
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "loop-image-and-skew",
        "The template's image is resolve:ssm:…, so its version stays 3 while the image moves: both nodes are rotated for \
         their image. Their kubelets, 1.36, stay behind the control plane, 1.37, since the new image does not cure that: \
         a second rotation finds nothing to do.",
        world,
    );
}
