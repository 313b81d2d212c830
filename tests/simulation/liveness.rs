//! No run stands still without a word: it acts, or waits until a time that is still to come, or ends.

use fastnode::controller::surgeon::Fixes;
use fastnode::event::{Event, EventKind};
use fastnode::plan::{Verdict, Wait};
use fastnode::policy::{Amount, Gate, OnStuck, Policy, Restarts, Surge, Timeout};
use fastnode::sim::Scenario;
use jiff::{SignedDuration, Timestamp};

use crate::rotations::{Run, rotate_with};

/// An act takes no longer than this to show, its retries included.
const IN_HAND: SignedDuration = SignedDuration::from_secs(90);

/// Follows a run's events: what was done last, and what is waited for since.
pub struct Liveness {
    /// The policy lets a wait take for ever.
    open: bool,
    acted: Option<Timestamp>,
    /// When a wait with an end was last shown.
    named: Option<Timestamp>,
    waits: Vec<Wait>,
    /// What is wrong, told once.
    pub fault: Option<String>,
}

impl Liveness {
    pub fn of(policy: &Policy) -> Self {
        let timeouts = [policy.drain_timeout, policy.join_timeout, policy.gate_timeout, policy.terminate_timeout];
        let open = timeouts.contains(&Timeout::Never) || policy.on_stuck == OnStuck::Wait;
        Self { open, acted: None, named: None, waits: Vec::new(), fault: None }
    }

    pub fn hear(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Progress { waits, .. } => self.waits = waits.clone(),
            EventKind::Tick | EventKind::Wait(_) | EventKind::PodBlocked { .. } => {}
            _ => self.acted = Some(event.time),
        }
        let ends = |w: &Wait| w.until.is_some_and(|until| until + IN_HAND > event.time);
        let named = if self.open { !self.waits.is_empty() } else { self.waits.iter().any(ends) };
        if named {
            // What it waited for is acted upon once it is over.
            self.named = Some(event.time);
        }
        let Some(last) = self.acted.max(self.named) else { return };
        if event.time.duration_since(last) > IN_HAND && self.fault.is_none() {
            let waits: Vec<_> =
                self.waits.iter().map(|w| format!("{}: {}, until {:?}", w.subject, w.reason, w.until)).collect();
            self.fault =
                Some(format!("at {} nothing has been done since {last}, and it waits for {waits:?}", event.time));
        }
    }
}

/// The second replacement never joins.
const LATE_FAILURE: &str = "late-failure";
const LATE_FAILURE_TOML: &str = r#"
    name = "late-failure"
    about = "a replacement after the canary never joins"
    cluster = "late"
    [[groups]]
    name = "general"
    nodes = 4
    zones = ["us-west-2a"]
    [[faults.never_joins]]
    launches = [2]
"#;

/// The third one's aws-node is restarted.
const LATE_RESTART: &str = "late-restart";
const LATE_RESTART_TOML: &str = r#"
    name = "late-restart"
    about = "a replacement after the canary restarts"
    cluster = "late"
    [[groups]]
    name = "general"
    nodes = 6
    zones = ["us-west-2a", "us-west-2b"]
    [[faults.restarts]]
    daemonset = "aws-node"
    node = 3
    times = 1
"#;

/// `no-capacity`, and there never will be any.
const NEVER_CAPACITY: &str = "never-capacity";

/// Pods without a controller, new ones among them: they may come to a replacement that is given back.
const BARE_PODS: &str = "bare-pods";

