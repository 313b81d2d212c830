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
    /// How much of the confirmed count is below the group's minimum: somebody has lowered desired since.
    pub(super) sunk: u32,
}

impl Reading {
    fn settled(group: &NodeGroup, ledger: Ledger) -> Self {
        let room = group.desired.saturating_sub(group.min);
        Self { sunk: ledger.confirmed.saturating_sub(room), ledger, fault: None }
    }

    fn faulty(ledger: Ledger, why: Text) -> Self {
        Self { ledger, fault: Some(why), sunk: 0 }
    }
}

/// Reads a group's ledger, and plans to settle a step that nobody is taking any more.
pub(super) fn read(pass: &mut Pass<'_>, group: &NodeGroup) -> Reading {
    let Some(tag) = group.tags.get(marks::TAG_SURGE) else {
        return Reading::settled(group, Ledger::settled(0));
    };
    let ledger = match Ledger::parse(tag) {
        Ok(ledger) => ledger,
        Err(error) => return Reading::faulty(Ledger::settled(0), error.to_string().into()),
    };
    let Some(step) = &ledger.step else {
        return Reading::settled(group, ledger);
    };
    if pass.in_flight(&ActionKey::Group(group.name.clone())) {
        return Reading { ledger, fault: None, sunk: 0 };
    }
    match settle(pass, group, step) {
        Some(applied) => {
            let change = i64::from(step.to) - i64::from(step.from);
            let confirmed = i64::from(ledger.confirmed) + if applied { change } else { 0 };
            let settled = Ledger::settled(u32::try_from(confirmed).unwrap_or(0));
            let action = Action::SettleLedger { group: group.name.clone(), ledger: settled.clone() };
            pass.act(action, ActionReason::StepSettled { applied });
            Reading::settled(group, settled)
        }
        None => {
            let why = format!(
                "it announced a change of desired from {} to {} at {}, and neither the group (desired {}) nor its \
                 activities tell whether that happened",
                step.from, step.to, step.at, group.desired
            );
            Reading::faulty(ledger, why.into())
        }
    }
}

/// What is said of a surge of which so much cannot be told from the group's own size: less the rest of it, the group
/// would be below its minimum. What is above the minimum is given back; the rest is for whoever lowered it to say.
pub(super) fn why_sunk(group: &NodeGroup, ledger: &Ledger, sunk: u32) -> Text {
    let (desired, min, surge) = (group.desired, group.min, ledger.confirmed);
    format!(
        "somebody lowered its desired to {desired}: less our {surge} that is below its minimum, {min}; raise it by \
         {sunk}, or remove the tag {}",
        marks::TAG_SURGE
    )
    .into()
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
    let shrinking = |a: &&Activity| {
        a.instance.as_ref() == Some(instance)
            && a.status != ActivityStatus::Failed
            && a.cause.contains("user request")
            && a.cause.contains("shrinking the capacity")
    };
    // Activities are not taken back; a reading of the group may be older than they are.
    if since.iter().any(shrinking) {
        return Some(true);
    }
    match pass.snapshot.instances.get(instance).map(|i| &i.lifecycle) {
        Some(lifecycle) if lifecycle.is_leaving() => Some(true),
        Some(Lifecycle::InService | Lifecycle::Pending) if group.desired == step.from => Some(false),
        Some(_) => None,
        None => (group.desired == step.to).then_some(true),
    }
}
