//! Whole rotations by the production controller on simulated clusters, judged from inside the world.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use fastnode::controller::surgeon::{ClusterSurgeon, Fixes, Surgeon};
use fastnode::controller::{self, Settings};
use fastnode::event::{Event, Report};
use fastnode::fixes::Catalogue;
use fastnode::model::NodeName;
use fastnode::plan::Verdict;
use fastnode::policy::{OnTargetChange, Policy};
use fastnode::sim::{Counts, Scenario, Simulation, World};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::balance;
use crate::harness::on_virtual_time;
use crate::liveness::Liveness;
use crate::runs::{ports, settings};

/// No rotation here takes so long; one that does hangs.
const TOO_LONG: Duration = Duration::from_secs(12 * 3600);

/// How a rotation went.
pub struct Run {
    pub result: Result<Report, String>,
    /// Every event, as JSON lines.
    pub events: Vec<String>,
    pub verdict: Vec<String>,
    pub left_behind: Vec<String>,
    /// A time at which it neither acted nor waited for something that ends.
    pub stands_still: Option<String>,
    pub outdated: BTreeSet<NodeName>,
    pub counts: Counts,
}

impl Run {
    /// What a log would show of it.
    pub fn print(&self) {
        for line in self.events.iter().filter(|l| !is_for_bars(l)) {
            println!("{line}");
        }
        println!("{:?}", self.counts);
    }

    fn outcome(&self) -> Verdict {
        self.result.as_ref().unwrap().outcome
    }

    /// Pods that were told evicted, and not gone, in a run that ended done.
    pub fn untold(&self) -> Option<String> {
        let done = self.result.as_ref().is_ok_and(|report| report.outcome == Verdict::Done);
        let mut open = BTreeSet::new();
        for event in self.events.iter().filter(|_| done).map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let pod = event["kind"]["pod"].to_string();
            match event["kind"]["kind"].as_str() {
                Some("pod.evicted") => _ = open.insert(pod),
                Some("pod.gone") => _ = open.remove(&pod),
                _ => {}
            }
        }
        (!open.is_empty()).then(|| format!("told evicted, and never gone: {open:?}"))
    }

    /// A failed replacement stays in its group, and the report says so.
    pub fn keeps_a_failure(&self) -> bool {
        let stays = |left: &fastnode::model::Text| left.contains("a failed replacement that stays in its group");
        self.result.as_ref().is_ok_and(|report| report.left_behind.iter().any(stays))
    }

    /// The summary's bound is made of what the run itself has measured: no run is faster.
    pub fn beats_its_bound(&self) -> Option<String> {
        let report = self.result.as_ref().ok().filter(|report| report.nodes_rotated > 0)?;
        let (took, bound) = (report.duration_s, report.lower_bound_s);
        (took < bound).then(|| format!("it took {took} s, and says that no run takes less than {bound} s"))
    }

    /// What is wrong with a rotation that should have gone all the way, or left nodes behind that it names.
    fn faults(&self) -> Vec<String> {
        let mut faults = self.verdict.clone();
        faults.extend(self.stands_still.clone());
        faults.extend(self.beats_its_bound());
        faults.extend(balance::faults(&self.events));
        let named = |name: &NodeName| self.result.as_ref().is_ok_and(|r| r.nodes_skipped.contains_key(name));
        match &self.result {
            Ok(report) if report.outcome == Verdict::Done && self.outdated.is_empty() => {}
            Ok(report) if report.outcome == Verdict::Incomplete && !self.outdated.is_empty() => {}
            Ok(report) if report.outcome == Verdict::Incomplete && self.keeps_a_failure() => {}
            Ok(report) => faults.push(format!("ended {:?}, skipped {:?}", report.outcome, report.nodes_skipped)),
            Err(e) => faults.push(e.clone()),
        }
        faults.extend(self.left_behind.iter().cloned());
        let unnamed: Vec<_> = self.outdated.iter().filter(|name| !named(name)).collect();
        if !unnamed.is_empty() {
            faults.push(format!("{unnamed:?} are not on the target, and nobody says so"));
        }
        faults
    }
}

/// What was heard of a run.
#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    stands_still: Option<String>,
    /// What is done about new nodes that are slow or fail.
    fixes: Option<Fixes>,
}