/// `BARE_PODS`, as a file says it.
const BARE: &str = "name = \"bare\"\nabout = \"x\"\ncluster = \"x\"\n\
    [policy]\nsurge = \"50%\"\nunavailable = \"34%\"\ndrains = \"50%\"\ndrain_timeout = \"3m\"\n\
    [[groups]]\nname = \"g0\"\nnodes = 4\nzones = [\"us-west-2b\", \"us-west-2a\", \"us-west-2d\", \"us-west-2c\"]\n\
    [[workloads]]\nname = \"w0\"\nreplicas = 7\nkind = \"deployment\"\nspread = \"soft\"\n\
    budgets = [{ max_unavailable = 1 }]\ncpu_m = 500\n\
    [[workloads]]\nname = \"w1\"\nreplicas = 5\nkind = \"deployment\"\nspread = \"none\"\n\
    budgets = [{ max_unavailable = 1 }]\ncpu_m = 3000\n\
    [[workloads]]\nname = \"w2\"\nreplicas = 8\nkind = \"bare\"\nspread = \"soft\"\n\
    budgets = [{ max_unavailable = 1 }]\ncpu_m = 3000\n\
    [[workloads]]\nname = \"w3\"\nreplicas = 12\nkind = \"statefulset\"\nspread = \"hard\"\n\
    budgets = [{ min_available = 1 }]\ncpu_m = 1500\ngrace_s = [30.0, 3.0]\n";

