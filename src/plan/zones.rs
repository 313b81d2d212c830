//! In which zone the next old node is drained.
//!
//! Capacity is a fact of a group *and* a zone: an old node goes where a functional replacement has come, so
//! that no zone loses what it had. But the group launches each replacement where it has the fewest instances,
//! and the last terminations launch nothing: so whatever zone is above its share at that time must still have
//! old nodes to give. The last old nodes of such a zone are held back.

use std::collections::BTreeMap;

use super::canary;
use super::group::Group;
use super::pass::Pass;
use crate::model::{InstanceId, Zone};
use crate::observe::{Member, Stray};

/// A zone as the choice sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) zone: Zone,
    /// Instances there will be once what is launching has come and what is draining has gone.
    pub(super) total: u32,
    /// Candidates among them.
    pub(super) old: u32,
    /// Nodes that count as capacity now.
    pub(super) serving: u32,
}

/// A zone, in the order in which zones are to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) zone: Zone,
    /// A functional replacement there allows the drain; else it is the fullest zone's turn.
    pub(super) replaced: bool,
}

/// The order of zones for the next drain, and the zones that are held back for the end. A group that is `ending`
/// launches nothing any more: its old nodes go from where there are most instances.
pub(super) fn order(pass: &Pass<'_>, group: &Group<'_>, ending: bool) -> (Vec<Choice>, Vec<Zone>) {
    let (mut shares, shrink) = shares(pass, group);
    if ending {
        shares.sort_by_key(|s| (std::cmp::Reverse(s.total), s.zone.clone()));
        let old = shares.iter().filter(|s| s.old > 0);
        return (old.map(|s| Choice { zone: s.zone.clone(), replaced: true }).collect(), Vec::new());
    }
    choose(&shares, shrink, group.own / (shares.len().max(1) as u32))
}

/// Whether a drained old node, one of the last, has to be replaced all the same: its zone would end with the fewest
/// instances, more than one behind another that has a replacement to give back instead.
pub(super) fn is_needed_for_balance(pass: &Pass<'_>, group: &Group<'_>, id: &InstanceId) -> bool {
    let Some(member) = pass.derived.members.get(id) else { return false };
    let stays = |zone: &Zone| group.view.zones.get(zone).map_or(0, |v| v.staying);
    let (max, min) = spread(group.record.zones.iter().map(stays));
    let gives = |zone: &Zone| {
        let adopted = group.view.zones.get(zone).map_or(0, |v| v.adopted);
        stays(zone) == max && adopted + group.functional_in.get(zone).copied().unwrap_or(0) > 0
    };
    max - min > 1 && stays(&member.zone) == min && group.missing == 0 && group.record.zones.iter().any(gives)
}

/// The replacement to give back: one whose zone can best spare it, of these the one with the fewest pods to move
/// again, of equals the newest. One that pods have been steered away from for that goes before others.
pub(super) fn surplus(pass: &Pass<'_>, group: &Group<'_>) -> Option<InstanceId> {
    let adopted = group.view.adopted.iter().map(|(_, id)| id);
    let member = |id: &InstanceId| pass.derived.members.get(id);
    // One that was let go once, its drain having run out, is not taken again.
    let skipped = |m: &Member| m.node.as_ref().is_some_and(|node| pass.rotation.skipped.contains_key(node));
    let without = |zone: &Zone| {
        let counts = group.record.zones.iter().map(|z| {
            let staying = group.view.zones.get(z).map_or(0, |v| v.staying);
            staying.saturating_sub(u32::from(z == zone))
        });
        let (max, min) = spread(counts);
        (max - min).max(1)
    };
    let pods = |m: &Member| {
        let on = m.node.iter().flat_map(|node| pass.snapshot.pods_on(node));
        on.filter(|p| !p.is_daemon() && !p.flags.mirror && !p.is_finished()).count()
    };
    let replacements = adopted.chain(&group.fresh).filter_map(|id| Some((id, member(id)?)));
    let rank = |(id, m): &(&InstanceId, &std::sync::Arc<Member>)| {
        (without(&m.zone), !m.tainted, pods(m), std::cmp::Reverse(m.born), std::cmp::Reverse((*id).clone()))
    };
    // What another target launched may be the first of its canary; it stays until something else has proved itself.
    let stays = |m: &Member| m.stray != Stray::No && !canary::works(pass, group);
    replacements.filter(|(_, m)| !skipped(m) && !stays(m)).min_by_key(rank).map(|(id, _)| id.clone())
}

