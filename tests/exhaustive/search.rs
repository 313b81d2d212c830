//! The shortest rotation there is, by trying every schedule of drains.
//!
//! A model of the rules of its own, in whole seconds. In a group of N nodes that may go S above and U below:
//!
//! - an instance is launched as soon as there is room: old ones, draining ones, launching ones and new ones are
//!   N + S together at most, and N are launched in all, so that the surge is given back by the last terminations;
//! - it is functional B after its launch, soak included;
//! - a node may be drained while N - U others serve, and a slot of the group and of the cluster is free; D later
//!   it is drained, terminated at once, and gone X after that;
//! - a node with a pod under the group's budget waits for the budget, which opens again R after an eviction;
//! - the canary first: no more is begun until so many new nodes are functional, with a surge nothing is drained
//!   until then, and no group goes on before every group that has a surge has its canary.
//!
//! To launch late helps nobody, as nothing else uses that room. When to drain is open, waiting included: at every
//! event each number of drains in each group is tried, and what is left from there is remembered. Between two
//! events nothing becomes possible that was not, so no schedule is better than the best of these.

use std::collections::BTreeMap;

/// Nodes of a group that hold a pod of its budget, which lets one pod go at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So many nodes hold one.
    pub nodes: u32,
    /// From an eviction until the budget allows the next, seconds.
    pub recovers: u32,
}

/// A group. Times are whole seconds above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub nodes: u32,
    pub surge: u32,
    pub unavailable: u32,
    pub drains: u32,
    pub canary: u32,
    /// Launch to functional.
    pub b: u32,
    /// First eviction to drained.
    pub d: u32,
    /// Terminate to gone.
    pub x: u32,
    pub budget: Option<Budget>,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub groups: Vec<Group>,
    /// Draining at once over all groups.
    pub max_drains: Option<u32>,
}

/// Where a group stands: all that its future depends on. Times are seconds left, the shortest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Old nodes without and with a pod under the budget.
    free: u32,
    bound: u32,
    draining: Vec<u32>,
    launching: Vec<u32>,
    launched: u32,
    functional: u32,
    /// Until the budget is open.
    budget: u32,
    /// Until what was terminated is gone.
    ending: u32,
}

/// Which schedules are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedules {
    /// All.
    All,
    /// Those in which every drain begins that may: no room is kept for a node whose budget is still closed.
    Busy,
}

impl Case {
    /// How long the shortest rotation takes, seconds; `None` where the rules allow none at all.
    pub fn best(&self, of: Schedules) -> Option<u32> {
        let begin = |group: &Group| {
            let bound = group.budget.map_or(0, |b| b.nodes);
            State { free: group.nodes - bound, bound, ..State::default() }
        };
        let start: Vec<State> = self.groups.iter().map(begin).collect();
        self.rest(start, of, &mut BTreeMap::new())
    }

    fn rest(
        &self,
        mut states: Vec<State>,
        of: Schedules,
        known: &mut BTreeMap<Vec<State>, Option<u32>>,
    ) -> Option<u32> {
        self.launch(&mut states);
        if self.groups.iter().zip(&states).all(|(group, state)| group.is_over(state)) {
            return states.iter().map(|s| s.ending).max();
        }
        if let Some(best) = known.get(&states) {
            return *best;
        }
        let mut best: Option<u32> = None;
        self.each_choice(0, states.clone(), &mut |mut next| {
            if of == Schedules::Busy && self.could_drain(&next) {
                return;
            }
            let Some(passed) = advance(&self.groups, &mut next) else { return };
            if let Some(rest) = self.rest(next, of, known) {
                best = Some(best.map_or(passed + rest, |b| b.min(passed + rest)));
            }
        });
        known.insert(states, best);
        best
    }

    fn launch(&self, states: &mut [State]) {
        let passed = self.passed(states);
        for (group, state) in self.groups.iter().zip(states) {
            let most = if passed && group.is_proven(state) { group.nodes } else { group.wanted() };
            let standing = state.old() + state.draining.len() as u32 + state.launching.len() as u32 + state.functional;
            let room = (group.nodes + group.surge).saturating_sub(standing).min(most.saturating_sub(state.launched));
            state.launched += room;
            state.launching.extend((0..room).map(|_| group.b));
        }
    }

