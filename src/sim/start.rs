//! How a DaemonSet's pod comes up on a node.
//!
//! ```text
//! bound -> (the pods it comes after) -> init containers, in order -> container -> ready
//!                                          |  ^                        |  ^
//!                                          +--+ exits: restarted ------+--+
//! ```
//! Whether an attempt succeeds follows from causes alone: kube-proxy writes the Services' rules once its Node lookup has
//! ended, one way or the other; whoever dials a Service before that dials into nothing, times out as its program does
//! and exits.
//!
//! The kubelet restarts a container that exited for the first time at once, then after 10, 20, 40 s, … at most 300 s
//! from its end (kubernetes pkg/kubelet/kuberuntime `doBackOff`, pkg/kubelet `MaxContainerBackOff`); one that ran for
//! ten minutes counts anew. Below 1.35 nothing wakes it when the back-off has passed: the pod is looked at again 60 to
//! 90 s after the last look (pkg/kubelet/pod_workers.go: `syncFrequency` with a jitter of a half; since 1.35 the
//! back-off is what it waits for, with the same jitter).

use std::rc::Rc;

use jiff::Timestamp;

use crate::model::{Container, ContainerState, LastRun, Phase, Text};

use super::behaviour::{Act, Lookup, Role, Wait, Without, minor};
use super::scenario::Restarts;
use super::world::{Event, Micros, ORIGIN, World};

const SECOND: Micros = 1_000_000;
/// A container that ran so long begins its back-off anew.
const FORGIVEN: Micros = 600 * SECOND;
/// `EX_TEMPFAIL`: a waiter asks to be started over.
const STARTED_OVER: i32 = 75;
/// What the runtime reports for a program that is not there.
const NO_SUCH_PROGRAM: i32 = 128;

/// A DaemonSet's pod on its way up.
#[derive(Clone, Debug)]
pub(super) struct Startup {
    /// When the time of its runs is zero: when the scenario began, or earlier for a pod that was there before.
    pub(super) begin: Timestamp,
    pub(super) roles: Rc<[Role]>,
    /// The tag of its image.
    pub(super) tag: Text,
    /// It waits for the pod of a DaemonSet that it comes after.
    pub(super) held: bool,
    /// Restarts that the scenario still has for it.
    pub(super) scripted: u32,
    /// Which container is next, or runs.
    at: usize,
    /// Its runs without success since the back-off last began anew.
    failures: u32,
    /// The current run looks for what it needs so often, seconds, until then.
    looking: Option<(f64, Micros)>,
    pub(super) runs: Vec<Run>,
}

/// A run of a container.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Which of the pod's containers.
    pub(super) container: usize,
    pub(super) started: Micros,
    /// Tries to look its Node up that failed.
    pub(super) lookups: Vec<Micros>,
    /// It began without what it needs.
    pub(super) missed: bool,
    /// When it found what it needs, or needed nothing.
    pub(super) reached: Option<Micros>,
    /// When it ended, and how.
    pub(super) ended: Option<(Micros, i32)>,
    /// The back-off it was restarted after, or will be, seconds.
    pub(super) back_off: u64,
}

impl Startup {
    pub(super) fn new(roles: Rc<[Role]>, tag: Text) -> Self {
        Self {
            begin: ORIGIN,
            roles,
            tag,
            held: false,
            scripted: 0,
            at: 0,
            failures: 0,
            looking: None,
            runs: Vec::new(),
        }
    }

    /// The number of the current run.
    fn current(&self) -> u32 {
        self.runs.len() as u32
    }
}

/// The containers of a pod before they start.
pub(super) fn new_containers(roles: &[Role]) -> Vec<Container> {
    let initializing = roles.iter().any(|r| r.init);
    let container = |role: &Role| {
        let reason = if initializing && !role.init { "PodInitializing" } else { "ContainerCreating" };
        Container {
            name: role.name.clone(),
            init: role.init,
            restarts: 0,
            ready: false,
            state: ContainerState::Waiting(reason.into()),
            last: None,
        }
    };
    roles.iter().map(container).collect()
}

/// The containers of a pod that has run for long.
pub(super) fn settle_containers(containers: &mut [Container], ready: Timestamp) {
    for container in containers {
        container.ready = true;
        if container.init {
            container.state = ContainerState::Terminated(ended(0, Some(ready), ready));
        } else {
            container.state = ContainerState::Running(Some(ready));
        }
    }
}

fn ended(exit_code: i32, started: Option<Timestamp>, finished: Timestamp) -> LastRun {
    let reason = match exit_code {
        0 => "Completed",
        NO_SUCH_PROGRAM => "StartError",
        _ => "Error",
    };
    LastRun { exit_code, reason: reason.into(), started, finished: Some(finished) }
}

