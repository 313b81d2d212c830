//! What the user wants, validated: the numbers and choices every rule of the planner reads.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::model::{GroupName, NodeName, Requirement};

/// A number of nodes, or a percentage of a group's own desired capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// So many nodes.
    Count(u32),
    /// So many per cent, 0 to 100.
    Percent(u8),
}

impl Amount {
    /// The number of nodes it means in a group of `size`, rounded up, so that 1% of 10 is 1.
    /// (Kubernetes rounds `maxSurge` up and `maxUnavailable` down; use [`Amount::of_down`] for the latter.)
    pub fn of(self, size: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(p) => (u64::from(size) * u64::from(p)).div_ceil(100) as u32,
        }
    }

    /// As [`Amount::of`], rounded down.
    pub fn of_down(self, size: u32) -> u32 {
        match self {
            Self::Count(n) => n,
            Self::Percent(p) => (u64::from(size) * u64::from(p) / 100) as u32,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl FromStr for Amount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "a number of nodes such as 3, or a percentage from 0% to 100%";
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse::<u8>() {
                Ok(p) if p <= 100 => Ok(Self::Percent(p)),
                _ => Err(format!("{text:?} is not {expected}")),
            },
            None => text.parse().map(Self::Count).map_err(|_| format!("{text:?} is not {expected}")),
        }
    }
}

/// How many instances above a group's own desired capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surge {
    /// The smallest that takes launching off the critical path.
    Auto,
    /// This many.
    Fixed(Amount),
}

impl FromStr for Surge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Fixed).map_err(|e: String| format!("{e}, or auto"))
    }
}

impl fmt::Display for Surge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(amount) => amount.fmt(f),
        }
    }
}

/// How long a wait may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Timeout {
    /// At most this long; never zero or negative.
    After(SignedDuration),
    /// For as long as it takes.
    Never,
}

impl Timeout {
    /// The limit as a duration, where there is one.
    pub fn limit(self) -> Option<SignedDuration> {
        match self {
            Self::After(d) => Some(d),
            Self::Never => None,
        }
    }
}

impl FromStr for Timeout {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let wrong = || format!("{text:?} is not a duration above 0 such as 15m or 1h30m, or never");
        let limit = parse_duration(text).map_err(|_| wrong())?;
        if limit.is_zero() { Err(wrong()) } else { Ok(Self::After(limit)) }
    }
}

/// Reads `90s`, `15m`, `1h30m`, `0s`. Negative durations and bare numbers other than 0 are refused.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let parsed = if text == "0" { Ok(std::time::Duration::ZERO) } else { humantime::parse_duration(text) };
    parsed
        .ok()
        .and_then(|d| SignedDuration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is not a duration such as 90s, 15m or 1h30m"))
}

/// What decides that a new node is functional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// The DaemonSets that make a node a node: system-node-critical ones and the well-known agents.
    Auto,
    /// Node readiness and startup taints only.
    None,
    /// These DaemonSets, as `name` or `namespace/name`.
    Named(BTreeSet<String>),
}

/// What a restart of a gated container means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restarts {
    /// Not functional.
    Zero,
    /// Functional up to what the group's healthy old nodes showed when they were new.
    Baseline,
    /// Functional, reported.
    Warn,
}

/// What to do when a wait runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStuck {
    /// Keep waiting.
    Wait,
    /// Skip the node, go on, exit 5.
    Skip,
    /// Stop the rotation.
    Stop,
}

/// What to do when the target changes in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnTargetChange {
    /// End, resumable.
    Stop,
    /// Go on for the new target, from its canary on.
    Recanary,
}

/// Which nodes are in scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Only these groups; empty means all.
    pub groups: BTreeSet<GroupName>,
    /// Only these nodes, current or not; empty means all.
    pub nodes: BTreeSet<NodeName>,
    /// Only nodes with these labels.
    pub selector: Vec<Requirement>,
}

