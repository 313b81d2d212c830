//! Terminations: sent once, and read again where no reply came.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::groups::{had_no_effect, write_ledger};
use super::{Effect, FENCED_DEADLINE, Fault, Tools, UNFENCED_DEADLINE, retry};
use crate::cloud::{Cloud, ErrorKind, GroupState};
use crate::cluster::Cluster;
use crate::model::{GroupName, InstanceId, Ledger};

/// A call that got no reply may still be on its way: it is given this long before the groups are read again.
const SETTLE: Duration = Duration::from_secs(3);
/// What so many readings do not show, as far apart, has not happened: an answer may be older than its question.
const READINGS: u32 = 3;

/// Terminates an instance; with decrement, the ledger is written before and after it.
///
/// The caller has read the groups a moment ago; the instance id is the precondition, as AWS takes no other.
pub(super) async fn terminate<C: Cloud, K: Cluster>(
    tools: &Tools<C, K>,
    instance: &InstanceId,
    group: &GroupName,
    ledgers: Option<&(Ledger, Ledger)>,
    effects: &mut Vec<Effect>,
) -> Result<(), Fault> {
    if let Some((before, _)) = ledgers {
        write_ledger(tools, group, before, effects).await?;
    }
    tools.locked()?;
    let sent = retry::within(UNFENCED_DEADLINE, tools.cloud.terminate(instance, ledgers.is_some())).await;
    match sent {
        Ok(_) => {}
        Err(fault) if had_no_effect(&fault) => {
            if let Some((before, _)) = ledgers {
                write_ledger(tools, group, &Ledger::settled(before.confirmed), effects).await?;
            }
            // Without decrement it is done when the instance is gone, by whomever. With decrement somebody
            // else's termination has taken no surge of ours away.
            return match fault {
                Fault::Cloud(e) if e.kind == ErrorKind::NotFound && ledgers.is_none() => {
                    effects.push(Effect::Terminating(instance.clone()));
                    Ok(())
                }
                fault => Err(fault),
            };
        }
        Err(fault) => {
            let leaves = read_again(tools, effects, |states| {
                let mut all = states.iter().flat_map(|s| &s.instances);
                let stays = all.find(|i| i.id == *instance).is_some_and(|i| !i.lifecycle.is_leaving());
                (!stays).then_some(())
            });
            if leaves.await?.is_none() {
                return Err(fault);
            }
            // That the instance leaves does not tell by which call: the planner settles the step by the
            // group's activities.
            if ledgers.is_some() {
                effects.push(Effect::Terminating(instance.clone()));
                return Err(fault);
            }
        }
    }
    effects.push(Effect::Terminating(instance.clone()));
    if let Some((before, after)) = ledgers {
        if let Some(step) = &before.step {
            effects.push(Effect::Desired(group.clone(), step.to));
        }
        write_ledger(tools, group, after, effects).await?;
    }
    Ok(())
}

/// Reads the groups after a call whose outcome is unknown, until they show what it was to change; `None` where they
/// do not.
///
/// # Errors
/// If they cannot be read.
pub(super) async fn read_again<C: Cloud, K: Cluster, T>(
    tools: &Tools<C, K>,
    effects: &mut Vec<Effect>,
    shows: impl Fn(&[GroupState]) -> Option<T>,
) -> Result<Option<T>, Fault> {
    let mut left = READINGS;
    loop {
        sleep(tools.jitter.stretch(SETTLE)).await;
        let began = Instant::now();
        let states = retry::within(FENCED_DEADLINE, tools.cloud.groups(&tools.name)).await?;
        let seen = shows(&states);
        left -= 1;
        if seen.is_some() || left == 0 {
            effects.push(Effect::Groups(states, began));
            return Ok(seen);
        }
    }
}
