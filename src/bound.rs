//! How fast a rotation could go at best: a lower bound, and what decides it.
//!
//! Three times decide: `b`, from a launch to a functional node (soak included); `d`, from the first eviction to
//! a drained node; `x`, from the terminate call to the instance gone, which holds no slot. A group may have
//! `surge` instances above and `unavailable` functional nodes below its own desired. A slot of that room is
//! used again and again: drain, terminate, wait for the replacement. So the n-th drain starts no earlier than
//!
//! ```text
//! L(n) = floor((n-1) / (S+U)) (B+D)  +  (B if (n-1) mod (S+U) + 1 > U else 0)
//! ```
//!
//! and a group of N nodes takes at least the longest of
//!
//! ```text
//! L(N) + D + X              the last old node is drained and gone
//! L(N-S) + D + B, if N > S  the last replacement, launched for an old node, is functional
//! B                         the first replacement is
//! B0 + ceil(N/drains) D + X every drain had a drain slot; B0 = B if U = 0, else 0
//! B0 + chain + X            the evictions that wait for one another's budget
//! ```
//!
//! A canary delays (with a surge B0 is B): with a surge nothing is drained, and no more than the canary launched,
//! before it is functional; without one the canary's own drain and launch come first. Groups run side by side; over
//! all of them `max_drains` slots carry every drain.
//!
//! With times that are the same for every node these hold for any of them. What a run has measured differs from node to
//! node, and the fastest may have come first: a bound by the means could be above the run itself. [`measured`] takes
//! what no order of the nodes can go below: the terms above with the shortest times, and the sums, which are the same in
//! any order. Not serving are at most S+U instances of a group at any time, those that start and those that drain:
//!
//! ```text
//! (sum of all B + sum of all D) / (S+U)                      until the last replacement is functional
//! (sum of all B - U B + sum of all D) / (S+U) + least X      until the last old node is gone
//! B0 + (sum of all D) / drains + least X                     every drain had a drain slot
//! ```
//!
//! Shared with neither the planner nor the simulator, so that it can judge both.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{GroupName, Text};
use crate::units;

/// Evictions of one group's pods that wait for one another under a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// The budget, `namespace/name`.
    pub budget: Text,
    /// From its first eviction to the end of its last, seconds.
    pub seconds: f64,
}

/// What is to be rotated in one group, and how fast its parts are. Times are seconds, never negative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupLoad {
    /// The group.
    pub group: GroupName,
    /// Old nodes to rotate.
    pub nodes: u32,
    /// Instances above the group's own desired.
    pub surge: u32,
    /// Functional nodes below it.
    pub unavailable: u32,
    /// Old nodes draining at once; 0 counts as 1.
    pub drains: u32,
    /// Canary nodes; 0 is none.
    pub canary: u32,
    /// Launch to functional, soak included.
    pub b: f64,
    /// First eviction to drained.
    pub d: f64,
    /// Terminate to gone.
    pub x: f64,
    /// The longest chain of evictions under one budget, where one is known.
    pub chain: Option<Chain>,
}

/// A lower bound on a rotation's duration.
#[must_use]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Seconds.
    pub seconds: f64,
    /// What decides it.
    pub bottleneck: Bottleneck,
}

/// What a lower bound is decided by. Displays as one sentence with what relaxing it would give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// The group; `None` for what is the whole cluster's.
    pub group: Option<GroupName>,
    /// The limit.
    pub limit: Limit,
    /// What one more of it would give; `None` where there is no number to raise, or it gives nothing.
    pub relaxed: Option<Relaxed>,
}

/// A limit on a rotation's pace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Limit {
    /// Nothing is to be rotated.
    Nothing,
    /// The room for replacements: surge and unavailable together.
    Room {
        /// Instances above.
        surge: u32,
        /// Functional nodes below.
        unavailable: u32,
    },
    /// The time one launch takes.
    Launch {
        /// Seconds.
        seconds: f64,
    },
    /// A group's drain slots.
    Drains {
        /// How many.
        drains: u32,
    },
    /// The cluster's drain slots.
    MaxDrains {
        /// How many.
        max_drains: u32,
    },
    /// A disruption budget.
    Budget {
        /// The budget.
        budget: Text,
    },
}