impl World {
    /// Starts a DaemonSet pod's containers, once what it comes after is ready on the node.
    pub(super) fn begin_daemon(&mut self, pod: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let set = &self.daemons[daemon];
        let held = set.after.iter().any(|d| !self.nodes[node].ready_daemons.contains(d));
        let Some(startup) = self.startup(pod) else { return };
        startup.held = held;
        if !held {
            let delay = self.random.daemons.spread(self.daemons[daemon].spec.start_s);
            self.after(delay, Event::DaemonRuns(pod));
        }
    }

    fn startup(&mut self, pod: u32) -> Option<&mut Startup> {
        self.live_pod(pod)?.startup.as_deref_mut()
    }

    /// The next container of a DaemonSet's pod is started, or started again.
    pub(super) fn daemon_runs(&mut self, pod: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let (at, now) = (self.now, self.timestamp());
        let Some(state) = self.live_pod(pod) else { return };
        let Some(startup) = state.startup.as_deref_mut() else { return };
        // What only prepares is done as soon as it runs.
        while startup.roles.get(startup.at).is_some_and(|r| r.act == Act::Prepares) {
            let container = &mut state.record.containers[startup.at];
            container.ready = true;
            container.state = ContainerState::Terminated(ended(0, Some(now), now));
            startup.at += 1;
        }
        let index = startup.at;
        let Some(role) = startup.roles.get(index) else { return };
        let act = role.act.clone();
        if !role.init {
            state.record.phase = Phase::Running;
            if state.record.initialized.is_none() {
                state.record.initialized = Some(now);
            }
        }
        let container = &mut state.record.containers[index];
        if let ContainerState::Terminated(run) = &container.state {
            container.last = Some(run.clone());
        }
        let again = startup.runs.iter().any(|r| r.container == index);
        container.restarts += u32::from(again);
        container.state = ContainerState::Running(Some(now));
        startup.looking = None;
        startup.runs.push(Run {
            container: index,
            started: at,
            lookups: Vec::new(),
            missed: false,
            reached: None,
            ended: None,
            back_off: 0,
        });
        let scripted = !role.init && startup.scripted > 0;
        if scripted {
            startup.scripted -= 1;
            self.tell_pod(pod);
            return self.fail_as_scripted(pod, daemon, node);
        }
        self.tell_pod(pod);
        match act {
            Act::Missing => self.plan_failure(pod, 30_000, NO_SUCH_PROGRAM),
            Act::Waits(wait) => self.run_waiter(pod, daemon, node, wait),
            Act::Works(work) => {
                let lookup = self.look_up(pod, work.lookup);
                self.run_work(pod, daemon, node, work.without, lookup);
            }
            Act::Prepares => {}
        }
    }

    fn fail_as_scripted(&mut self, pod: u32, daemon: usize, node: usize) {
        let set = &self.daemons[daemon];
        let mine = |r: &&Restarts| Some(r.node) == self.nodes[node].newcomer && r.daemonset == set.spec.name;
        let delay = match self.faults.restarts.iter().find(mine).and_then(|r| r.after_s) {
            Some(after) => self.random.daemons.spread(after),
            None => self.random.daemons.micros(1_500.0, 4_000.0),
        };
        self.plan_failure(pod, delay, 1);
    }

    fn plan_failure(&mut self, pod: u32, delay: Micros, exit_code: i32) {
        let Some(run) = self.startup(pod).map(|s| s.current()) else { return };
        self.after(delay, Event::DaemonFails(pod, run, exit_code));
    }

    /// A program that looks its Node up: how long until it has found it, or given up.
    fn look_up(&mut self, pod: u32, lookup: Lookup) -> Micros {
        let (tries, longer): (Vec<Micros>, f64) = match lookup {
            Lookup::Right => return 0,
            Lookup::Sleeps => (vec![1, 2, 4, 8, 16], 0.2),
            Lookup::Polls => (vec![1; 30], 0.0),
        };
        let now = self.now;
        let (mut spent, mut failed) = (0, vec![now]);
        for sleep in tries {
            let longer = 1.0 + longer * self.random.daemons.uniform();
            spent += (sleep as f64 * longer * SECOND as f64) as Micros;
            failed.push(now + spent);
        }
        if let Some(run) = self.startup(pod).and_then(|s| s.runs.last_mut()) {
            run.lookups = failed;
        }
        spent
    }

