//! The policy's amounts as numbers of nodes, each with the reason for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::estimate::Expected;
use crate::model::NodeGroup;
use crate::policy::{Amount, Policy, Surge};
use crate::units;

/// How far a group may go up, down and sideways, with the reason in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Instances above the group's own desired.
    pub surge: u32,
    /// Functional nodes below it.
    pub unavailable: u32,
    /// Old nodes draining at once.
    pub drains: u32,
    /// The maximum that the wanted surge would need, where it is above the group's.
    pub max_needed: Option<u32>,
    /// Why this surge, one sentence.
    pub why: String,
}

/// The same as every pass works it out: the words are made where they are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Amounts {
    pub(crate) surge: u32,
    pub(crate) unavailable: u32,
    pub(crate) drains: u32,
    pub(crate) max_needed: Option<u32>,
    cause: Cause,
}

/// Why a surge is what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cause {
    wanted: Wanted,
    /// Cut down to the outdated nodes.
    outdated: Option<u32>,
    /// Cut down to what the maximum leaves room for.
    room: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Asked(Amount),
    Auto { expected: Expected, slots: u32, drains: u32 },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wanted {
            Wanted::Asked(amount) => write!(f, "{amount} as asked")?,
            Wanted::Auto { expected: Expected { launch_s, drain_s, .. }, slots, drains } => write!(
                f,
                "auto: a launch takes about {}, a drain {}, so {slots} for each of {drains} at once",
                units::seconds(launch_s),
                units::seconds(drain_s)
            )?,
        }
        if let Some(outdated) = self.outdated {
            write!(f, "; no more than the {outdated} outdated")?;
        }
        if let Some((max, room)) = self.room {
            write!(f, "; the maximum of {max} leaves room for {room}")?;
        }
        Ok(())
    }
}

impl From<Amounts> for Limits {
    fn from(amounts: Amounts) -> Self {
        let Amounts { surge, unavailable, drains, max_needed, cause } = amounts;
        Self { surge, unavailable, drains, max_needed, why: cause.to_string() }
    }
}

/// Resolves the policy for a group of which `own` instances are its own and `outdated` are to be rotated.
///
/// A surge of `auto` takes launching off the critical path: while one node drains for D, replacements must
/// come in at the same pace though each takes B, so `ceil(B / D) + 1` slots for each drain. Never more than
/// there are outdated nodes, nor more than the maximum leaves room for (unless it may be raised).
pub(crate) fn resolve(policy: &Policy, group: &NodeGroup, own: u32, outdated: u32, expected: &Expected) -> Amounts {
    let drains = policy.drains.of(own).max(1);
    let unavailable = unavailable(policy, group, own);
    let (wanted, why) = match policy.surge {
        Surge::Fixed(amount) => (amount.of(own), Wanted::Asked(amount)),
        Surge::Auto => {
            let slots = (expected.launch_s / expected.drain_s.max(1.0)).ceil().max(0.0) as u32 + 1;
            (slots.saturating_mul(drains), Wanted::Auto { expected: *expected, slots, drains })
        }
    };
    let mut surge = wanted.min(outdated);
    if policy.surge == Surge::Auto {
        // Others may have scaled the group in meanwhile, to less than there is to rotate.
        surge = surge.min(own.max(1));
    }
    let mut cause = Cause { wanted: why, outdated: (wanted > outdated).then_some(outdated), room: None };
    let room = group.max.saturating_sub(own);
    let max_needed = (surge > room).then(|| own.saturating_add(surge));
    if surge > room && !policy.raise_max {
        surge = room;
        cause.room = Some((group.max, room));
    }
    Amounts { surge, unavailable, drains, max_needed, cause }
}

/// Functional nodes that a group of `own` may be short of. Behind load balancers one always stays: a node leaves them
/// only while another one serves, and is terminated only once they have let go of it.
pub(crate) fn unavailable(policy: &Policy, group: &NodeGroup, own: u32) -> u32 {
    let unavailable = policy.unavailable.of_down(own);
    if group.attachments.is_empty() { unavailable } else { unavailable.min(own.saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(max: u32) -> NodeGroup {
        NodeGroup { max, ..NodeGroup::plain("g", 10) }
    }

    #[test]
    fn auto_is_enough_to_keep_the_drains_busy_and_no_more_than_there_is() {
        let expected = Expected { launch_s: 100.0, drain_s: 60.0, terminate_s: 1.0 };
        let policy = Policy { drains: Amount::Count(2), ..Policy::default() };
        assert_eq!(resolve(&policy, &group(99), 10, 10, &expected).surge, 6);
        assert_eq!(resolve(&policy, &group(99), 10, 4, &expected).surge, 4);
        let tight = Limits::from(resolve(&policy, &group(12), 10, 10, &expected));
        assert_eq!((tight.surge, tight.max_needed), (2, Some(16)));
        assert!(tight.why.contains("maximum of 12"), "{}", tight.why);
        let raised = Policy { raise_max: true, ..policy };
        assert_eq!(resolve(&raised, &group(12), 10, 10, &expected).surge, 6);
    }

    #[test]
    fn behind_load_balancers_one_node_is_always_to_serve() {
        let policy = |surge| Policy { surge, unavailable: Amount::Percent(100), ..Policy::default() };
        let balanced = NodeGroup { attachments: [crate::model::Attachment("web".into())].into(), ..group(99) };
        let fixed = policy(Surge::Fixed(Amount::Count(0)));
        let limits = |own| Limits::from(resolve(&fixed, &balanced, own, own, &Expected::default()));
        assert_eq!([0, 1, 2, 3].map(|own| limits(own).unavailable), [0, 0, 1, 2]);
        let plain = resolve(&fixed, &group(99), 3, 3, &Expected::default());
        assert_eq!(plain.unavailable, 3, "nobody is sent to a group of no load balancer");
    }

    #[test]
    fn percentages_round_surge_up_and_unavailable_down() {
        let amount = Amount::Percent(15);
        let policy = Policy { surge: Surge::Fixed(amount), unavailable: amount, drains: amount, ..Policy::default() };
        let limits = resolve(&policy, &group(99), 10, 10, &Expected::default());
        assert_eq!((limits.surge, limits.unavailable, limits.drains), (2, 1, 2));
    }
}
