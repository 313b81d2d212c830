//! The planner's typed reasons in words, one sentence each.

use std::fmt::Write;

use super::text::{clock, count};
use crate::event::About;
use crate::model::{ObjectKey, Text};
use crate::plan::{BlockReason, Outdated, Stage, Verdict, WaitReason};

/// Why an instance is outdated.
pub fn outdated(reason: &Outdated) -> String {
    match reason {
        Outdated::TemplateId { have, want } => format!("launch template {have}, wanted {want}"),
        Outdated::TemplateVersion { have, want } => format!("template version {have}, wanted {want}"),
        Outdated::Configuration { have: Some(have), want } => format!("launch configuration {have}, wanted {want}"),
        Outdated::Configuration { have: None, want } => format!("launch configuration unknown, wanted {want}"),
        Outdated::Source => "not launched from a template, as its group does now".to_owned(),
        Outdated::InstanceType { have } => format!("type {have} is no longer in the group's policy"),
        Outdated::Image { have, want } => format!("image {have}, wanted {want}"),
        Outdated::Kubelet { have, want } => format!("kubelet {have}, control plane {want}"),
        Outdated::Age { launched } => format!("launched {}", launched.strftime("%Y-%m-%d")),
        Outdated::Named => "named by --node".to_owned(),
        Outdated::Forced => "--force".to_owned(),
    }
}

/// Reasons of one instance, or `current`.
pub fn all_outdated(reasons: &[Outdated]) -> String {
    if reasons.is_empty() {
        return "current".to_owned();
    }
    reasons.iter().map(outdated).collect::<Vec<_>>().join(", ")
}

/// What is waited for.
pub fn wait(reason: &WaitReason) -> String {
    match reason {
        WaitReason::Launch { missing, failure: None } => {
            format!("{} to launch", count(u64::from(*missing), "instance"))
        }
        WaitReason::Launch { missing, failure: Some(why) } => {
            format!("{} to launch; the last one failed: {why}", count(u64::from(*missing), "instance"))
        }
        WaitReason::Join => "its Node to register".to_owned(),
        WaitReason::NodeReady { why } => format!("Ready: {why}"),
        WaitReason::StartupTaint { taint } => format!("startup taint {taint}"),
        WaitReason::DaemonSet { daemonset, why } => format!("DaemonSet {daemonset}: {why}"),
        WaitReason::NodeLacks { what } => format!("{what}, which its group's other nodes have"),
        WaitReason::Soak { left } => format!("to stay functional, {} more", clock(*left)),
        WaitReason::Canary { functional, wanted } => format!("the canary, {functional} of {wanted} functional"),
        WaitReason::Capacity { functional, promised } => {
            format!("a functional replacement ({functional} functional, {promised} promised)")
        }
        WaitReason::DrainSlot { draining, allowed } => format!("a drain slot ({draining} of {allowed} in use)"),
        WaitReason::ZoneBalance { zone } => format!("balance over the zones ({zone} held back)"),
        WaitReason::Budget { pod, budget } => format!("disruption budget {budget} (pod {pod})"),
        WaitReason::PodTermination { pod, left: 1 } => format!("pod {pod} to end"),
        WaitReason::PodTermination { pod, left } => format!("{left} pods to end, {pod} first"),
        WaitReason::VolumeDetach { left } => format!("{} to detach", count(u64::from(*left), "volume")),
        WaitReason::Deregistration => "its load balancers to let go".to_owned(),
        WaitReason::Termination => "its instance to be gone".to_owned(),
        WaitReason::AwsBusy { what } => format!("AWS: {what}"),
        WaitReason::Paused => "fastnode resume".to_owned(),
    }
}

fn pod_holds(pod: &ObjectKey, why: &str) -> String {
    format!("pod {pod} {why}")
}

