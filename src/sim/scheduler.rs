//! The scheduler: nodes in an order kept up as they fill, a set for each group and zone.
//!
//! Filters: cordon, NoSchedule and NoExecute taints, CPU, memory, pod count, the volume's zone, a hard spread
//! over zones. Preferences, in this order: no PreferNoSchedule taint, the workload's emptiest zone, few pods
//! of the same workload, the least allocated node; ties by a seeded number (plugins TaintToleration 3,
//! PodTopologySpread 2 and NodeResourcesFit 1 of kube-scheduler's default weights).

use std::collections::BTreeSet;

use crate::cluster::Fact;
use crate::model::TaintEffect;

use super::scenario::ZoneSpread;
use super::workloads::Origin;
use super::world::World;

/// Fitting nodes that are compared for few pods of the same workload.
const COMPARED: usize = 4;

/// Open nodes by group and zone: those without a soft taint first, then the least allocated.
#[derive(Debug)]
pub(super) struct Cells {
    zones: usize,
    sets: Vec<BTreeSet<(bool, i64, u32, usize)>>,
}

impl Cells {
    pub(super) fn new(groups: usize, zones: usize) -> Self {
        Self { zones, sets: vec![BTreeSet::new(); groups * zones] }
    }

    fn at(&self, group: usize, zone: usize) -> &BTreeSet<(bool, i64, u32, usize)> {
        &self.sets[group * self.zones + zone]
    }

    fn at_mut(&mut self, group: usize, zone: usize) -> &mut BTreeSet<(bool, i64, u32, usize)> {
        &mut self.sets[group * self.zones + zone]
    }
}

impl World {
    /// Puts a node where it belongs in the scheduler's order, and lets pods that waited for room have it.
    pub(super) fn place_in_cell(&mut self, node: usize) {
        let state = &self.nodes[node];
        let (group, zone, tie) = (state.group, state.zone, state.tie);
        let open = !state.gone
            && !state.record.unschedulable
            && state.record.taints.iter().all(|t| t.effect == TaintEffect::PreferNoSchedule);
        let total = state.record.allocatable.get("cpu").copied().unwrap_or(1).max(1) as i64;
        let key = open.then(|| (!state.record.taints.is_empty(), (total - state.cpu) * 1000 / total));
        let old = state.cell_key;
        if old != key {
            let cell = self.cells.at_mut(group, zone);
            if let Some((soft, used)) = old {
                cell.remove(&(soft, used, tie, node));
            }
            if let Some((soft, used)) = key {
                cell.insert((soft, used, tie, node));
            }
            self.nodes[node].cell_key = key;
        }
        let better = match (old, key) {
            (None, Some(_)) => true,
            (Some((_, old)), Some((_, new))) => new < old,
            _ => false,
        };
        if better && !self.unschedulable.is_empty() {
            let waiting: Vec<u32> = self.unschedulable.iter().copied().filter(|p| self.fits(*p, node)).collect();
            waiting.into_iter().for_each(|p| self.schedule(p));
        }
    }

    fn fits(&self, pod: u32, node: usize) -> bool {
        let Some(pod) = &self.pods[pod as usize] else { return false };
        let node = &self.nodes[node];
        node.room >= 1 && node.cpu >= pod.record.cpu as i64 && node.memory >= pod.record.memory as i64
    }

    /// The scheduler looks at a pod that is not bound.
    pub(super) fn schedule(&mut self, id: u32) {
        let Some(pod) = &self.pods[id as usize] else { return };
        if pod.node.is_some() || pod.record.deleting.is_some() {
            self.unschedulable.remove(&id);
            return;
        }
        let Some(node) = self.pick_node(id) else {
            if self.unschedulable.insert(id) {
                let nodes = self.node_index.len();
                if let Some(pod) = self.live_pod(id) {
                    pod.record.unschedulable =
                        Some(format!("0/{nodes} nodes are available: no node has room for it and is open.").into());
                }
                self.tell_pod(id);
            }
            return;
        };
        self.unschedulable.remove(&id);
        self.bind(id, node);
        self.tell_pod(id);
        self.start_pod(id, node);
    }