fn surgeon(
    sim: &Simulation,
    (scenario, policy): (&Scenario, &Policy),
    fixes: Option<Fixes>,
) -> Option<Rc<dyn Surgeon>> {
    fixes.map(|fixes| {
        let run = (scenario.cluster.as_str().into(), policy.clone());
        let waiter = Some("example.com/fastnode:1".into());
        Rc::new(ClusterSurgeon::new(&ports(sim), run, fixes, Catalogue::shipped().unwrap(), waiter)) as Rc<dyn Surgeon>
    })
}

/// One life of the controller on a world; `None` if it died.
async fn live(
    sim: &Simulation,
    (scenario, policy): (&Scenario, &Policy),
    seed: u64,
    heard: &mut Heard,
) -> Option<Result<Report, String>> {
    let identity = format!("test@simulation/{}", heard.lines.len());
    let settings = Settings { identity, seed, ..settings(&scenario.cluster, policy.clone()) };
    let (sink, mut events) = mpsc::channel::<Event>(256);
    let (_stop, interrupt) = watch::channel(None);
    let mut liveness = Liveness::of(policy);
    let listen = async {
        while let Some(event) = events.recv().await {
            liveness.hear(&event);
            heard.lines.push(serde_json::to_string(&event).unwrap());
        }
    };
    let act = async {
        let surgeon = surgeon(sim, (scenario, policy), heard.fixes);
        let rotation =
            controller::rotate_and_mend(ports(sim), settings, surgeon, async |_, _, _| true, sink, interrupt);
        tokio::select! {
            biased;
            result = tokio::time::timeout(TOO_LONG, rotation) => {
                Some(result.map_or_else(|_| Err("it goes on for ever".to_owned()), |r| r.map_err(|e| e.to_string())))
            }
            () = sim.crashed() => None,
        }
    };
    let (mut result, ()) = tokio::join!(act, listen);
    heard.stands_still = heard.stands_still.take().or(liveness.fault);
    if let Some(Err(why)) = &mut result {
        let told = heard.lines.iter().filter(|l| !is_for_bars(l)).rev().take(3);
        told.for_each(|line| why.push_str(&format!("\n    event {line}")));
    }
    result
}

/// Events that no log shows.
fn is_for_bars(line: &str) -> bool {
    line.contains("\"kind\":\"tick\"") || line.contains("\"kind\":\"progress\"")
}

fn rotate(scenario: &Scenario, seed: u64, crashes: &[u64]) -> Run {
    rotate_by(scenario, &scenario.policy(), seed, crashes)
}

/// Rotates by a policy of one's own, dying after each so many actions. What fails is looked into, as the program does
/// by itself; now and then it is not.
pub fn rotate_by(scenario: &Scenario, policy: &Policy, seed: u64, crashes: &[u64]) -> Run {
    let fixes = (!seed.is_multiple_of(5)).then_some(Fixes::Suggest);
    rotate_with(fixes, (scenario, policy), seed, crashes)
}

/// The same with or without.
pub fn rotate_with(fixes: Option<Fixes>, (scenario, policy): (&Scenario, &Policy), seed: u64, crashes: &[u64]) -> Run {
    on_virtual_time(async || {
        let mut sim = World::start(scenario, seed);
        sim.judge_by(policy);
        let mut heard = Heard { lines: Vec::new(), stands_still: None, fixes };
        for action in crashes {
            sim.crash_at(*action);
            match live(&sim, (scenario, policy), seed, &mut heard).await {
                None => sim.revive(),
                Some(_) => break,
            }
        }
        sim.crash_no_more();
        let result = live(&sim, (scenario, policy), seed, &mut heard).await.expect("nobody crashed it");
        // What was set going, a launch or a termination, ends by itself.
        tokio::time::sleep(Duration::from_secs(600)).await;
        Run {
            result,
            events: heard.lines,
            stands_still: heard.stands_still,
            verdict: sim.verdict(),
            left_behind: sim.left_behind(),
            outdated: sim.outdated().into_iter().collect(),
            counts: sim.counts(),
        }
    })
}

fn built_in(name: &str) -> Run {
    rotate(&Scenario::load(name).unwrap(), 1, &[])
}

