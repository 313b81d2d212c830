//! Which nodes a verb that only looks is asked about.

use super::exit::Exit;
use super::failure::Failure;
use crate::model::GroupName;
use crate::observe::Snapshot;
use crate::policy::Policy;

/// Refuses names of groups and nodes that are not in the cluster: they are mistakes, not an empty scope.
///
/// # Errors
/// If there is one.
pub(super) fn check(policy: &Policy, snapshot: &Snapshot) -> Result<(), Failure> {
    let refuse = |why: String, hint: String| Err(Failure::new(Exit::Refused, why).hint(hint));
    if let Some(group) = policy.scope.groups.iter().find(|g| !snapshot.groups.contains_key(*g)) {
        let there: Vec<&str> = snapshot.groups.keys().map(GroupName::as_str).collect();
        let why = format!("{}: there is no Auto Scaling group {group}", snapshot.cluster);
        return refuse(why, format!("its groups are {}", there.join(", ")));
    }
    match policy.scope.nodes.iter().find(|n| !snapshot.nodes.contains_key(*n)) {
        Some(node) => {
            refuse(format!("{}: there is no node {node}", snapshot.cluster), "kubectl get nodes lists them".to_owned())
        }
        None => Ok(()),
    }
}