    /// What a DaemonSet needs of another is there on the node.
    fn has_need(&self, daemon: usize, node: usize) -> bool {
        self.daemons[daemon].needs.is_none_or(|n| self.nodes[node].provided.contains(&n))
    }

    fn has_waited(&self, wait: Wait, daemon: usize, node: usize) -> bool {
        let provided = |of: fn(&super::scenario::DaemonSpec) -> bool| {
            let mut there = (0..self.daemons.len()).filter(|d| of(&self.daemons[*d].spec)).peekable();
            there.peek().is_none() || there.any(|d| self.nodes[node].provided.contains(&d))
        };
        match wait {
            Wait::Variable | Wait::Address | Wait::Rules => provided(|s| s.name == "kube-proxy"),
            Wait::Network => provided(|s| s.makes_ready),
            Wait::Need => self.has_need(daemon, node),
        }
    }

    fn run_waiter(&mut self, pod: u32, daemon: usize, node: usize, wait: Wait) {
        let unread = wait == Wait::Variable
            && self.nodes[node].newcomer.is_some_and(|n| self.faults.services_unread.contains(&n));
        let first = self.startup(pod).is_some_and(|s| s.failures == 0);
        if unread && first {
            return self.plan_failure(pod, 40_000, STARTED_OVER);
        }
        if self.has_waited(wait, daemon, node) {
            return self.reach(pod, 0);
        }
        self.look_from_now(pod, wait.every(), Micros::MAX);
    }

    fn run_work(&mut self, pod: u32, daemon: usize, node: usize, without: Without, lookup: Micros) {
        if without == Without::Works || self.has_need(daemon, node) {
            return self.reach(pod, lookup);
        }
        let timeout_s = self.daemons[daemon].spec.needs_timeout_s;
        match without {
            Without::Works => {}
            Without::Exits(redial) => {
                let timeout = self.random.daemons.spread(timeout_s);
                self.look_from_now(pod, redial.unwrap_or(f64::INFINITY), self.now + timeout);
                self.plan_failure(pod, timeout, 1);
            }
            Without::Retries(every) => self.look_from_now(pod, every, Micros::MAX),
            Without::GoesOn(every, until) => {
                let until = (until * SECOND as f64) as Micros;
                self.look_from_now(pod, every, self.now + until);
                let ready = self.random.daemons.spread(self.daemons[daemon].spec.ready_s);
                let run = self.startup(pod).map_or(0, |s| s.current());
                self.after(until + ready, Event::DaemonReady(pod, run));
            }
        }
    }

    fn look_from_now(&mut self, pod: u32, every: f64, until: Micros) {
        let Some(startup) = self.startup(pod) else { return };
        startup.looking = Some((every, until));
        if let Some(run) = startup.runs.last_mut() {
            run.missed = true;
        }
    }

    /// The current run has what it needs, after `delay` at the earliest: a waiter ends, a worker becomes ready.
    fn reach(&mut self, pod: u32, delay: Micros) {
        let Some((daemon, _)) = self.daemon_of(pod) else { return };
        let now = self.now;
        let Some(startup) = self.startup(pod) else { return };
        startup.looking = None;
        let run = startup.current();
        let waits = startup.roles.get(startup.at).is_some_and(|r| matches!(r.act, Act::Waits(_)));
        if let Some(run) = startup.runs.last_mut() {
            run.reached = Some(now + delay);
        }
        if waits {
            let delay = delay + self.random.daemons.micros(5.0, 40.0);
            self.after(delay, Event::DaemonWaited(pod, run));
        } else {
            let delay = delay + self.random.daemons.spread(self.daemons[daemon].spec.ready_s);
            self.after(delay, Event::DaemonReady(pod, run));
        }
    }

    /// Something has become ready on a node: who waited for it finds it at the next look.
    fn look_again(&mut self, node: usize) {
        for pod in self.nodes[node].daemons.values().copied().collect::<Vec<_>>() {
            let Some((daemon, _)) = self.daemon_of(pod) else { continue };
            let Some(startup) = self.pods[pod as usize].as_ref().and_then(|p| p.startup.as_deref()) else { continue };
            if startup.held {
                self.begin_daemon(pod);
                continue;
            }
            let (Some((every, until)), Some(run)) = (startup.looking, startup.runs.last()) else { continue };
            let there = match startup.roles.get(startup.at).map(|r| &r.act) {
                Some(Act::Waits(wait)) => self.has_waited(*wait, daemon, node),
                _ => self.has_need(daemon, node),
            };
            let every = every * SECOND as f64;
            let looks = ((self.now - run.started) as f64 / every).ceil().max(1.0);
            if !there || !every.is_finite() {
                continue;
            }
            let at = run.started + (looks * every) as Micros;
            if at < until {
                self.reach(pod, at.saturating_sub(self.now));
            }
        }
    }

