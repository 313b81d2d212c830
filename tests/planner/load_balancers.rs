//! Groups behind load balancers: out of them once a successor serves, gone once they have let go.

use fastnode::model::*;
use fastnode::plan::Verdict;
use fastnode::policy::{Amount, OnStuck, Policy, Timeout};
use jiff::SignedDuration;

use crate::world::World;
use crate::{golden, policy};

const WEB: &str = "arn:aws:elasticloadbalancing:us-west-2:111122223333:targetgroup/web/6d0ecf831eec9f09";

/// Four nodes behind a target group whose delay is so long, where it could be read.
fn balanced(policy: Policy, delay_s: Option<u32>) -> World {
    let mut world = World::new(policy).with_group("workers", &[("a", 2), ("b", 2)], 1);
    world.change_group("workers", |g| g.attachments = [Attachment(WEB.into())].into());
    world.snapshot.delays.extend(delay_s.map(|delay| (Attachment(WEB.into()), delay)));
    world
}

#[test]
fn drained_nodes_wait_for_their_load_balancers_without_a_drain_slot() {
    let mut world = balanced(policy(2), Some(120));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden(
        "deregistration",
        "Four nodes behind a target group that takes 120 s to let go, surge 2, one drain at a time. Each node \
         leaves its load balancers when a replacement of its zone serves, is drained meanwhile, and waits for what \
         is left of the delay while the next one drains already.",
        world,
    );
}

#[test]
fn a_delay_that_could_not_be_read_is_taken_to_be_the_default() {
    let (mut known, mut unknown) = (balanced(policy(1), Some(300)), balanced(policy(1), None));
    for world in [&mut known, &mut unknown] {
        world.begin();
        assert_eq!(world.play(), Some(Verdict::Done));
    }
    assert_eq!(known.story(), unknown.story());
}

#[test]
fn without_attachments_or_with_no_delay_nothing_waits() {
    let mut plain = World::new(policy(1)).with_group("workers", &[("a", 2), ("b", 2)], 1);
    let mut none = balanced(policy(1), Some(0));
    for world in [&mut plain, &mut none] {
        world.begin();
        assert_eq!(world.play(), Some(Verdict::Done));
    }
    assert_eq!(plain.now, none.now);
    assert!(!plain.story().contains("load balancers"));
    assert!(!none.story().contains("waits"));
}

#[test]
fn without_a_surge_a_node_leaves_its_load_balancers_though_no_replacement_can_serve_yet() {
    let allowed = Policy { unavailable: Amount::Count(1), ..policy(0) };
    let mut world = balanced(allowed, Some(60));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
}

#[test]
fn all_may_be_unavailable_and_one_serves_all_the_same() {
    for nodes in [[("a", 1), ("b", 1)], [("a", 2), ("b", 1)]] {
        let drains = Amount::Percent(100);
        let allowed = Policy { unavailable: Amount::Percent(100), drains, ..policy(0) };
        let mut world = World::new(allowed).with_group("workers", &nodes, 1);
        world.change_group("workers", |g| g.attachments = [Attachment(WEB.into())].into());
        world.begin();
        assert_eq!(world.play(), Some(Verdict::Done));
    }
}

#[test]
fn a_drain_time_out_shorter_than_the_delay_gives_nothing_up() {
    let drain_timeout = Timeout::After(SignedDuration::from_secs(60));
    let mut world = balanced(Policy { drain_timeout, on_stuck: OnStuck::Skip, ..policy(1) }, Some(600));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
}

#[test]
fn a_label_of_other_hands_stays_and_counts_from_the_drains_beginning() {
    let mut world = balanced(policy(1), Some(120));
    let mut node = world.snapshot.nodes[&NodeName::from("workers-a1")].clone();
    node.labels.insert(marks::EXCLUDE_FROM_LB.into(), "".into());
    world.snapshot.apply(fastnode::cluster::Fact::Node(node));
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    assert!(world.story().contains("workers-a1 waits for the deregistration delay of target group web"));
}

#[test]
fn the_expected_time_counts_with_the_delay() {
    let expected = |delay| {
        let mut world = balanced(policy(1), Some(delay));
        world.snapshot.refresh(&world.policy);
        fastnode::plan::preview(&world.policy, &world.snapshot, world.now).expected_s
    };
    // A surge of one: each of the four nodes holds its place until it is let go.
    assert!(expected(600) > 4.0 * 600.0, "{}", expected(600));
    assert!((expected(0) - expected(1)).abs() < 1e-9, "what is over before the drain costs nothing");
}