/// The replacement that will be given back once `id`, one of the last old nodes, has been replaced for its zone's
/// sake: pods are steered away from it first, so that they do not move twice. None where no other one could take
/// them.
pub(super) fn surplus_after(pass: &Pass<'_>, group: &Group<'_>, id: &InstanceId) -> Option<InstanceId> {
    let others = group.view.adopted.len() as u32 + group.functional > 1;
    let last = group.remaining <= group.spare(pass);
    if !others || !last || !is_needed_for_balance(pass, group, id) {
        return None;
    }
    surplus(pass, group)
}

/// Whether one more node of a zone may stop serving: it keeps its even share of what the group promises, but one,
/// or has a working replacement for each node of it in hand. The one comes back: the group launches where there
/// are fewest.
pub(super) fn keeps_its_share(pass: &Pass<'_>, group: &Group<'_>, zone: &Zone) -> bool {
    let view = group.view.zones.get(zone);
    let picked = group.picked.get(zone).copied().unwrap_or(0);
    let functional = group.functional_in.get(zone).copied().unwrap_or(0);
    let serving = (view.map_or(0, |v| v.serving) + functional).saturating_sub(picked);
    let share = group.promised() / (group.record.zones.len().max(1) as u32);
    if serving >= share {
        return true;
    }
    let drained =
        pass.derived.select(&group.view.draining).filter(|(_, m)| m.zone == *zone && m.counted).count() as u32;
    view.map_or(0, |v| v.adopted) + functional + group.limits.unavailable > drained + picked
}

/// Whether the zones' counts differ by at most one.
pub(super) fn spread(counts: impl Iterator<Item = u32> + Clone) -> (u32, u32) {
    (counts.clone().max().unwrap_or(0), counts.min().unwrap_or(0))
}

fn shares(pass: &Pass<'_>, group: &Group<'_>) -> (Vec<Share>, u32) {
    let mut by_zone: BTreeMap<&Zone, Share> = BTreeMap::new();
    for zone in group.record.zones.iter().chain(group.view.zones.keys()) {
        by_zone.entry(zone).or_insert_with(|| {
            let view = group.view.zones.get(zone);
            let picked = group.picked.get(zone).copied().unwrap_or(0);
            let old = view.map_or(0, |v| v.candidates.len() as u32).saturating_sub(picked);
            let functional = group.functional_in.get(zone).copied().unwrap_or(0);
            Share {
                zone: zone.clone(),
                total: view.map_or(0, |v| v.staying) + old,
                old,
                serving: (view.map_or(0, |v| v.serving) + functional).saturating_sub(picked),
            }
        });
    }
    let mut shares: Vec<Share> = by_zone.into_values().collect();
    // Nodes in hand beyond our surge are replaced; so is what desired says and nobody has launched yet.
    let in_hand = group.in_drain + group.picked.values().sum::<u32>();
    let surge = group.spare(pass) + group.to_raise;
    let replaced = in_hand.min(group.remaining.saturating_sub(surge));
    let launches = group.missing + group.to_raise + replaced;
    for _ in 0..launches {
        if let Some(fewest) = shares.iter_mut().min_by_key(|s| s.total) {
            fewest.total += 1;
        }
    }
    (shares, surge.saturating_sub(in_hand - replaced))
}

/// `shrink` more terminations will launch nothing; `even` is a zone's even share of the group's own desired.
fn choose(shares: &[Share], shrink: u32, even: u32) -> (Vec<Choice>, Vec<Zone>) {
    let old: u32 = shares.iter().map(|s| s.old).sum();
    let last = old <= shrink;
    let ends = end(shares, shrink);
    let mut tried: Vec<(u32, bool, i64, &Share)> = Vec::new();
    for (at, share) in shares.iter().enumerate().filter(|(_, s)| s.old > 0) {
        let worst = if last { 0 } else { worst_end(shares, at, shrink).saturating_sub(1) };
        let surplus = i64::from(share.serving) - i64::from(ends[at].max(even));
        tried.push((worst, surplus >= 1, surplus, share));
    }
    let best = tried.iter().map(|t| t.0).min().unwrap_or(0);
    let held = tried.iter().filter(|t| t.0 > best).map(|t| t.3.zone.clone()).collect();
    tried.retain(|t| t.0 == best);
    // Zones with a functional replacement first; else the fullest. Ties go to the one with most left to do.
    tried.sort_by_key(|(_, replaced, surplus, share)| {
        let full = if *replaced { *surplus } else { i64::from(share.serving) };
        (!replaced, -full, std::cmp::Reverse(share.old), share.zone.clone())
    });
    let order = tried.into_iter().map(|t| Choice { zone: t.3.zone.clone(), replaced: t.1 }).collect();
    (order, held)
}