    /// The node a pod would be put on now.
    pub(super) fn pick_node(&self, id: u32) -> Option<usize> {
        let pod = self.pods[id as usize].as_ref()?;
        let Origin::Work { workload, .. } = pod.origin else { return None };
        let owner = &self.workloads[workload];
        let bound = pod.volume.and_then(|v| self.volumes[v].zone);
        let served = |zone: usize| owner.groups.iter().any(|g| self.groups[*g].zones.contains(&zone));
        let mut zones: Vec<(u32, usize)> =
            (0..self.zones.len()).filter(|z| served(*z)).map(|z| (owner.by_zone[z], z)).collect();
        if owner.spec.spread == ZoneSpread::Hard {
            let fewest = zones.iter().map(|(n, _)| *n).min()?;
            zones.retain(|(n, _)| *n == fewest);
        }
        zones.retain(|(_, z)| bound.is_none_or(|b| b == *z));
        match owner.spec.spread {
            ZoneSpread::None => zones.sort_unstable_by_key(|(_, z)| *z),
            ZoneSpread::Soft | ZoneSpread::Hard => zones.sort_unstable(),
        }
        let same = |node: &usize| owner.by_node.get(node).copied().unwrap_or(0);
        for soft in [false, true] {
            if owner.spec.spread == ZoneSpread::None {
                let all = zones.iter().flat_map(|(_, zone)| self.open_nodes(&owner.groups, *zone, soft, id));
                if let Some((_, _, _, node)) = all.map(|(used, tie, n)| (same(&n), used, tie, n)).min() {
                    return Some(node);
                }
                continue;
            }
            for (_, zone) in &zones {
                let here = self.open_nodes(&owner.groups, *zone, soft, id);
                if let Some((_, _, _, node)) = here.map(|(used, tie, n)| (same(&n), used, tie, n)).min() {
                    return Some(node);
                }
            }
        }
        None
    }

    /// The few least allocated nodes of a zone, in these groups, that have room for a pod.
    fn open_nodes<'a>(
        &'a self,
        groups: &'a [usize],
        zone: usize,
        soft: bool,
        pod: u32,
    ) -> impl Iterator<Item = (i64, u32, usize)> + 'a {
        groups.iter().flat_map(move |group| {
            let cell = self.cells.at(*group, zone);
            let open = cell.range((soft, i64::MIN, 0, 0)..=(soft, i64::MAX, u32::MAX, usize::MAX));
            open.filter(move |(_, _, _, n)| self.fits(pod, *n))
                .take(COMPARED)
                .map(|(_, used, tie, n)| (*used, *tie, *n))
        })
    }

    /// Binds a pod to a node.
    pub(super) fn bind(&mut self, id: u32, node: usize) {
        let outdated = !self.groups[self.nodes[node].group].is_current(&self.instances[self.nodes[node].instance]);
        let alternative = if self.now > 0 { self.alternative(id, node) } else { None };
        let name = self.nodes[node].record.name.clone();
        let zone = self.nodes[node].zone;
        let now = self.timestamp();
        let Some(pod) = self.live_pod(id) else { return };
        pod.node = Some(node);
        pod.alternative = alternative;
        pod.placed_badly = outdated && alternative.is_some();
        pod.record.node = Some(name);
        pod.record.scheduled = Some(now);
        pod.record.unschedulable = None;
        let (cpu, memory, origin) = (pod.record.cpu as i64, pod.record.memory as i64, pod.origin);
        if let Origin::Work { workload, .. } = origin {
            self.workloads[workload].by_zone[zone] += 1;
            *self.workloads[workload].by_node.entry(node).or_default() += 1;
        }
        let state = &mut self.nodes[node];
        state.pods.insert(id);
        state.cpu -= cpu;
        state.memory -= memory;
        state.room -= 1;
        self.place_in_cell(node);
    }

    /// Another node than `chosen` that could take a pod: functional, open and on its group's target, with room, in
    /// its volume's zone and, under hard spread, in the same zone. One that stays rather than one that is steered
    /// away from.
    fn alternative(&self, id: u32, chosen: usize) -> Option<usize> {
        let pod = self.pods[id as usize].as_ref()?;
        let Origin::Work { workload, .. } = pod.origin else { return None };
        let owner = &self.workloads[workload];
        let hard = owner.spec.spread == ZoneSpread::Hard;
        let fixed = pod.volume.and_then(|v| self.volumes[v].zone).or(hard.then_some(self.nodes[chosen].zone));
        let could = |n: &usize| {
            let state = &self.nodes[*n];
            let current = self.groups[state.group].is_current(&self.instances[state.instance]);
            *n != chosen && state.functional && current && self.fits(id, *n)
        };
        let first = |soft: bool| {
            let cells = owner.groups.iter().flat_map(|g| self.groups[*g].zones.iter().map(move |z| (*g, *z)));
            let open = cells.filter(|(_, z)| fixed.is_none_or(|f| f == *z)).flat_map(move |(g, z)| {
                self.cells.at(g, z).range((soft, i64::MIN, 0, 0)..=(soft, i64::MAX, u32::MAX, usize::MAX))
            });
            open.map(|(_, _, _, n)| *n).find(could)
        };
        first(false).or_else(|| first(true))
    }

    /// Everything there is, kind by kind, as a full list.
    pub(super) fn list_pods(&self) -> impl Iterator<Item = Fact> {
        self.pods.iter().flatten().map(|p| Fact::Pod(p.record.clone()))
    }
}
