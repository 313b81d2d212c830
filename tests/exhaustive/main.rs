//! The lower bound and the real rotation, against an exhaustive search on random small clusters.
//!
//! Three that share no code: the bound (`fastnode::bound`), the production controller on the simulator, and the
//! search here with its own model of the rules. Times are constants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a replay is read"
)]

mod rotation;
#[path = "../worlds/runs.rs"]
mod runs;
mod search;

use fastnode::bound::{Chain, GroupLoad, lower_bound};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search::{Budget, Case, Group, Schedules};

/// A rotation may take so much longer than the best there is.
const SLACK: f64 = 0.05;

/// The case of a seed: one or two groups, seven nodes at most.
fn case(seed: u64) -> Case {
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let count = draw.random_range(1..=2) as usize;
    let (surge, unavailable) =
        *pick(&mut draw, &[(1, 0), (1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (1, 1), (2, 1), (5, 0)]);
    let drains = draw.random_range(1..=3);
    let canary = *pick(&mut draw, &[0u32, 1, 1, 1, 2]);
    let (b, d, x) = (draw.random_range(20..=90), draw.random_range(5..=30), draw.random_range(5..=60));
    let max_drains = (count > 1 && draw.random_bool(0.4)).then(|| draw.random_range(1..=3));
    let mut left = 7;
    let groups = (0..count).map(|n| {
        let nodes = draw.random_range(1..=left - (count - 1 - n) as u32);
        left -= nodes;
        // Where nothing new works yet when the first node is drained, its pods can only go where they must move
        // again; and how the cluster's slots are shared among groups looks at no budgets.
        let searched = surge > 0 && (unavailable == 0 || canary > 0) && max_drains.is_none();
        let bound = (nodes > 1 && searched && draw.random_bool(0.4))
            .then(|| Budget { nodes: draw.random_range(2..=nodes), recovers: draw.random_range(5..=60) });
        let surge = surge.min(nodes);

        Group { nodes, surge, unavailable: unavailable.min(nodes), drains, canary, b, d, x, budget: bound }
    });
    let groups: Vec<Group> = groups.collect();
    Case { groups, max_drains }
}

fn pick<'a, T>(draw: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[draw.random_range(0..from.len())]
}

fn bound(case: &Case) -> f64 {
    let loads: Vec<GroupLoad> = (0..).zip(&case.groups).map(|(n, group)| load(n, group)).collect();
    lower_bound(&loads, case.max_drains).seconds
}

fn load(n: u32, group: &Group) -> GroupLoad {
    let chain = group.budget.map(|budget| Chain {
        budget: "default/bound".into(),
        seconds: ((budget.nodes - 1) * budget.recovers + group.d).into(),
    });
    GroupLoad {
        group: format!("g{n}").as_str().into(),
        nodes: group.nodes,
        surge: group.surge,
        unavailable: group.unavailable,
        drains: group.drains,
        canary: group.canary,
        b: group.b.into(),
        d: group.d.into(),
        x: group.x.into(),
        chain,
    }
}

struct Compared {
    bound: f64,
    /// The shortest of all schedules.
    best: f64,
    /// The shortest of those that keep no room for a budget to open.
    busy: f64,
    run: Result<f64, String>,
}

fn compare(seed: u64) -> Compared {
    let case = case(seed);
    let best = |of| f64::from(case.best(of).expect("every case can be rotated"));
    let (best, busy) = (best(Schedules::All), best(Schedules::Busy));
    Compared { bound: bound(&case), best, busy, run: rotation::seconds(&case, seed) }
}

impl Compared {
    fn wrong(&self) -> Option<String> {
        let Self { bound, best, busy, run } = self;
        if *bound > best + 1e-6 {
            return Some(format!("the bound is {bound} s, and a rotation of {best} s was found"));
        }
        match run {
            Err(why) => Some(why.clone()),
            Ok(run) if *run > busy * (1.0 + SLACK) => {
                Some(format!("fastnode took {run:.1} s, and a rotation of {busy} s was found"))
            }
            Ok(run) if *run < best - 1.0 => {
                Some(format!("fastnode took {run:.1} s, less than the best found of {best} s: the rules differ"))
            }
            Ok(_) => None,
        }
    }

    /// Slower than the best by more than the slack, because it kept no room for a budget to open.
    fn kept_no_room(&self) -> bool {
        self.run.as_ref().is_ok_and(|run| *run > self.best * (1.0 + SLACK))
    }

    fn bound_is_met(&self) -> bool {
        self.bound >= self.best * (1.0 - SLACK)
    }
}

fn check(seeds: std::ops::Range<u64>) {
    let (mut wrong, mut kept_no_room, mut met) = (Vec::new(), Vec::new(), 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let compared = compare(seed);
        met += u64::from(compared.bound_is_met());
        if compared.kept_no_room() {
            kept_no_room.push(seed);
        }
        if let Some(why) = compared.wrong() {
            wrong.push(format!(
                "seed {seed}: {why}\n  {:?}\n  again: FASTNODE_SEED={seed} cargo test --test exhaustive -- --exact \
                 one_seed --nocapture",
                case(seed)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong\n{}", wrong.len(), wrong.join("\n"));
    // The planner drains what may be drained and bets on no budget: that may cost, but hardly ever.
    assert!(
        kept_no_room.len() as u64 * 50 <= count,
        "more than 1 in 50 would be faster if room were kept: {kept_no_room:?}"
    );
    // A bound of 0 would pass all of the above.
    assert!(met * 10 >= count * 8, "only {met} of {count} bounds are within {SLACK} of what is possible");
}

#[test]
fn clusters_0_to_249() {
    check(0..250);
}

#[test]
fn clusters_250_to_499() {
    check(250..500);
}

/// The cluster of the seed in `FASTNODE_SEED`, with everything that happens.
#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("FASTNODE_SEED") else { return };
    let seed: u64 = seed.parse().expect("FASTNODE_SEED is a number");
    let case = case(seed);
    println!("{case:?}\n{}", rotation::scenario(&case));
    rotation::tell(&case, seed);
    let compared = compare(seed);
    println!("bound {} s, best {} s ({} s), fastnode {:?}", compared.bound, compared.best, compared.busy, compared.run);
    assert_eq!(compared.wrong(), None);
}
