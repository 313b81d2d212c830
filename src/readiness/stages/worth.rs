//! What a quicker start is worth: how much sooner a rotation of all nodes ends.

use serde::{Deserialize, Serialize};

use crate::bound::{self, GroupLoad};
use crate::model::Text;
use crate::observe::Snapshot;
use crate::plan::estimate::{self, Expected};
use crate::plan::surge;
use crate::policy::{Amount, Policy, Surge};

/// What some seconds a node are worth to a rotation of every node in scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// The surge it is reckoned with: `1`, `auto`, or the policy's.
    pub surge: Text,
    /// Nodes that would be rotated.
    pub nodes: u32,
    /// Lower bound of the rotation with the slower start, seconds.
    pub slower_s: f64,
    /// The same with the quicker one.
    pub quicker_s: f64,
}

impl Worth {
    /// What is saved, seconds.
    pub fn saved_s(&self) -> f64 {
        (self.slower_s - self.quicker_s).max(0.0)
    }
}

/// What it is worth that a node takes `quicker_s` from its launch to functional in place of `slower_s` (seconds, soak
/// excluded): with a surge of 1, with the policy's, and with `auto`. A maximum that is in the way is taken as raised,
/// and drains and terminations take what [`estimate`] expects of them.
pub fn worth(policy: &Policy, snapshot: &Snapshot, slower_s: f64, quicker_s: f64) -> Vec<Worth> {
    let mut surges = vec![Surge::Fixed(Amount::Count(1))];
    for surge in [policy.surge, Surge::Auto] {
        if !surges.contains(&surge) {
            surges.push(surge);
        }
    }
    let expected = estimate::measured(policy, snapshot);
    let soak = policy.soak.as_secs_f64();
    let reckon = |surge: Surge| {
        let policy = Policy { surge, raise_max: true, ..policy.clone() };
        let with = |b: f64| {
            let loads = loads(&policy, snapshot, &Expected { launch_s: b + soak, ..expected });
            let nodes = loads.iter().map(|l| l.nodes).sum();
            (nodes, bound::lower_bound(&loads, policy.max_drains).seconds)
        };
        let ((nodes, slower_s), (_, quicker_s)) = (with(slower_s), with(quicker_s));
        Worth { surge: surge.to_string().into(), nodes, slower_s, quicker_s }
    };
    surges.into_iter().map(reckon).collect()
}

/// Every group in scope, as if all of its nodes were outdated.
fn loads(policy: &Policy, snapshot: &Snapshot, expected: &Expected) -> Vec<GroupLoad> {
    let scope = &policy.scope.groups;
    let groups = snapshot.groups.iter().filter(|(name, g)| {
        (scope.is_empty() || scope.contains(*name)) && g.managed_by.is_none() && g.operator.is_none()
    });
    let load = |(name, group): (_, &crate::model::NodeGroup)| {
        let nodes = snapshot.instances_of(name).filter(|i| i.lifecycle.counts_in_desired()).count() as u32;
        // As the planner resolves it: by what it expects of any node.
        let amounts = surge::resolve(policy, group, group.desired, nodes, &Expected::default());
        GroupLoad {
            group: crate::model::GroupName::clone(name),
            nodes,
            surge: amounts.surge,
            unavailable: amounts.unavailable,
            drains: amounts.drains,
            canary: policy.canary,
            b: expected.launch_s,
            d: expected.drain_s,
            x: expected.terminate_s,
            chain: None,
        }
    };
    groups.map(load).collect()
}
