//! Settling the ledger's step in hand by what the world shows.

use super::pass::Pass;
use super::{Action, ActionKey, ActionReason};
use crate::model::{Activity, ActivityStatus, InstanceId, Ledger, Lifecycle, NodeGroup, Step, Text, marks};

/// A group's ledger as far as it can be told.
pub(super) struct Reading {
    /// The confirmed count stands; a settled step is folded in.
    pub(super) ledger: Ledger,
    /// Why nothing may be raised or lowered.
    pub(super) fault: Option<Text>,
}

/// Reads a group's ledger, and plans to settle a step that nobody is taking any more.
pub(super) fn read(pass: &mut Pass<'_>, group: &NodeGroup) -> Reading {
    let Some(tag) = group.tags.get(marks::TAG_SURGE) else {
        return Reading { ledger: Ledger::settled(0), fault: None };
    };
    let ledger = match Ledger::parse(tag) {
        Ok(ledger) => ledger,
        Err(error) => return Reading { ledger: Ledger::settled(0), fault: Some(error.to_string().into()) },
    };
    let Some(step) = &ledger.step else {
        let fault = sunk(group, &ledger);
        return Reading { ledger, fault };
    };
    if pass.in_flight(&ActionKey::Group(group.name.clone())) {
        return Reading { ledger, fault: None };
    }
    match settle(pass, group, step) {
        Some(applied) => {
            let change = i64::from(step.to) - i64::from(step.from);
            let confirmed = i64::from(ledger.confirmed) + if applied { change } else { 0 };
            let settled = Ledger::settled(u32::try_from(confirmed).unwrap_or(0));
            let action = Action::SettleLedger { group: group.name.clone(), ledger: settled.clone() };
            pass.act(action, ActionReason::StepSettled { applied });
            Reading { ledger: settled, fault: None }
        }
        None => {
            let why = format!(
                "it announced a change of desired from {} to {} at {}, and neither the group (desired {}) nor its \
                 activities tell whether that happened",
                step.from, step.to, step.at, group.desired
            );
            Reading { ledger, fault: Some(why.into()) }
        }
    }
}

/// Why the surge cannot be told from the group's own size: somebody has lowered desired so far that with our surge in
/// it the rest would be below the minimum.
fn sunk(group: &NodeGroup, ledger: &Ledger) -> Option<Text> {
    let (desired, min, surge) = (group.desired, group.min, ledger.confirmed);
    let sunk = surge > 0 && desired < min.saturating_add(surge);
    let why =
        || format!("somebody lowered its desired to {desired}: less our {surge} that is below its minimum, {min}");
    sunk.then(|| why().into())
}

/// Whether the group's tag holds a step, whatever this pass makes of it.
pub(super) fn has_step(group: &NodeGroup) -> bool {
    group.tags.get(marks::TAG_SURGE).and_then(|tag| Ledger::parse(tag).ok()).is_some_and(|l| l.step.is_some())
}

/// Whether the step took effect; `None` where that cannot be told.
fn settle(pass: &Pass<'_>, group: &NodeGroup, step: &Step) -> Option<bool> {
    let activities = pass.snapshot.activities.get(&group.name).map_or(&[][..], Vec::as_slice);
    let since: Vec<&Activity> = activities.iter().filter(|a| a.started >= step.at).collect();
    match &step.instance {
        Some(instance) => settle_down(pass, group, step, instance, &since),
        None => {
            let shown = format!("changing the desired capacity from {} to {}", step.from, step.to);
            if since.iter().any(|a| a.cause.contains(&shown)) {
                return Some(true);
            }
            let others = since.iter().any(|a| a.cause.contains("changing the desired capacity"));
            match group.desired {
                desired if others => (desired == step.from).then_some(false),
                desired if desired == step.to => Some(true),
                desired if desired == step.from => Some(false),
                _ => None,
            }
        }
    }
}

fn settle_down(
    pass: &Pass<'_>,
    group: &NodeGroup,
    step: &Step,
    instance: &InstanceId,
    since: &[&Activity],
) -> Option<bool> {
    match pass.snapshot.instances.get(instance).map(|i| &i.lifecycle) {
        Some(lifecycle) if lifecycle.is_leaving() => Some(true),
        Some(Lifecycle::InService | Lifecycle::Pending) if group.desired == step.from => Some(false),
        Some(_) => None,
        None => {
            let shrinking = |a: &&Activity| {
                a.instance.as_ref() == Some(instance)
                    && a.status != ActivityStatus::Failed
                    && a.cause.contains("user request")
                    && a.cause.contains("shrinking the capacity")
            };
            (since.iter().any(shrinking) || group.desired == step.to).then_some(true)
        }
    }
}
