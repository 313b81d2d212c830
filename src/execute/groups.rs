//! Changes of Auto Scaling groups, and the surge's ledger around every change of desired.
//!
//! ```text
//! tag(before) -> read: desired is from -> set desired -> tag(after)
//!                  |                         |
//!                  |                         +- no reply -> read the groups -> desired = to:   tag(after)
//!                  |                         |                              -> desired = from: left to the planner,
//!                  |                         |                                 which settles the step
//!                  +- it is not -------------+- refused --> nothing happened -> tag(settled at what it was)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{Effect, Fault, Tools, UNFENCED_DEADLINE, instances, retry};
use crate::cloud::{self, Cloud, ErrorKind};
use crate::cluster::Cluster;
use crate::model::marks::TAG_SURGE;
use crate::model::{GroupName, InstanceId, Ledger, Process, Text};

pub(super) async fn tag<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    tags: &BTreeMap<Text, Text>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    retry::repeat(&tools.jitter, || tools.locked(), || tools.cloud.tag(group, tags)).await?;
    let set = tags.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
    effects.push(Effect::Tags(group.clone(), set));
    Ok(())
}

pub(super) async fn untag<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    keys: &BTreeSet<Text>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    retry::repeat(&tools.jitter, || tools.locked(), || tools.cloud.untag(group, keys)).await?;
    effects.push(Effect::Tags(group.clone(), keys.iter().map(|k| (k.clone(), None)).collect()));
    Ok(())
}

pub(super) async fn suspend<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    processes: &BTreeSet<Process>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    retry::repeat(&tools.jitter, || tools.locked(), || tools.cloud.suspend(group, processes)).await?;
    effects.push(Effect::Processes(group.clone(), processes.clone(), true));
    Ok(())
}

pub(super) async fn resume<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    processes: &BTreeSet<Process>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    retry::repeat(&tools.jitter, || tools.locked(), || tools.cloud.resume(group, processes)).await?;
    effects.push(Effect::Processes(group.clone(), processes.clone(), false));
    Ok(())
}

pub(super) async fn set_max<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    to: u32,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    retry::within(UNFENCED_DEADLINE, tools.cloud.set_max(group, to)).await?;
    effects.push(Effect::Max(group.clone(), to));
    Ok(())
}

/// Changes scale-in protection, never before the record says how it was.
pub(super) async fn protect<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    ids: &[InstanceId],
    protected: bool,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    if tools.record.lacks_protection(ids) {
        return Err(Fault::Changed(format!("the former protection of an instance of {group} is not recorded yet")));
    }
    retry::repeat(&tools.jitter, || tools.locked(), || tools.cloud.protect(group, ids, protected)).await?;
    effects.push(Effect::Protection(ids.to_vec(), protected));
    Ok(())
}

/// Writes the ledger's tag.
pub(super) async fn write_ledger<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    ledger: &Ledger,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    tag(tools, group, &BTreeMap::from([(TAG_SURGE.into(), ledger.to_tag().into())]), effects).await
}

pub(super) async fn resize<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    (from, to): (u32, u32),
    (before, after): (&Ledger, &Ledger),
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    write_ledger(tools, group, before, effects).await?;
    // The call is absolute: what somebody else has set since the plan was made would be lost.
    let now = desired_now(tools, group, effects).await?;
    if now != Some(from) {
        write_ledger(tools, group, &Ledger::settled(before.confirmed), effects).await?;
        let now = now.map_or_else(|| "gone".to_owned(), |now| now.to_string());
        return Err(Fault::Changed(format!("desired of {group} is {now}, and was {from} a moment ago")));
    }
    tools.locked()?;
    match retry::within(UNFENCED_DEADLINE, tools.cloud.set_desired(group, to)).await {
        Ok(()) => {}
        Err(fault) if had_no_effect(&fault) => {
            write_ledger(tools, group, &Ledger::settled(before.confirmed), effects).await?;
            return Err(fault);
        }
        Err(fault) => {
            let seen = instances::read_again(tools, effects, |states| {
                let desired = states.iter().find(|s| s.group.name == *group).map(|s| s.group.desired);
                (desired != Some(from)).then_some(desired)
            });
            match seen.await? {
                Some(Some(desired)) if desired == to => {}
                None => return Err(fault),
                Some(_) => return Err(Fault::Changed(format!("desired of {group} is neither {from} nor {to}"))),
            }
        }
    }
    effects.push(Effect::Desired(group.clone(), to));
    write_ledger(tools, group, after, effects).await
}

/// A group's desired capacity as it is now; `None` where the group is gone.
async fn desired_now<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    group: &GroupName,
    effects: &mut Vec<Effect>,
) -> Result<Option<u32>, Fault> {
    let began = Instant::now();
    let states = retry::within(UNFENCED_DEADLINE, tools.cloud.groups(&tools.name)).await?;
    let desired = states.iter().find(|s| s.group.name == *group).map(|s| s.group.desired);
    effects.push(Effect::Groups(states, began));
    Ok(desired)
}

/// Whether a call that was sent once is known to have done nothing.
pub(super) fn had_no_effect(fault: &Fault) -> bool {
    let Fault::Cloud(cloud::Error { kind, .. }) = fault else { return false };
    match kind {
        ErrorKind::Throttled
        | ErrorKind::Unavailable
        | ErrorKind::Credentials
        | ErrorKind::Denied
        | ErrorKind::NotFound
        | ErrorKind::Busy
        | ErrorKind::Refused => true,
        ErrorKind::UnknownOutcome | ErrorKind::Other => false,
    }
}