/// What relaxing a limit would give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relaxed {
    /// `a surge of 2`
    pub what: Text,
    /// The bound then, seconds.
    pub seconds: f64,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "{group}: ")?;
        }
        match &self.limit {
            Limit::Nothing => f.write_str("nothing to rotate")?,
            Limit::Room { surge, unavailable: 0 } => write!(f, "a surge of {surge}")?,
            Limit::Room { surge: 0, unavailable } => write!(f, "{unavailable} unavailable at a time")?,
            Limit::Room { surge, unavailable } => write!(f, "a surge of {surge} and {unavailable} unavailable")?,
            Limit::Launch { seconds } => {
                write!(f, "the {} a new node takes to be functional", units::seconds(*seconds))?
            }
            Limit::Drains { drains } => write!(f, "{drains} draining at a time")?,
            Limit::MaxDrains { max_drains } => write!(f, "{max_drains} draining at a time over the cluster")?,
            Limit::Budget { budget } => write!(f, "disruption budget {budget}")?,
        }
        match &self.relaxed {
            Some(Relaxed { what, seconds }) => write!(f, "; {what} would make it {}", units::seconds(*seconds)),
            None => Ok(()),
        }
    }
}

/// The lower bound for these groups side by side, with at most `max_drains` draining over all (0 counts as 1).
///
/// A group with neither surge nor unavailable cannot be rotated at all and takes no part.
pub fn lower_bound(groups: &[GroupLoad], max_drains: Option<u32>) -> Bound {
    let (seconds, group, limit) = decide(groups, max_drains);
    let relaxed = relax(groups, max_drains, group, &limit).filter(|relaxed| relaxed.seconds < seconds);
    let group = group.and_then(|at| groups.get(at)).map(|g| g.group.clone());
    Bound { seconds, bottleneck: Bottleneck { group, limit, relaxed } }
}

/// What a run has measured of one group: the load by the means of its times, and the least of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// By the means.
    pub load: GroupLoad,
    /// Launches that were measured from their beginning.
    pub launches: u32,
    /// The shortest launch to functional, seconds.
    pub least_b: f64,
    /// The shortest drain, seconds.
    pub least_d: f64,
    /// The shortest termination, seconds.
    pub least_x: f64,
}

/// A bound that no run with these times can have beaten, named by what decides the bound of the means.
pub fn measured(groups: &[Measured], max_drains: Option<u32>) -> Bound {
    let loads: Vec<GroupLoad> = groups.iter().map(|m| m.load.clone()).collect();
    let fastest: Vec<GroupLoad> = groups.iter().map(Measured::fastest).collect();
    let Bound { seconds, bottleneck } = lower_bound(&loads, max_drains);
    let sums = groups.iter().map(Measured::sums).fold(0.0, f64::max);
    let drains: f64 = loads.iter().map(|load| f64::from(load.nodes) * load.d).sum();
    let over_all = max_drains.map_or(0.0, |slots| drains / f64::from(slots.max(1)));
    let certain = decide(&fastest, max_drains).0.max(sums).max(over_all);
    let seconds = seconds.min(certain);
    let relaxed = bottleneck.relaxed.filter(|relaxed| relaxed.seconds < seconds);
    Bound { seconds, bottleneck: Bottleneck { relaxed, ..bottleneck } }
}

impl Measured {
    fn fastest(&self) -> GroupLoad {
        GroupLoad { b: self.least_b, d: self.least_d, x: self.least_x, ..self.load.clone() }
    }

    /// The longest of the sums, which hold in any order.
    fn sums(&self) -> f64 {
        let load = &self.load;
        let room = f64::from(load.room());
        if load.nodes == 0 || load.room() == 0 {
            return 0.0;
        }
        let launches = self.launches.min(load.nodes);
        let drains = f64::from(load.nodes) * load.d;
        // Until the canary is functional, no more than it takes up its room.
        let idle =
            if load.surge > 0 && load.first() > 0 { f64::from(load.room() - load.first()) * self.least_b } else { 0.0 };
        let idle = if load.nodes > load.first() { idle } else { 0.0 };
        let busy = |launches: u32| (f64::from(launches) * load.b + drains + idle) / room;
        let slots = self.fastest().first_drain() + drains / f64::from(load.drains.max(1)) + self.least_x;
        busy(launches).max(busy(launches.saturating_sub(load.unavailable)) + self.least_x).max(slots)
    }
}