fn keys(keys: &[ObjectKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why something is held, with the way out where a flag is one.
pub fn block(reason: &BlockReason) -> String {
    match reason {
        BlockReason::ManagedNodeGroup { nodegroup, command } => {
            format!("belongs to EKS managed node group {nodegroup}; update it with: {command}")
        }
        BlockReason::Operator { operator } => format!("only {operator} may change this group"),
        BlockReason::InstanceRefresh => "an instance refresh is in progress".to_owned(),
        BlockReason::NoTarget => "the group has no launch template or configuration".to_owned(),
        BlockReason::Weighted => "instance weights are in use: its capacity is not a number of nodes".to_owned(),
        BlockReason::Maximum { max, needed } => {
            format!("its maximum is {max} and would have to be {needed}: raise it, or allow --raise-max")
        }
        BlockReason::NoRoom => "neither --surge nor --unavailable leaves room to drain anything".to_owned(),
        BlockReason::Lifecycle { state } => format!("its instance is {state}"),
        BlockReason::Protected => "somebody protected its instance from scale-in".to_owned(),
        BlockReason::OptOut { pod, annotation } => {
            format!("{}; go on in spite of it with --ignore-opt-outs", pod_holds(pod, &format!("carries {annotation}")))
        }
        BlockReason::Unmanaged { pod } => {
            format!("{}; evict it with --force-unmanaged", pod_holds(pod, "has no controller that would make it again"))
        }
        BlockReason::EmptyDir { pod } => {
            format!("{}; drop it with --delete-emptydir-data", pod_holds(pod, "keeps data in an emptyDir"))
        }
        BlockReason::ToleratesCordon { pod } => pod_holds(pod, "tolerates the cordon: it would come straight back"),
        BlockReason::NeverFrees { pod, budget } => {
            pod_holds(pod, &format!("is covered by disruption budget {budget}, which never allows an eviction"))
        }
        BlockReason::SeveralBudgets { pod, budgets } => {
            pod_holds(pod, &format!("is covered by more than one disruption budget ({})", keys(budgets)))
        }
        BlockReason::NotOurs { what } => format!("left alone: {what}"),
        BlockReason::Ledger { why } => format!("its surge cannot be told: {why}"),
        BlockReason::Unbalanced { max, min } => {
            format!("its zones hold {min} to {max} nodes: AZRebalance stays suspended, or it would terminate some")
        }
        BlockReason::Skipped { why } => format!("given up: {why}"),
    }
}

/// A stage in one word.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Launching => "launching",
        Stage::Running => "running",
        Stage::Joined => "joined",
        Stage::Ready => "ready",
        Stage::Functional => "functional",
        Stage::Failed => "failed",
        Stage::Selected => "selected",
        Stage::Draining => "draining",
        Stage::Drained => "drained",
        Stage::Deregistering => "leaving LBs",
        Stage::Terminating => "terminating",
        Stage::Skipped => "skipped",
    }
}

/// Whether a stage is one of a replacement.
pub fn is_new(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Launching | Stage::Running | Stage::Joined | Stage::Ready | Stage::Functional | Stage::Failed
    )
}

/// How a rotation ended, and what follows from it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Done => "done",
        Verdict::Incomplete => "incomplete; run it again to go on",
        Verdict::TargetChanged => "ended because a group's target changed; run it again for the new one",
        Verdict::CanaryFailed => "stopped: the canary failed, nothing else was drained",
        Verdict::FailureBudget => "stopped: too many replacements failed",
        Verdict::Stuck => "stopped: something took longer than allowed",
        Verdict::Aborted => "aborted, everything put back",
    }
}

/// Who an event is about: the Node, else the instance, else the group.
pub fn who(about: &About) -> Text {
    let node = about.node.as_ref().map(|n| Text::from(super::text::short(n.as_str())));
    node.or_else(|| about.instance.as_ref().map(|i| i.0.clone()))
        .or_else(|| about.group.as_ref().map(|g| format!("an instance of {g}").into()))
        .unwrap_or_else(|| "?".into())
}

/// `(web-a, us-west-2a)`, as far as known and not said already.
pub fn place(about: &About) -> String {
    let mut out = String::new();
    let named = about.node.is_some() || about.instance.is_some();
    let parts = [about.group.as_ref().filter(|_| named).map(|g| g.as_str()), about.zone.as_ref().map(|z| z.as_str())];
    for part in parts.into_iter().flatten() {
        let _ = write!(out, "{}{part}", if out.is_empty() { " (" } else { ", " });
    }
    if !out.is_empty() {
        out.push(')');
    }
    out
}