    /// A waiter has ended well: the next container is started.
    pub(super) fn daemon_waited(&mut self, pod: u32, run: u32) {
        let (at, now) = (self.now, self.timestamp());
        let Some(state) = self.live_pod(pod) else { return };
        let Some(startup) = state.startup.as_deref_mut().filter(|s| s.current() == run) else { return };
        let container = &mut state.record.containers[startup.at];
        container.state = ContainerState::Terminated(ended(0, started(container), now));
        container.ready = true;
        if let Some(run) = startup.runs.last_mut() {
            run.ended = Some((at, 0));
        }
        startup.at += 1;
        startup.failures = 0;
        self.tell_pod(pod);
        // The kubelet sees the exit at its next relisting, once a second.
        let delay = self.random.daemons.micros(300.0, 900.0);
        self.after(delay, Event::DaemonRuns(pod));
    }

    /// A container of a DaemonSet's pod exits.
    pub(super) fn daemon_fails(&mut self, pod: u32, run: u32, exit_code: i32) {
        let (at, now) = (self.now, self.timestamp());
        let Some((_, node)) = self.daemon_of(pod) else { return };
        let kubelet = self.nodes[node].record.kubelet.clone();
        let Some(state) = self.live_pod(pod) else { return };
        let Some(startup) = state.startup.as_deref_mut().filter(|s| s.current() == run) else { return };
        // Found in time what it needs: the time-out came to nothing.
        let Some(last) = startup.runs.last_mut().filter(|r| !r.missed || r.reached.is_none()) else { return };
        last.ended = Some((at, exit_code));
        if at - last.started > FORGIVEN {
            startup.failures = 0;
        }
        startup.failures += 1;
        let back_off = match startup.failures {
            1 => 0,
            n => (10_u64 << (n - 2).min(5)).min(300),
        };
        last.back_off = back_off;
        let container = &mut state.record.containers[startup.at];
        let run = ended(exit_code, started(container), now);
        if back_off == 0 {
            container.state = ContainerState::Terminated(run);
        } else {
            container.state = ContainerState::Waiting("CrashLoopBackOff".into());
            container.last = Some(run);
        }
        container.ready = false;
        self.tell_pod(pod);
        let delay = self.until_restart(back_off * SECOND, &kubelet) + self.random.daemons.micros(300.0, 900.0);
        self.after(delay, Event::DaemonRuns(pod));
    }

    /// From a container's end to the kubelet's look at its pod after the back-off.
    fn until_restart(&mut self, back_off: Micros, kubelet: &Text) -> Micros {
        let wakes = minor(kubelet).is_none_or(|version| version >= (1, 35));
        let mut waited = 0;
        while waited < back_off {
            waited += if wakes {
                let left = (back_off - waited).min(60 * SECOND);
                (left as f64 * (1.0 + self.random.daemons.uniform() / 2.0)) as Micros
            } else {
                self.random.daemons.spread(self.times.sync_s)
            };
        }
        waited
    }

    /// A DaemonSet's pod becomes ready, unless it was restarted in between.
    pub(super) fn daemon_ready(&mut self, pod: u32, run: u32) {
        let Some((daemon, node)) = self.daemon_of(pod) else { return };
        let now = self.timestamp();
        let Some(state) = self.live_pod(pod) else { return };
        let Some(startup) = state.startup.as_deref_mut() else { return };
        if startup.current() != run || state.record.flags.ready {
            return;
        }
        startup.looking = None;
        state.record.flags.ready = true;
        state.record.ready_since = Some(now);
        for container in &mut state.record.containers {
            container.ready = true;
        }
        self.tell_pod(pod);
        self.nodes[node].ready_daemons.insert(daemon);
        self.nodes[node].provided.insert(daemon);
        if self.daemons[daemon].spec.makes_ready {
            let delay = self.random.daemons.spread(self.times.node_ready_s);
            self.after(delay, Event::NodeReady(node));
        }
        if self.daemons[daemon].spec.clears_taint.is_some() {
            let delay = self.random.daemons.micros(200.0, 1_500.0);
            self.after(delay, Event::ClearTaint(node, daemon));
        }
        self.register_driver(node, daemon);
        self.look_again(node);
        self.refresh_functional(node);
        self.go_on_rolling(daemon);
    }
}

/// Since when a container runs.
fn started(container: &Container) -> Option<Timestamp> {
    match container.state {
        ContainerState::Running(since) => since,
        ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    }
}