/// Seconds, the place of the group that decides, and the limit.
fn decide(groups: &[GroupLoad], max_drains: Option<u32>) -> (f64, Option<usize>, Limit) {
    let mut longest = (0.0, None, Limit::Nothing);
    let loads = || groups.iter().enumerate().filter(|(_, g)| g.nodes > 0 && g.room() > 0);
    for (at, load) in loads() {
        for (seconds, limit) in load.terms() {
            if seconds > longest.0 {
                longest = (seconds, Some(at), limit);
            }
        }
    }
    if let Some(max_drains) = max_drains {
        let slots = f64::from(max_drains.max(1));
        let least = |of: fn(&GroupLoad) -> f64| loads().map(|(_, g)| of(g)).fold(f64::INFINITY, f64::min);
        let nodes: u32 = loads().map(|(_, g)| g.nodes).sum();
        let work: f64 = loads().map(|(_, g)| f64::from(g.nodes) * g.d).sum();
        // Drains of one length go in whole rounds; of several, at least their sum must fit into the slots.
        let rounds = (f64::from(nodes) / slots).ceil() * least(|g| g.d);
        let seconds = least(GroupLoad::first_drain) + rounds.max(work / slots) + least(|g| g.x);
        if seconds.is_finite() && seconds > longest.0 {
            longest = (seconds, None, Limit::MaxDrains { max_drains: max_drains.max(1) });
        }
    }
    longest
}

fn relax(groups: &[GroupLoad], max_drains: Option<u32>, group: Option<usize>, limit: &Limit) -> Option<Relaxed> {
    let mut groups = groups.to_vec();
    let mut max_drains = max_drains;
    let what = match limit {
        Limit::Nothing | Limit::Launch { .. } | Limit::Budget { .. } => return None,
        Limit::MaxDrains { max_drains: now } => {
            max_drains = Some(now + 1);
            format!("{} at a time", now + 1)
        }
        Limit::Drains { drains } => {
            groups.get_mut(group?)?.drains = drains + 1;
            format!("{} at a time", drains + 1)
        }
        Limit::Room { surge: 0, unavailable } => {
            groups.get_mut(group?)?.unavailable = unavailable + 1;
            format!("{} at a time", unavailable + 1)
        }
        Limit::Room { surge, .. } => {
            groups.get_mut(group?)?.surge = surge + 1;
            format!("a surge of {}", surge + 1)
        }
    };
    Some(Relaxed { what: what.into(), seconds: decide(&groups, max_drains).0 })
}

impl GroupLoad {
    fn room(&self) -> u32 {
        self.surge + self.unavailable
    }

    /// The surge that these nodes can use.
    fn useful_surge(&self) -> u32 {
        self.surge.min(self.nodes)
    }

    /// Canary nodes that really go first.
    fn first(&self) -> u32 {
        self.canary.min(if self.surge > 0 { self.useful_surge() } else { self.unavailable }).min(self.nodes)
    }

    /// The earliest start of any drain.
    fn first_drain(&self) -> f64 {
        if self.unavailable == 0 || (self.surge > 0 && self.canary > 0) { self.b } else { 0.0 }
    }

    /// The earliest start of the n-th drain, n from 1: `L(n)`.
    fn start(&self, n: u32) -> f64 {
        let cycle = self.b + self.d;
        let paced = |n: u32, at_once: u32| {
            let (rounds, place) = ((n - 1) / self.room(), (n - 1) % self.room() + 1);
            f64::from(rounds) * cycle + if place > at_once { self.b } else { 0.0 }
        };
        match (self.first(), self.surge) {
            (0, _) => paced(n, self.unavailable),
            // The canary is functional at B; what is unavailable may drain from then on too, and the rest of
            // the surge is functional at 2 B.
            (canary, 1..) => self.b + paced(n, canary + self.unavailable),
            (canary, 0) if n <= canary => 0.0,
            (canary, 0) => cycle + paced(n - canary, self.unavailable),
        }
    }

    fn terms(&self) -> impl Iterator<Item = (f64, Limit)> {
        let Self { nodes, b, d, x, .. } = *self;
        let (first, surge) = (self.first(), self.useful_surge());
        let drains = self.drains.max(1);
        let room = || Limit::Room { surge: self.surge, unavailable: self.unavailable };

        let gone = self.start(nodes) + d + x;
        let replaced = (nodes > surge).then(|| self.start(nodes - surge) + d + b);
        let later = self.surge > 0 && first > 0 && nodes > first;
        let launched = if later { 2.0 * b } else { b };
        let rounds = |n: u32| f64::from(n.div_ceil(drains)) * d;
        let drained = if self.surge == 0 && first > 0 && nodes > first {
            rounds(nodes).max(b + d + rounds(nodes - first))
        } else {
            self.first_drain() + rounds(nodes)
        };
        let chain = self.chain.as_ref();
        let waits = |c: &Chain| (self.first_drain() + c.seconds + x, Limit::Budget { budget: c.budget.clone() });
        let budget = chain.map(waits);

        // The first of equals is named: a launch cannot be helped, a setting can.
        [Some((launched, Limit::Launch { seconds: b })), Some((drained + x, Limit::Drains { drains })), budget]
            .into_iter()
            .flatten()
            .chain([Some((gone, room())), replaced.map(|seconds| (seconds, room()))].into_iter().flatten())
    }
}