/// The policy of a rotation. [`Default`] is the same as `config/default.toml`, checked by a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which nodes.
    pub scope: Scope,
    /// Instances above the group's own desired.
    pub surge: Surge,
    /// Functional nodes below the group's own desired.
    pub unavailable: Amount,
    /// The maximum may be raised for the time of the rotation.
    pub raise_max: bool,
    /// Old nodes draining at once in a group; at least 1.
    pub drains: Amount,
    /// The same over the cluster.
    pub max_drains: Option<u32>,
    /// Canary nodes a group; 0 is none.
    pub canary: u32,
    /// Rotate nodes older than this too.
    pub older_than: Option<SignedDuration>,
    /// Rotate current nodes too.
    pub force: bool,
    /// Why, for the record.
    pub reason: Option<String>,
    /// What makes a node functional.
    pub gate: Gate,
    /// What a restart means.
    pub restarts: Restarts,
    /// How long a node must stay functional.
    pub soak: SignedDuration,
    /// From the first eviction to the last pod gone.
    pub drain_timeout: Timeout,
    /// From the launch to the Node's registration.
    pub join_timeout: Timeout,
    /// From the registration to functional.
    pub gate_timeout: Timeout,
    /// From the terminate call to the instance gone.
    pub terminate_timeout: Timeout,
    /// What happens when one of them runs out.
    pub on_stuck: OnStuck,
    /// Delete past a budget after the drain time-out.
    pub past_budgets: bool,
    /// Rotate nodes in spite of pods' opt-outs.
    pub ignore_opt_outs: bool,
    /// Evict pods with `emptyDir` data.
    pub delete_emptydir_data: bool,
    /// Evict pods that no controller will make again.
    pub force_unmanaged: bool,
    /// Failed replacements, after the canary, before it stops.
    pub failure_budget: u32,
    /// Failed replacements stay for a look.
    pub keep_failed: bool,
    /// When the target changes.
    pub on_target_change: OnTargetChange,
}

impl Default for Policy {
    fn default() -> Self {
        let minutes = |n| Timeout::After(SignedDuration::from_mins(n));
        Self {
            scope: Scope::default(),
            surge: Surge::Auto,
            unavailable: Amount::Count(0),
            raise_max: false,
            drains: Amount::Count(1),
            max_drains: None,
            canary: 1,
            older_than: None,
            force: false,
            reason: None,
            gate: Gate::Auto,
            restarts: Restarts::Zero,
            soak: SignedDuration::from_secs(10),
            drain_timeout: minutes(15),
            join_timeout: minutes(10),
            gate_timeout: minutes(5),
            terminate_timeout: minutes(10),
            on_stuck: OnStuck::Skip,
            past_budgets: false,
            ignore_opt_outs: false,
            delete_emptydir_data: false,
            force_unmanaged: false,
            failure_budget: 2,
            keep_failed: false,
            on_target_change: OnTargetChange::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_numbers_and_percentages_and_refuse_the_rest() {
        assert_eq!("3".parse(), Ok(Amount::Count(3)));
        assert_eq!("25%".parse(), Ok(Amount::Percent(25)));
        for bad in ["101%", "-1", "", "%", "3.5", "ten"] {
            assert!(bad.parse::<Amount>().unwrap_err().contains("0% to 100%"), "{bad}");
        }
        assert_eq!(Amount::Percent(10).of(11), 2);
        assert_eq!(Amount::Percent(10).of_down(11), 1);
    }

    #[test]
    fn timeouts_take_their_whole_range_and_refuse_zero_and_negative() {
        assert_eq!("never".parse(), Ok(Timeout::Never));
        assert_eq!("90s".parse(), Ok(Timeout::After(SignedDuration::from_secs(90))));
        for bad in ["0", "0s", "-1", "-5m", "15", "soon"] {
            assert!(bad.parse::<Timeout>().unwrap_err().contains("never"), "{bad}");
        }
    }
}
