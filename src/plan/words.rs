//! Actions, reasons, waits and blocks in words: lower case, one clause, the numbers in it.

use std::fmt;

use super::{Action, ActionReason, BlockReason, NodePurpose, Outdated, WaitReason};
use crate::units;

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TemplateId { have, want } => write!(f, "launch template {have} -> {want}"),
            Self::TemplateVersion { have, want } => write!(f, "template version {have} -> {want}"),
            Self::Configuration { have: Some(have), want } => write!(f, "launch configuration {have} -> {want}"),
            Self::Configuration { have: None, want } => write!(f, "launch configuration unknown -> {want}"),
            Self::Source => f.write_str("not launched from a template"),
            Self::InstanceType { have } => write!(f, "instance type {have} is not launched any more"),
            Self::Image { have, want } => write!(f, "image {have} -> {want}"),
            Self::Kubelet { have, want } => write!(f, "kubelet {have} behind {want}"),
            Self::Age { launched } => write!(f, "launched {launched}"),
            Self::Named => f.write_str("named"),
            Self::Forced => f.write_str("forced"),
        }
    }
}

fn count(n: &u32, one: &str) -> String {
    units::count(u64::from(*n), one)
}

fn list(f: &mut fmt::Formatter<'_>, items: &[Outdated]) -> fmt::Result {
    for (n, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if n > 0 { ", " } else { "" })?;
    }
    Ok(())
}

impl fmt::Display for ActionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupBegins => f.write_str("the rotation of this group begins"),
            Self::Canary => f.write_str("canary: to prove the target"),
            Self::Surge { to } => write!(f, "the canary passed: {to} above the group's own desired"),
            Self::ReplacementJoined => f.write_str("a replacement registered"),
            Self::ReplacementFunctional => f.write_str("it passed the gate"),
            Self::CanaryPassed => f.write_str("the canary passed: evicted pods should prefer new nodes"),
            Self::Surplus => f.write_str("it will be given back: evicted pods should prefer those that stay"),
            Self::Drain { outdated, zone } => {
                list(f, outdated)?;
                write!(f, "; a replacement is functional in {zone}")
            }
            Self::DrainFullest { outdated, zone } => {
                list(f, outdated)?;
                write!(f, "; no zone with a functional replacement has an old node to give, and {zone} is the fullest")
            }
            Self::DrainUnavailable { outdated } => {
                list(f, outdated)?;
                f.write_str("; the policy allows it below desired")
            }
            Self::Evicting => f.write_str("its node drains"),
            Self::EvictAgain { attempts } => write!(f, "once more after {}", count(attempts, "refusal")),
            Self::PastBudget => f.write_str("the drain time-out passed, and the policy goes past budgets"),
            Self::ReplacementServes => f.write_str("a replacement serves"),
            Self::NothingLeft => f.write_str("nothing evictable is left and volumes are detached"),
            Self::Drained => f.write_str("drained to the end; the group launches its replacement"),
            Self::DrainedLast { surge } => write!(f, "drained to the end, one of the last; surge left: {surge}"),
            Self::TimedOut { culprit } => write!(f, "out of time: {culprit}"),
            Self::Shrinking => f.write_str("the surge shrinks: nothing else may be scaled in"),
            Self::GivingBack => f.write_str("the surge is given back"),
            Self::NotCordoned => f.write_str("somebody uncordoned it in the middle of its drain"),
            Self::ReplacementFailed { diagnosis } => write!(f, "replacement failed: {diagnosis}"),
            Self::StepSettled { applied: true } => f.write_str("the step in hand took effect"),
            Self::StepSettled { applied: false } => f.write_str("the step in hand had no effect"),
            Self::Recorded => f.write_str("written down before anything depends on it"),
            Self::PuttingBack => f.write_str("put back as it was"),
            Self::Interrupted => f.write_str("not fully drained when the run was interrupted"),
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launch { missing, failure: None } => write!(f, "{} to launch", count(missing, "instance")),
            Self::Launch { missing, failure: Some(why) } => {
                write!(f, "{} to launch; last: {why}", count(missing, "instance"))
            }
            Self::Join => f.write_str("its Node to register"),
            Self::NodeReady { why } => write!(f, "Ready: {why}"),
            Self::StartupTaint { taint } => write!(f, "startup taint {taint} to go"),
            Self::NodeLacks { what } => write!(f, "{what}, which the old nodes of its group have"),
            Self::DaemonSet { daemonset, why } => write!(f, "DaemonSet {daemonset}: {why}"),
            Self::Soak { left } => write!(f, "to stay functional for {} more", units::clock(*left)),
            Self::Mending { what } => what.fmt(f),
            Self::Canary { functional, wanted } => write!(f, "the canary: {functional} of {wanted} functional"),
            Self::Capacity { functional, promised } => {
                write!(f, "a functional replacement: {functional} serve, {promised} are promised")
            }
            Self::Standstill { why } => write!(f, "a change: {why}"),
            Self::DrainSlot { draining, allowed } => write!(f, "a drain slot: {draining} of {allowed} taken"),
            Self::ZoneBalance { zone } => write!(f, "the end: the last old nodes of {zone} keep the zones balanced"),
            Self::Budget { pod, budget } => write!(f, "budget {budget} to let pod {pod} go"),
            Self::Held { why, .. } => write!(f, "somebody to see to it: {why}"),
            Self::ServerBusy { pod, message } => {
                write!(f, "the API server to take the eviction of pod {pod}: {message}")
            }
            Self::PodTermination { pod, left } => write!(f, "pod {pod} to end, {left} left"),
            Self::VolumeDetach { left } => write!(f, "{} to be detached", count(left, "volume")),
            Self::Successor => f.write_str("a functional replacement to serve behind its load balancers"),
            Self::Deregistration { of, delay_s, until } => {
                write!(f, "the deregistration delay of {of} ({delay_s}s), until {until:.0}")
            }
            Self::Termination => f.write_str("the instance to be gone"),
            Self::AwsBusy { what } => what.fmt(f),
            Self::Paused => f.write_str("resume"),
        }
    }
}

