//! Whether a fix that is in place has helped: the nodes there are, those from before it beside those since. Pure.
//!
//! A run that applies a fix may be over before the next node joins, or have died. What is compared with is kept in the
//! fix's record; what came of it the nodes show for as long as they still have the pods that they started with. So
//! any later look can tell, whoever applied it.

use std::fmt;

use jiff::Timestamp;

use super::catalogue::{Catalogue, Patch, Remedial};
use super::proposal::State;
use super::record::Mark;
use super::remedy::Proposal;
use super::verify::{Effect, Start, compare, middle};
use crate::model::{DaemonSet, ObjectKey, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::stages::{self, Stage, start_of};

/// What can be told of a fix that is in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// A new node has shown it, now or to the rotation that wrote it down.
    Judged(Effect),
    /// No new node has shown it yet.
    Unseen,
    /// The next fix came before a new node had shown this one, or its rollout took away what that node had shown.
    Overtaken,
    /// It shows once new nodes register with its taint, and then in pods that do not fail, not in how nodes start.
    Elsewhere,
    /// With what a new node would have to be compared is not known.
    Incomparable,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged(effect) => effect.fmt(f),
            Self::Unseen => f.write_str("not verified yet: no new node has shown whether it helps"),
            Self::Overtaken => f.write_str("not verified by itself: new nodes show it together with a later fix"),
            Self::Elsewhere => f.write_str("it has an effect once new nodes register with the taint"),
            Self::Incomparable => f.write_str("not verified: how nodes started before it is not known"),
        }
    }
}

/// How nodes that are there have started, as far as they still show it, by the time at which they joined: those on
/// which the DaemonSet runs with the pod that came with them.
fn starts(policy: &Policy, snapshot: &Snapshot, set: &ObjectKey) -> Vec<(Timestamp, Start)> {
    let requests = stages::requests(snapshot);
    let measured = snapshot.nodes.values().filter_map(|node| start_of(policy, snapshot, node, &requests).ok());
    let with_it = measured.filter(|start| start.daemonsets.iter().any(|chain| chain.daemonset == *set));
    let mut starts: Vec<_> = with_it
        .filter_map(|start| {
            let seconds = start.moments.seconds(Stage::Start)?;
            Some((start.moments.joined, Start { seconds, restarts: start.restarts() }))
        })
        .collect();
    starts.sort_by_key(|(joined, _)| *joined);
    starts
}

/// How nodes start before a fix of this DaemonSet: the middle one of those that still show it, and how many these are.
pub fn baseline(policy: &Policy, snapshot: &Snapshot, set: &ObjectKey) -> Option<(Start, usize)> {
    let starts: Vec<Start> = starts(policy, snapshot, set).into_iter().map(|(_, start)| start).collect();
    Some((middle(&starts)?, starts.len()))
}

/// What can be told of a fix by its mark on the DaemonSet.
pub fn standing(policy: &Policy, snapshot: &Snapshot, remedial: &Remedial, mark: &Mark) -> Standing {
    if let Some(effect) = mark.effect {
        return Standing::Judged(effect);
    }
    if matches!(remedial.fix.patch, Patch::StartupTaint { .. }) {
        return Standing::Elsewhere;
    }
    let Some(before) = mark.baseline else { return Standing::Incomparable };
    let since: Vec<_> =
        starts(policy, snapshot, &remedial.daemonset).into_iter().filter(|(joined, _)| *joined >= mark.at).collect();
    // What joined before the next fix came speaks of this one alone.
    let next = snapshot.daemonsets.values().flat_map(|set| Mark::all(set).map(|(_, mark)| mark.at).collect::<Vec<_>>());
    let until = next.filter(|at| *at > mark.at).min();
    let alone = since.iter().filter(|(joined, _)| until.is_none_or(|until| *joined < until));
    let shown: Vec<Start> = alone.map(|(_, start)| *start).collect();
    match middle(&shown).and_then(|after| compare(&[before], after, &remedial.fix.verify)) {
        Some(effect) => Standing::Judged(effect),
        None if since.is_empty() => Standing::Unseen,
        None => Standing::Overtaken,
    }
}

/// What can be told of a fix that was proposed anew and is in place; `None` of one that is not.
pub fn of_proposal(policy: &Policy, snapshot: &Snapshot, proposal: &Proposal) -> Option<Standing> {
    let State::Applied(record) = &proposal.state else { return None };
    Some(standing(policy, snapshot, &proposal.remedial, &Mark::of(record)))
}

/// The fixes that stand on a cluster's DaemonSets, as the catalogue names them; one that it does not know, which came
/// from a file of the user's, is left out.
pub fn marked<'a>(
    catalogue: &'a Catalogue,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = (Remedial, Mark, &'a DaemonSet)> {
    snapshot.daemonsets.values().flat_map(move |set| {
        let named = |fix: &Text| catalogue.find(&format!("{fix}:{}", set.key)).ok();
        Mark::all(set).filter_map(move |(fix, mark)| Some((named(fix)?, mark, set)))
    })
}

/// A line on each fix that stands on the cluster, with the command that takes back one without effect.
pub fn lines(policy: &Policy, snapshot: &Snapshot, catalogue: &Catalogue) -> Vec<Text> {
    let line = |(remedial, mark, _): (Remedial, Mark, &DaemonSet)| {
        let found = standing(policy, snapshot, &remedial, &mark);
        let back = back(&snapshot.cluster, &remedial.name, &found).map(|way| format!("; {way}")).unwrap_or_default();
        format!("the fix {} of {:.0}: {found}{back}", remedial.name, mark.at).into()
    };
    marked(catalogue, snapshot).map(line).collect()
}

/// How one without effect is taken back.
pub fn back(cluster: &str, fix: &str, standing: &Standing) -> Option<String> {
    let vain = matches!(standing, Standing::Judged(effect) if !effect.helped);
    vain.then(|| format!("fastnode fix --cluster {cluster} {fix} --revert takes it back"))
}