/// A flag or a few, as they are typed, and what they make of a policy.
type Flags = (&'static str, fn(&mut Policy));

const FLAGS: [Flags; 28] = [
    ("", |_| {}),
    ("--keep-failed", |p| p.keep_failed = true),
    ("--unavailable 1", |p| p.unavailable = Amount::Count(1)),
    ("--unavailable 50%", |p| p.unavailable = Amount::Percent(50)),
    ("--surge 0 --unavailable 1", |p| (p.surge, p.unavailable) = (fixed(0), Amount::Count(1))),
    ("--surge 0 --unavailable 1 --keep-failed", |p| {
        (p.surge, p.unavailable, p.keep_failed) = (fixed(0), Amount::Count(1), true);
    }),
    ("--keep-failed --failure-budget 0", |p| (p.keep_failed, p.failure_budget) = (true, 0)),
    ("--surge 1", |p| p.surge = fixed(1)),
    ("--surge 1 --keep-failed", |p| (p.surge, p.keep_failed) = (fixed(1), true)),
    ("--surge 50%", |p| p.surge = Surge::Fixed(Amount::Percent(50))),
    ("--drains 2", |p| p.drains = Amount::Count(2)),
    ("--drains 100% --surge 100%", |p| {
        (p.drains, p.surge) = (Amount::Percent(100), Surge::Fixed(Amount::Percent(100)));
    }),
    ("--max-drains 1", |p| p.max_drains = Some(1)),
    ("--canary 0", |p| p.canary = 0),
    ("--canary 2", |p| p.canary = 2),
    ("--canary 2 --surge 1", |p| (p.canary, p.surge) = (2, fixed(1))),
    ("--on-stuck wait", |p| p.on_stuck = OnStuck::Wait),
    ("--on-stuck stop", |p| p.on_stuck = OnStuck::Stop),
    ("--drain-timeout never", |p| p.drain_timeout = Timeout::Never),
    ("--drain-timeout 1s", |p| p.drain_timeout = seconds(1)),
    ("--join-timeout 20s", |p| p.join_timeout = seconds(20)),
    ("--gate-timeout 1s --failure-budget 5", |p| (p.gate_timeout, p.failure_budget) = (seconds(1), 5)),
    ("--failure-budget 0", |p| p.failure_budget = 0),
    ("--failure-budget 5 --keep-failed", |p| (p.failure_budget, p.keep_failed) = (5, true)),
    ("--gate none", |p| p.gate = Gate::None),
    ("--restarts warn", |p| p.restarts = Restarts::Warn),
    ("--past-budgets", |p| p.past_budgets = true),
    ("--past-budgets --on-stuck stop", |p| (p.past_budgets, p.on_stuck) = (true, OnStuck::Stop)),
];

fn fixed(n: u32) -> Surge {
    Surge::Fixed(Amount::Count(n))
}

fn seconds(n: i64) -> Timeout {
    Timeout::After(SignedDuration::from_secs(n))
}

/// A run that ends as it says: what stays is named, nothing was done that was not allowed.
fn wrong(scenario: &str, flags: &str, run: &Run) -> Vec<String> {
    // How often pods move is another test's: under some of these flags they have nowhere better to go.
    let mut faults: Vec<String> = run.verdict.iter().filter(|v| !v.contains("twice")).cloned().collect();
    faults.extend(run.stands_still.clone());
    let waits = flags.contains("--on-stuck wait");
    match &run.result {
        Err(e) if e.contains("for ever") && waits => {}
        Err(e) if e.contains("for ever") || e.contains("invariant") => faults.push(e.clone()),
        Err(_) => {}
        Ok(report) => {
            // A target that changes after the last launch is for the next rotation.
            if report.outcome == Verdict::Done && !run.outdated.is_empty() && scenario != "target-changes" {
                faults.push(format!("it ended Done with {:?} outdated", run.outdated));
            }
            let nothing_left = run.outdated.is_empty() && run.left_behind.is_empty() && !run.keeps_a_failure();
            if report.outcome == Verdict::Incomplete && nothing_left {
                faults.push("it ended Incomplete with nothing left behind".to_owned());
            }
        }
    }
    if !faults.is_empty() {
        faults.insert(0, format!("{scenario} {flags}:"));
        faults.push(format!(
            "again: FASTNODE_SCENARIO={scenario} FASTNODE_FLAGS='{flags}' cargo test --test simulation -- --exact \
             liveness::one_run --nocapture"
        ));
    }
    faults
}

fn run(scenario: &str, flags: &Flags, fixes: Option<Fixes>) -> Run {
    let scenario = match scenario {
        LATE_FAILURE => Scenario::parse(LATE_FAILURE_TOML, LATE_FAILURE).unwrap(),
        LATE_RESTART => Scenario::parse(LATE_RESTART_TOML, LATE_RESTART).unwrap(),
        NEVER_CAPACITY => {
            let mut scenario = Scenario::load("no-capacity").unwrap();
            scenario.faults.no_capacity.iter_mut().for_each(|fault| fault.until_s = None);
            scenario
        }
        BARE_PODS => Scenario::parse(BARE, "bare.toml").unwrap(),
        built_in => Scenario::load(built_in).unwrap(),
    };
    let mut policy = scenario.policy();
    (flags.1)(&mut policy);
    rotate_with(fixes, (&scenario, &policy), 1, &[])
}

fn check(scenario: &str) {
    check_but(scenario, "-");
}

/// Under all flags but one.
fn check_but(scenario: &str, left_out: &str) {
    for fixes in [None, Some(Fixes::Suggest)] {
        let tried = FLAGS.iter().filter(|(words, _)| *words != left_out);
        let faults = tried.flat_map(|flags| wrong(scenario, flags.0, &run(scenario, flags, fixes)));
        let faults: Vec<String> = faults.collect();
        assert!(faults.is_empty(), "--fixes {fixes:?}: {}", faults.join("\n  "));
    }
}

#[test]
fn one_run() {
    let Ok(flags) = std::env::var("FASTNODE_FLAGS") else { return };
    let scenario = std::env::var("FASTNODE_SCENARIO").expect("FASTNODE_SCENARIO names the scenario");
    let flags = FLAGS.iter().find(|(words, _)| *words == flags).expect("FASTNODE_FLAGS is one of those tried");
    for fixes in [None, Some(Fixes::Suggest)] {
        let run = run(&scenario, flags, fixes);
        run.print();
        assert_eq!(wrong(&scenario, flags.0, &run), Vec::<String>::new(), "{fixes:?}");
    }
}

#[test]
fn small_ends_under_all_flags() {
    check("small");
}

#[test]
fn stuck_budget_ends_under_all_flags() {
    check("stuck-budget");
}

#[test]
fn never_joins_ends_under_all_flags() {
    check("never-joins");
}

#[test]
fn canary_restarts_ends_under_all_flags() {
    check("canary-restarts");
}

#[test]
fn no_capacity_ends_under_all_flags() {
    check("no-capacity");
}

#[test]
fn target_changes_ends_under_all_flags() {
    check("target-changes");
}

#[test]
fn bare_pods_end_under_all_flags() {
    // One of its budgets is never free, which that flag waits for without end.
    check_but(BARE_PODS, "--drain-timeout never");
}

#[test]
fn never_capacity_ends_under_all_flags() {
    check(NEVER_CAPACITY);
}

#[test]
fn a_late_failure_ends_under_all_flags() {
    check(LATE_FAILURE);
}

#[test]
fn a_late_restart_ends_under_all_flags() {
    check(LATE_RESTART);
}