/// Runs the random scenario of a seed; what is wrong with it, and how to run it again.
fn check_seed(seed: u64, crashed: bool) -> Option<String> {
    let scenario = Scenario::random(seed);
    let crashes = crashes(seed, crashed);
    let faults = match std::panic::catch_unwind(|| rotate(&scenario, seed, &crashes)) {
        Err(_) => vec!["it panicked".to_owned()],
        Ok(run) => {
            let mut faults = run.faults();
            faults.extend(run.untold().filter(|_| !crashed));
            if seed.is_multiple_of(8) && rotate(&scenario, seed, &crashes).events != run.events {
                faults.push("the second time it gave other events".to_owned());
            }
            faults
        }
    };
    replay(seed, crashed, faults, "rotations::one_seed")
}

/// What is wrong with a seed's run, and how this test runs it again; `None` where nothing is.
pub fn replay(seed: u64, crashed: bool, mut faults: Vec<String>, test: &str) -> Option<String> {
    if faults.is_empty() {
        return None;
    }
    faults.insert(0, format!("seed {seed}:"));
    let crash = if crashed { "FASTNODE_CRASH=1 " } else { "" };
    faults
        .push(format!("again: {crash}FASTNODE_SEED={seed} cargo test --test simulation -- --exact {test} --nocapture"));
    Some(faults.join("\n  "))
}

pub fn check_seeds(seeds: std::ops::Range<u64>, check: impl Fn(u64) -> Option<String>) {
    let count = seeds.end - seeds.start;
    let faults: Vec<String> = seeds.filter_map(check).collect();
    assert!(faults.is_empty(), "{} of {count} seeds failed\n{}", faults.len(), faults.join("\n"));
}

/// After how many actions each life of a seed's rotation ends, where it is `crashed`.
pub fn crashes(seed: u64, crashed: bool) -> Vec<u64> {
    if crashed { vec![1 + seed * 7 % 90, 1 + seed * 13 % 70] } else { Vec::new() }
}

/// The seed in `FASTNODE_SEED`, and where its rotation is to end by `FASTNODE_CRASH`.
pub fn asked() -> Option<(u64, Vec<u64>)> {
    let seed = std::env::var("FASTNODE_SEED").ok()?.parse().expect("FASTNODE_SEED is a number");
    Some((seed, crashes(seed, std::env::var_os("FASTNODE_CRASH").is_some())))
}

#[test]
fn evictions_whose_answers_are_lost_are_told_by_what_became_of_the_pods() {
    let text = "name='lost'\nabout='x'\ncluster='x'\n[[groups]]\nname='g'\nnodes=3\nzones=['a']\n\
                [[workloads]]\nname='web'\nreplicas=12\n[faults]\nlost_answers=0.5\n";
    for seed in 0..8 {
        let run = rotate(&Scenario::parse(text, "lost.toml").unwrap(), seed, &[]);
        assert_eq!(run.untold(), None, "seed {seed}");
        let report = run.result.unwrap();
        assert_eq!((report.evictions, report.pods_moved), (run.counts.evictions, run.counts.evictions), "seed {seed}");
    }
}

#[test]
fn seeds_0_to_99() {
    check_seeds(0..100, |seed| check_seed(seed, false));
}

#[test]
fn seeds_100_to_199() {
    check_seeds(100..200, |seed| check_seed(seed, false));
}

#[test]
fn crashed_twice_and_started_again_seeds_200_to_259() {
    check_seeds(200..260, |seed| check_seed(seed, true));
}

/// The random scenario of the seed in `FASTNODE_SEED`, or the one named in `FASTNODE_SCENARIO` under that seed,
/// every event printed; with `FASTNODE_CRASH=1` crashed as above.
#[test]
fn one_seed() {
    let Some((seed, crashes)) = asked() else { return };
    let named = std::env::var("FASTNODE_SCENARIO").ok().map(|name| Scenario::load(&name).unwrap());
    let scenario = named.unwrap_or_else(|| Scenario::random(seed));
    println!("{}", toml::to_string(&scenario).unwrap());
    let run = rotate(&scenario, seed, &crashes);
    run.print();
    assert_eq!(run.faults(), Vec::<String>::new());
}

#[test]
fn the_small_cluster_is_rotated_and_everything_put_back() {
    let run = built_in("small");
    assert_eq!(run.faults(), Vec::<String>::new());
    assert_eq!(run.counts.rotated, 6);
    assert!(run.counts.least_margin.values().all(|m| *m >= 0), "{:?}", run.counts);
}

