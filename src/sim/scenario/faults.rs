//! What goes wrong in a scenario.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Spread, Wrong, check_share, check_spread, wrong};

/// A zone that launches nothing for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoCapacity {
    /// The zone; all where left out.
    pub zone: Option<String>,
    /// Only this group.
    pub group: Option<String>,
    /// From, seconds after the start.
    #[serde(default)]
    pub from_s: f64,
    /// Until, seconds after the start; for good where left out.
    pub until_s: Option<f64>,
}

/// A share of the new instances boots slowly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowBoots {
    /// Share of launches.
    pub share: f64,
    /// How many times longer.
    pub factor: f64,
}

/// New instances that never become Nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeverJoins {
    /// Which launches, counted from 1 over the cluster (or the group, if one is named).
    pub launches: Vec<u32>,
    /// Only in this group.
    pub group: Option<String>,
}

/// A DaemonSet's pod that restarts on a new node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// Its name.
    pub daemonset: String,
    /// On the so-manieth new node, counted from 1.
    pub node: u32,
    /// How often.
    pub times: u32,
    /// From its containers' start to their end; 1.5 to 4 s where left out.
    pub after_s: Option<Spread>,
}

/// A new node whose Ready condition comes and goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// The so-manieth new node, counted from 1.
    pub node: u32,
    /// So many times.
    pub times: u32,
    /// How long it is Ready, and then not, seconds.
    pub every_s: f64,
}

/// Somebody else changes a group's desired capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// When, seconds after the start.
    pub at_s: f64,
    /// The group.
    pub group: String,
    /// By how much.
    pub by: i32,
}

/// A group's template gets a new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retarget {
    /// When, seconds after the start.
    pub at_s: f64,
    /// The group.
    pub group: String,
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Share of AWS calls and Kubernetes requests refused by throttling, without effect.
    pub throttle: f64,
    /// Share of AWS calls that change something and whose answer is lost.
    pub lost_replies: f64,
    /// Share of Kubernetes requests that change something and whose answer is lost.
    pub lost_answers: f64,
    /// Share of readings of the groups that repeat the reading before.
    pub stale_reads: f64,
    /// Share of decrements that make a group with a launch in flight launch one more, and then take an
    /// arbitrary unprotected instance.
    pub decrement_race: f64,
    /// Zones without capacity.
    pub no_capacity: Vec<NoCapacity>,
    /// Slow boots.
    pub slow_boots: Option<SlowBoots>,
    /// Instances that never become Nodes.
    pub never_joins: Vec<NeverJoins>,
    /// Pods of DaemonSets that restart.
    pub restarts: Vec<Restarts>,
    /// On these new nodes, counted from 1, the kubelet makes the first containers before it has read the Services: their
    /// `KUBERNETES_SERVICE_HOST` is empty.
    pub services_unread: Vec<u32>,
    /// Nodes whose Ready comes and goes.
    pub flapping: Vec<Flapping>,
    /// Others that change desired.
    pub scale: Vec<Scale>,
    /// New template versions.
    pub retarget: Vec<Retarget>,
    /// What may not be done: IAM actions (`autoscaling:SuspendProcesses`) and RBAC verbs (`patch nodes`).
    pub denied: BTreeSet<String>,
    /// The process dies at the so-manieth action that changes something, before or after it took effect.
    pub crash_at: Option<u64>,
}

impl Faults {
    pub(super) fn check(
        &self,
        groups: &BTreeSet<&str>,
        zones: &BTreeSet<&str>,
        sets: &BTreeSet<&str>,
    ) -> Result<(), Wrong> {
        let shares = [
            ("throttle", self.throttle),
            ("lost_replies", self.lost_replies),
            ("lost_answers", self.lost_answers),
            ("stale_reads", self.stale_reads),
            ("decrement_race", self.decrement_race),
        ];
        shares.into_iter().try_for_each(|(key, share)| check_share(key, share))?;
        let known = |key: String, group: Option<&String>| match group {
            Some(name) if !groups.contains(name.as_str()) => Err(wrong(&key, name, "a group of this scenario")),
            _ => Ok(()),
        };
        let time = |key: String, seconds: f64| {
            if (0.0..=1e7).contains(&seconds) {
                Ok(())
            } else {
                Err(wrong(&key, seconds, "seconds from 0 to 10000000"))
            }
        };
        for (at, fault) in self.no_capacity.iter().enumerate() {
            known(format!("no_capacity[{at}].group"), fault.group.as_ref())?;
            time(format!("no_capacity[{at}].from_s"), fault.from_s)?;
            if let Some(zone) = fault.zone.as_ref().filter(|zone| !zones.contains(zone.as_str())) {
                return Err(wrong(&format!("no_capacity[{at}].zone"), zone, "a zone of a group of this scenario"));
            }
            if let Some(until) = fault.until_s {
                time(format!("no_capacity[{at}].until_s"), until)?;
                if until < fault.from_s {
                    return Err(wrong(&format!("no_capacity[{at}].until_s"), until, "no earlier than from_s"));
                }
            }
        }
        let counted = |key: String, number: u32| match number {
            0 => Err(wrong(&key, 0, "1 or more: it is counted from 1")),
            _ => Ok(()),
        };
        if let Some(slow) = &self.slow_boots {
            check_share("slow_boots.share", slow.share)?;
            if !(1.0..=1000.0).contains(&slow.factor) {
                return Err(wrong("slow_boots.factor", slow.factor, "1.0 to 1000.0"));
            }
        }
        for (at, fault) in self.never_joins.iter().enumerate() {
            known(format!("never_joins[{at}].group"), fault.group.as_ref())?;
            fault.launches.iter().try_for_each(|launch| counted(format!("never_joins[{at}].launches"), *launch))?;
        }
        for (at, fault) in self.restarts.iter().enumerate() {
            if !sets.contains(fault.daemonset.as_str()) {
                return Err(wrong(
                    &format!("restarts[{at}].daemonset"),
                    &fault.daemonset,
                    "a DaemonSet of this scenario",
                ));
            }
            counted(format!("restarts[{at}].node"), fault.node)?;
            fault.after_s.map_or(Ok(()), |after| check_spread(&format!("restarts[{at}].after_s"), after))?;
        }
        for (at, fault) in self.flapping.iter().enumerate() {
            counted(format!("flapping[{at}].node"), fault.node)?;
            if !(0.1..=3600.0).contains(&fault.every_s) {
                return Err(wrong(&format!("flapping[{at}].every_s"), fault.every_s, "0.1 to 3600.0 seconds"));
            }
        }
        for (at, fault) in self.scale.iter().enumerate() {
            known(format!("scale[{at}].group"), Some(&fault.group))?;
            time(format!("scale[{at}].at_s"), fault.at_s)?;
        }
        for (at, fault) in self.retarget.iter().enumerate() {
            known(format!("retarget[{at}].group"), Some(&fault.group))?;
            time(format!("retarget[{at}].at_s"), fault.at_s)?;
        }
        if self.crash_at == Some(0) {
            return Err(wrong("crash_at", 0, "1 or more"));
        }
        Ok(())
    }
}