    /// Whether no group waits for another one's canary.
    fn passed(&self, states: &[State]) -> bool {
        self.groups.iter().zip(states).all(|(g, s)| g.surge == 0 || s.functional >= g.wanted().min(g.surge))
    }

    /// Whether one more drain may begin.
    fn could_drain(&self, states: &[State]) -> bool {
        let passed = self.passed(states);
        let draining: usize = states.iter().map(|s| s.draining.len()).sum();
        let slot = self.max_drains.is_none_or(|max| (draining as u32) < max);
        let could =
            |(g, s): (&Group, &State)| (s.free > 0 || (s.bound > 0 && s.budget == 0)) && g.may_drain(s, passed) > 0;
        slot && self.groups.iter().zip(states).any(could)
    }

    /// Calls `then` with every combination of drains that may begin now, none included, from group `at` on.
    fn each_choice(&self, at: usize, states: Vec<State>, then: &mut impl FnMut(Vec<State>)) {
        let Some(group) = self.groups.get(at) else { return then(states) };
        let passed = self.passed(&states);
        let draining: usize = states.iter().map(|s| s.draining.len()).sum();
        let slots = self.max_drains.map_or(u32::MAX, |max| max.saturating_sub(draining as u32));
        let most = group.may_drain(&states[at], passed).min(slots);
        for drains in 0..=most {
            for bound in 0..=drains {
                let mut next = states.clone();
                if next[at].drain(group, drains - bound, bound) {
                    self.each_choice(at + 1, next, then);
                }
            }
        }
    }
}

impl Group {
    fn wanted(&self) -> u32 {
        self.canary.min(self.nodes)
    }

    fn is_proven(&self, state: &State) -> bool {
        state.functional >= self.wanted()
    }

    fn is_over(&self, state: &State) -> bool {
        state.old() == 0 && state.draining.is_empty() && state.functional == self.nodes
    }

    fn may_drain(&self, state: &State, passed: bool) -> u32 {
        if self.surge > 0 && !passed {
            return 0;
        }
        let spare = (state.old() + state.functional + self.unavailable).saturating_sub(self.nodes);
        let slots = self.drains.saturating_sub(state.draining.len() as u32);
        let begun = state.launched + state.draining.len() as u32;
        let first = if self.is_proven(state) { u32::MAX } else { self.wanted().saturating_sub(begun) };
        spare.min(slots).min(first)
    }
}

impl State {
    fn old(&self) -> u32 {
        self.free + self.bound
    }

    /// Begins drains of nodes without and with a pod under the budget; false where there are not so many, or the
    /// budget does not let them.
    fn drain(&mut self, group: &Group, free: u32, bound: u32) -> bool {
        let open = u32::from(self.budget == 0);
        if free > self.free || bound > self.bound.min(open) {
            return false;
        }
        self.free -= free;
        self.bound -= bound;
        self.draining.extend((0..free + bound).map(|_| group.d));
        if bound > 0 {
            self.budget = group.budget.map_or(0, |b| b.recovers);
        }
        true
    }
}

/// Moves all groups to the next event; how long that took. `None` where nothing is under way.
fn advance(groups: &[Group], states: &mut [State]) -> Option<u32> {
    let ahead = |s: &State| {
        let budget = Some(s.budget).filter(|t| *t > 0 && s.bound > 0);
        s.draining.iter().chain(&s.launching).copied().chain(budget).min()
    };
    let passed = states.iter().filter_map(ahead).min()?;
    for (group, state) in groups.iter().zip(states) {
        state.budget = state.budget.saturating_sub(passed);
        state.ending = state.ending.saturating_sub(passed);
        let over = |left: &mut Vec<u32>| {
            let before = left.len();
            left.iter_mut().for_each(|t| *t -= passed);
            left.retain(|t| *t > 0);
            left.sort_unstable();
            before - left.len()
        };
        if over(&mut state.draining) > 0 {
            state.ending = group.x;
        }
        state.functional += over(&mut state.launching) as u32;
    }
    Some(passed)
}