#[test]
fn a_group_behind_a_target_group_waits_for_its_delay() {
    let mut scenario = Scenario::load("small").unwrap();
    scenario.groups[0].deregistration_s = Some(240);
    let run = rotate(&scenario, 1, &[]);
    assert_eq!(run.faults(), Vec::<String>::new());
    assert_eq!(run.counts.rotated, 6);
    let waits = |line: &&String| {
        line.contains("deregistration delay of target group general") || line.contains("deregistration")
    };
    assert!(run.events.iter().any(|line| waits(&line)), "nobody says what is waited for");
    // Crashed on the way, the next run waits for what is left.
    let run = rotate(&scenario, 1, &[20, 30]);
    assert_eq!(run.faults(), Vec::<String>::new());
}

#[test]
fn a_restart_on_the_first_new_node_ends_it_before_anything_is_drained() {
    let run = built_in("canary-restarts");
    assert_eq!(run.outcome(), Verdict::CanaryFailed);
    assert_eq!(run.verdict, Vec::<String>::new());
    assert_eq!((run.counts.evictions, run.counts.rotated, run.outdated.len()), (0, 0, 6));
}

#[test]
fn a_budget_that_never_frees_costs_its_node_and_no_other() {
    let run = built_in("stuck-budget");
    assert_eq!(run.outcome(), Verdict::Incomplete);
    assert_eq!(run.verdict, Vec::<String>::new());
    assert_eq!(run.outdated.len(), 1);
    let left: Vec<_> = run.left_behind.iter().filter(|l| !l.contains("fastnode.dev")).collect();
    assert_eq!(left, Vec::<&String>::new());
}

#[test]
fn a_zone_without_capacity_is_waited_for() {
    let run = built_in("no-capacity");
    assert_eq!(run.verdict, Vec::<String>::new());
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn an_instance_that_never_joins_is_replaced() {
    let run = built_in("never-joins");
    assert_eq!(run.faults(), Vec::<String>::new());
}

#[test]
fn a_target_that_changes_in_the_middle_ends_it_resumable() {
    let run = built_in("target-changes");
    assert_eq!(run.outcome(), Verdict::TargetChanged);
    assert_eq!(run.verdict, Vec::<String>::new());
    assert_eq!(run.left_behind, Vec::<String>::new());
}

#[test]
fn a_target_that_changes_in_the_middle_may_go_on_for_the_new_one() {
    let scenario = Scenario::load("target-changes").unwrap();
    let policy = Policy { on_target_change: OnTargetChange::Recanary, ..scenario.policy() };
    let mut run = rotate_by(&scenario, &policy, 1, &[]);
    // What was moved to replacements of the former target moves once more, by nature.
    run.verdict.retain(|v| !v.contains("twice"));
    assert_eq!(run.faults(), Vec::<String>::new());
    assert_eq!(run.outcome(), Verdict::Done);
    assert!(run.outdated.is_empty());
}

/// A second move of a pod is avoidable when a functional new node that stays could have taken it the first time.
#[test]
fn no_pod_is_moved_twice_where_it_could_be_avoided() {
    for (name, twice) in
        [("small", 0), ("stuck-budget", 6), ("never-joins", 0), ("no-capacity", 0), ("target-changes", 0)]
    {
        for seed in 1..=5 {
            let counts = rotate(&Scenario::load(name).unwrap(), seed, &[]).counts;
            assert_eq!(counts.moved_twice_avoidably, 0, "{name}, seed {seed}: {counts:?}");
            assert!(counts.moved_twice <= twice, "{name}, seed {seed}: {counts:?}");
        }
    }
}

#[test]
fn rotating_again_finds_nothing_to_do_and_writes_nothing() {
    on_virtual_time(async || {
        let scenario = Scenario::load("small").unwrap();
        let sim = World::start(&scenario, 1);
        let (mut heard, policy) = (Heard::default(), scenario.policy());
        live(&sim, (&scenario, &policy), 1, &mut heard).await.unwrap().unwrap();
        let before = sim.actions();
        let report = live(&sim, (&scenario, &policy), 1, &mut heard).await.unwrap().unwrap();
        assert_eq!(report.outcome, Verdict::Done);
        assert_eq!(report.nodes_rotated, 0);
        assert_eq!(sim.actions(), before);
    });
}
