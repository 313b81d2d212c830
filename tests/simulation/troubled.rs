//! Rotations with others at work: groups scaled meanwhile, answers lost, readings stale, under all kinds of policies.

use fastnode::plan::Verdict;
use fastnode::sim::Scenario;

use crate::balance;
use crate::rotations::{Run, asked, check_seeds, crashes, replay, rotate_by};

/// What is wrong with a run that may end incomplete, but has to be right about it.
fn faults(run: &Run) -> Vec<String> {
    // Where somebody else's scaling takes the room, pods may have nowhere better to go.
    let mut faults: Vec<String> = run.verdict.iter().filter(|v| !v.contains("twice")).cloned().collect();
    faults.extend(run.stands_still.clone());
    faults.extend(run.beats_its_bound());
    faults.extend(balance::faults(&run.events));
    match &run.result {
        Err(e) if e.starts_with("refused before anything") => {}
        Err(e) => faults.push(e.clone()),
        Ok(report) => match report.outcome {
            Verdict::Done => {
                faults.extend(run.left_behind.iter().cloned());
                let left = run.outdated.iter().map(|n| format!("it ended done with {n} outdated"));
                faults.extend(left);
            }
            Verdict::Incomplete => {
                let nothing = run.outdated.is_empty() && run.left_behind.is_empty() && report.nodes_skipped.is_empty();
                if nothing && !run.keeps_a_failure() {
                    faults.push("it ended incomplete with nothing left behind".to_owned());
                }
                let named = |n: &&_| !report.nodes_skipped.contains_key(*n);
                let unnamed = run.outdated.iter().filter(named).map(|n| format!("nobody says why {n} is outdated"));
                faults.extend(unnamed);
            }
            other => faults.push(format!("ended {other:?}, skipped {:?}", report.nodes_skipped)),
        },
    }
    faults
}

fn check_seed(seed: u64, crashed: bool) -> Option<String> {
    let scenario = Scenario::troubled(seed);
    let crashes = crashes(seed, crashed);
    let run = std::panic::catch_unwind(|| rotate_by(&scenario, &scenario.policy(), seed, &crashes));
    let found = run.map_or_else(
        |_| vec!["it panicked".to_owned()],
        |run| faults(&run).into_iter().chain(run.untold().filter(|_| !crashed)).collect(),
    );
    replay(seed, crashed, found, "troubled::one_seed")
}

#[test]
fn seeds_0_to_119() {
    check_seeds(0..120, |seed| check_seed(seed, false));
}

#[test]
fn crashed_twice_and_started_again_seeds_120_to_159() {
    check_seeds(120..160, |seed| check_seed(seed, true));
}

/// Seeds that went wrong once, by what it was.
#[test]
fn what_once_went_wrong_does_not_again() {
    let once = [
        ("a stale reading brought what was terminated back into service", &[6, 14, 16, 28, 55][..], false),
        ("a change by others between the reading and our change of desired was lost", &[467, 480], false),
        ("a drain that others had cut short held a drain slot", &[93], false),
        ("a replacement was given back after the canary was taken by others", &[46], false),
        ("a scale-in as the surge was raised left no canary to wait for", &[976, 1207], false),
        ("an automatic surge was larger than the group that others had scaled in", &[1086], false),
        ("others lowered desired to the minimum with the surge in it", &[48], false),
        ("a termination was not seen to begin, and had no deadline", &[94], false),
        ("a node that had been given up was taken by others", &[917], false),
        ("what works in a lifecycle hook was given back before its group had it in service", &[1263], false),
        ("the next canary began while the one before was being let go", &[104], true),
        ("a ledger's step was hidden by our own former write of it", &[198], true),
        ("a replacement that was being steered away from counted as serving", &[46], true),
    ];
    let again = once.into_iter().flat_map(|(what, seeds, crashed)| {
        seeds.iter().filter_map(move |seed| Some(format!("{what}: {}", check_seed(*seed, crashed)?)))
    });
    let again: Vec<String> = again.collect();
    assert!(again.is_empty(), "{}", again.join("\n"));
}

/// The seeds in `FASTNODE_SEEDS`, `from..to`; with `FASTNODE_CRASH=1` crashed twice.
#[test]
fn some_seeds() {
    let Ok(seeds) = std::env::var("FASTNODE_SEEDS") else { return };
    let (from, to) = seeds.split_once("..").expect("FASTNODE_SEEDS is from..to");
    let number = |text: &str| text.parse().expect("FASTNODE_SEEDS is from..to");
    let crashed = std::env::var_os("FASTNODE_CRASH").is_some();
    check_seeds(number(from)..number(to), |seed| check_seed(seed, crashed));
}

/// The troubled scenario of the seed in `FASTNODE_SEED`, every event printed.
#[test]
fn one_seed() {
    let Some((seed, crashes)) = asked() else { return };
    let scenario = Scenario::troubled(seed);
    println!("{}", toml::to_string(&scenario).unwrap());
    let run = rotate_by(&scenario, &scenario.policy(), seed, &crashes);
    run.print();
    println!("{:?}\n{:?}", run.result, run.left_behind);
    assert_eq!(faults(&run), Vec::<String>::new());
}