/// The zones' counts at the end, if `shrink` old nodes go from the fullest zones that have any.
fn end(shares: &[Share], shrink: u32) -> Vec<u32> {
    let mut counts: Vec<u32> = shares.iter().map(|s| s.total).collect();
    let mut old: Vec<u32> = shares.iter().map(|s| s.old).collect();
    for _ in 0..shrink {
        let fullest = (0..counts.len()).filter(|z| old[*z] > 0).max_by_key(|z| (counts[*z], old[*z]));
        let Some(zone) = fullest else { break };
        counts[zone] -= 1;
        old[zone] -= 1;
    }
    counts
}

/// The widest the group can end at, if the next old node goes from zone `at` and its replacement comes to any
/// of the zones that then have the fewest.
fn worst_end(shares: &[Share], at: usize, shrink: u32) -> u32 {
    let mut after = shares.to_vec();
    after[at].total = after[at].total.saturating_sub(1);
    after[at].old = after[at].old.saturating_sub(1);
    let fewest = after.iter().map(|s| s.total).min().unwrap_or(0);
    let landings = (0..after.len()).filter(|z| after[*z].total == fewest);
    let ends = landings.map(|zone| {
        let mut landed = after.clone();
        landed[zone].total += 1;
        let (max, min) = spread(end(&landed, shrink).into_iter());
        max - min
    });
    ends.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(of: &[(&str, u32, u32, u32)]) -> Vec<Share> {
        of.iter().map(|&(zone, total, old, serving)| Share { zone: zone.into(), total, old, serving }).collect()
    }

    fn first(of: &[(&str, u32, u32, u32)], shrink: u32) -> Option<(String, bool)> {
        let all = shares(of);
        let even = (all.iter().map(|s| s.total).sum::<u32>() - shrink) / all.len() as u32;
        choose(&all, shrink, even).0.first().map(|c| (c.zone.to_string(), c.replaced))
    }

    #[test]
    fn the_zone_of_the_functional_replacement_goes_first() {
        assert_eq!(first(&[("a", 2, 2, 2), ("b", 3, 2, 3), ("c", 2, 2, 2)], 1), Some(("b".into(), true)));
    }

    #[test]
    fn a_zone_whose_last_old_node_is_needed_at_the_end_is_held_back() {
        // b has one more than its share and one old node: were it drained and replaced elsewhere, nobody in b
        // could go at the end.
        let zones = [("a", 3, 1, 3), ("b", 4, 1, 4), ("c", 3, 0, 3)];
        assert_eq!(first(&zones, 1), Some(("a".into(), false)));
        assert_eq!(choose(&shares(&zones), 1, 3).1, [Zone::from("b")]);
    }

    #[test]
    fn with_only_decrements_left_every_old_node_may_go() {
        assert_eq!(first(&[("a", 4, 1, 4), ("b", 4, 1, 4), ("c", 4, 1, 4)], 3), Some(("a".into(), true)));
    }

    /// Plays groups of every small shape to the end, the group's launches landing wherever ties allow.
    #[test]
    fn a_surge_of_one_always_ends_balanced() {
        for start in [[2, 2, 2], [3, 2, 2], [3, 3, 2], [1, 1, 1], [2, 1, 1], [4, 4, 4]] {
            for tie in 0..3usize {
                let mut old = start;
                let mut new = [0u32; 3];
                let land = |old: &[u32; 3], new: &mut [u32; 3]| {
                    let total = |z: usize| old[z] + new[z];
                    let fewest = (0..3).map(total).min().unwrap();
                    let mut zones = (0..3).map(|i| (i + tie) % 3);
                    let zone = zones.find(|z| total(*z) == fewest).unwrap();
                    new[zone] += 1;
                };
                land(&old, &mut new);
                while old.iter().sum::<u32>() > 0 {
                    let names = ["a", "b", "c"];
                    let state: Vec<_> = (0..3).map(|z| (names[z], old[z] + new[z], old[z], old[z] + new[z])).collect();
                    let zone = first(&state, 1).unwrap().0;
                    old[names.iter().position(|n| *n == zone).unwrap()] -= 1;
                    if old.iter().sum::<u32>() > 0 {
                        land(&old, &mut new);
                    }
                }
                let (max, min) = spread(new.into_iter());
                assert!(max - min <= 1, "{start:?} with ties from {tie} ends at {new:?}");
            }
        }
    }
}