impl fmt::Display for BlockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManagedNodeGroup { nodegroup, command } => {
                write!(f, "belongs to the managed node group {nodegroup}; {command}")
            }
            Self::Operator { operator } => write!(f, "only {operator} may change it"),
            Self::InstanceRefresh => f.write_str("an instance refresh is in progress"),
            Self::NoTarget => f.write_str("it launches nothing"),
            Self::Weighted => f.write_str("it uses instance weights"),
            Self::Maximum { max, needed } => write!(f, "its maximum of {max} would have to be {needed} (--raise-max)"),
            Self::NoRoom => f.write_str("neither surge nor unavailable: nothing could ever be drained"),
            Self::LastServing => f.write_str(
                "it is behind load balancers, and without a surge none of its nodes would be left to serve (--surge 1)",
            ),
            Self::Lifecycle { state } => write!(f, "in state {state}, which is not ours to change"),
            Self::Protected => f.write_str("somebody protected it from scale-in"),
            Self::OptOut { pod, annotation } => write!(f, "pod {pod} opts out by {annotation} (--ignore-opt-outs)"),
            Self::Unmanaged { pod } => write!(f, "pod {pod} has no controller (--force-unmanaged)"),
            Self::EmptyDir { pod } => write!(f, "pod {pod} has emptyDir data (--delete-emptydir-data)"),
            Self::ToleratesCordon { pod } => write!(f, "pod {pod} tolerates the cordon and would come straight back"),
            Self::NeverFrees { pod, budget } => write!(f, "budget {budget} never lets pod {pod} go (--past-budgets)"),
            Self::SeveralBudgets { pod, budgets } => {
                write!(f, "pod {pod} is covered by {} budgets, so its eviction always fails:", budgets.len())?;
                budgets.iter().try_for_each(|b| write!(f, " {b}"))
            }
            Self::NotOurs { what } => what.fmt(f),
            Self::Ledger { why } => write!(f, "the surge's ledger: {why}"),
            Self::Unbalanced { max, min } => {
                write!(f, "its zones hold {max} and {min} instances: AZRebalance would terminate undrained nodes")
            }
            Self::FailedStays { why } => write!(f, "a failed replacement that stays in its group: {why}"),
            Self::Skipped { why } => why.fmt(f),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        match self {
            Self::TagGroup { group, tags } => {
                write!(f, "tag {group}: {}", names(&mut tags.iter().map(|(k, v)| format!("{k}={v}"))))
            }
            Self::UntagGroup { group, keys } => {
                write!(f, "untag {group}: {}", names(&mut keys.iter().map(|k| k.to_string())))
            }
            Self::Suspend { group, processes } => {
                write!(f, "suspend {} of {group}", names(&mut processes.iter().map(|p| p.0.to_string())))
            }
            Self::Resume { group, processes } => {
                write!(f, "resume {} of {group}", names(&mut processes.iter().map(|p| p.0.to_string())))
            }
            Self::SetMax { group, from, to } => write!(f, "set the maximum of {group} from {from} to {to}"),
            Self::Resize { group, from, to, .. } => write!(f, "set desired of {group} from {from} to {to}"),
            Self::SettleLedger { group, ledger } => write!(f, "settle the ledger of {group} at {}", ledger.confirmed),
            Self::Protect { group, instances, protected } => {
                let verb = if *protected { "protect" } else { "unprotect" };
                write!(f, "{verb} {} of {group}", units::count(instances.len() as u64, "instance"))
            }
            Self::ChangeNode { node, purpose, .. } => write!(f, "{purpose} {node}"),
            Self::Evict { node, pod, .. } => write!(f, "evict {pod} from {node}"),
            Self::DeletePod { node, pod, .. } => write!(f, "delete {pod} on {node}"),
            Self::Terminate { instance, node, decrement, .. } => {
                let how = if decrement.is_some() { " with decrement" } else { "" };
                match node {
                    Some((node, _)) => write!(f, "terminate {node} ({instance}){how}"),
                    None => write!(f, "terminate {instance}{how}"),
                }
            }
            Self::Record { skipped, failed, protection, targets, ending } => {
                let mut parts: Vec<String> = Vec::new();
                parts.extend(skipped.keys().map(|n| format!("{n} skipped")));
                parts.extend(failed.keys().map(|i| format!("{i} failed")));
                if !protection.is_empty() {
                    parts.push(format!("former protection of {}", units::count(protection.len() as u64, "instance")));
                }
                parts.extend(targets.keys().map(|g| format!("new target of {g}")));
                parts.extend(ending.map(|v| format!("ends: {v}")));
                write!(f, "record {}", parts.join(", "))
            }
        }
    }
}

impl fmt::Display for NodePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cordon => "cordon",
            Self::ExcludeFromLoadBalancers => "take out of its load balancers",
            Self::MarkDrained => "mark as drained",
            Self::Skip => "give up",
            Self::Uncordon => "uncordon",
            Self::SoftTaint => "soft-taint",
            Self::Adopt => "adopt",
            Self::MarkFailed => "mark as failed",
            Self::Release => "release",
        })
    }
}

impl fmt::Display for super::Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Incomplete => "incomplete",
            Self::TargetChanged => "the target changed",
            Self::CanaryFailed => "the canary failed",
            Self::FailureBudget => "too many replacements failed",
            Self::Stuck => "stuck",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        })
    }
}
