//! A group's rotation, derived anew from the world on every pass.
//!
//! ```text
//!  tagged -> AZRebalance suspended -> canary up -> canary functional -> surge up, soft taints
//!         -> [functional replacement -> cordon -> evict -> terminate]*   the group launches the next
//!         -> the last ones: terminate with decrement                     the surge goes
//!         -> protection, processes, maximum, marks and tags put back
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::pass::Pass;
use super::{
    Action, ActionKey, ActionReason, BlockReason, Progress, Stage, Subject, Verdict, WaitReason, canary, candidates,
    changes, drain, ending, estimate, ledger, retarget, standstill, surge, terminate, zones,
};
use crate::model::{GroupName, InstanceId, Ledger, NodeGroup, Process, Text, Zone, marks};
use crate::observe::{GroupView, Member, Role};
use crate::policy::OnStuck;

/// How many marks are put on or taken off at once in a group: they are short calls, but there are many.
const MARKS_AT_ONCE: usize = 20;

/// A group as one pass sees it.
pub(super) struct Group<'a> {
    pub(super) name: &'a GroupName,
    pub(super) record: &'a NodeGroup,
    pub(super) view: &'a GroupView,
    pub(super) ledger: Ledger,
    pub(super) fault: Option<Text>,
    /// How much of the ledger's count somebody's scaling has taken below the group's minimum.
    pub(super) sunk: u32,
    /// The group's own desired.
    pub(super) own: u32,
    pub(super) limits: surge::Amounts,
    /// Our tag of this rotation is on.
    pub(super) begun: bool,
    /// Young ones that have passed the gate, soak included.
    pub(super) functional: u32,
    /// The same by name, where our tag is on: elsewhere they are in no hand.
    pub(super) fresh: Vec<InstanceId>,
    pub(super) functional_in: BTreeMap<&'a Zone, u32>,
    /// Young ones on their way.
    pub(super) arriving: u32,
    /// Young ones that failed in this pass.
    pub(super) failing: u32,
    /// Functional replacements that prove the target: the policy's, and one more for each fix applied on the way.
    pub(super) canaries: u32,
    /// The target has proved itself in this group.
    pub(super) proven: bool,
    /// Candidates whose cordon is in flight or planned, by zone.
    pub(super) picked: BTreeMap<&'a Zone, u32>,
    /// Of these, those that still count as capacity.
    pub(super) picked_serving: u32,
    /// Nodes being drained or drained, not those whose terminate call is in flight.
    pub(super) in_drain: u32,
    /// Old nodes that are still to be terminated.
    pub(super) remaining: u32,
    /// Instances that desired counts and that are not there, or are just being replaced.
    pub(super) missing: u32,
    /// Surge still to be raised.
    pub(super) to_raise: u32,
    /// Its target has changed, and it goes on for the new one: first it winds down.
    pub(super) retargets: bool,
    /// A node of it is waited for though no budget will ever let its pods go.
    pub(super) waits_for_budget: bool,
}

impl<'a> Group<'a> {
    /// Sums up what a pass needs to know of a group; `None` where it is left alone.
    pub(super) fn gather(pass: &mut Pass<'a>, name: &'a GroupName) -> Option<Self> {
        let (snapshot, derived) = (pass.snapshot, pass.derived);
        let record = snapshot.groups.get(name)?;
        let view = derived.groups.get(name)?;
        if let Some(hold) = &view.hold {
            if view.candidates > 0 || !view.held.is_empty() {
                // What is owned by somebody else is updated by its owner; the rest is unfinished business.
                let owned = matches!(hold, BlockReason::ManagedNodeGroup { .. } | BlockReason::Operator { .. });
                pass.incomplete |= !owned;
                pass.block(Subject::Group(name.clone()), hold.clone());
            }
            return None;
        }
        let ledger::Reading { ledger, fault, sunk } = ledger::read(pass, record);
        let terminating = |id: &&InstanceId| pass.in_flight(&ActionKey::Instance((*id).clone()));
        let leaving = view.draining.keys().filter(terminating).count() as u32;
        let in_drain = view.draining.len() as u32 - leaving;
        let remaining = view.candidates + in_drain;
        // While a step is being taken, desired may show it before the ledger does.
        let desired = ledger.step.as_ref().map_or(record.desired, |step| step.from);
        let own = desired.saturating_sub(ledger.confirmed - sunk);
        let limits = surge::resolve(pass.policy, record, own, remaining, &estimate::Expected::default());
        let begun = record.tags.get(marks::TAG_ROTATION) == Some(&pass.rotation.id);
        let missing = record.desired.saturating_sub(view.counted) + leaving;
        Some(Self {
            name,
            record,
            view,
            ledger,
            fault,
            sunk,
            own,
            limits,
            begun,
            functional: 0,
            fresh: Vec::new(),
            functional_in: BTreeMap::new(),
            arriving: 0,
            failing: 0,
            canaries: pass.policy.canary.saturating_add(pass.rotation.mended.fixes.len() as u32),
            proven: false,
            picked: BTreeMap::new(),
            picked_serving: 0,
            in_drain,
            remaining,
            missing,
            to_raise: 0,
            retargets: false,
            waits_for_budget: false,
        })
    }

    pub(super) fn subject(&self) -> Subject {
        Subject::Group(self.name.clone())
    }

    /// Functional nodes now, less those whose cordon is on its way.
    pub(super) fn serving(&self) -> u32 {
        (self.view.serving + self.functional).saturating_sub(self.picked_serving)
    }

    /// Our surge, as far as it is above the group's minimum.
    pub(super) fn surge(&self) -> u32 {
        self.ledger.confirmed - self.sunk
    }

    /// How much of the confirmed surge the last old nodes can take with them: not what stands in for instances that
    /// stay and do not serve (kept failures, nodes given up that are not Ready), beyond those that may be unavailable.
    pub(super) fn spare(&self, pass: &Pass<'_>) -> u32 {
        let returns = drain::returns_failed(pass, self);
        let failed = pass.derived.select(&self.view.failed).filter(|(id, m)| m.counted && !returns.contains(*id));
        let given_up = pass.derived.select(&self.view.skipped).filter(|(_, m)| m.counted && !m.serves);
        let idle = (failed.count() + given_up.count()) as u32;
        self.surge().saturating_sub(idle.saturating_sub(self.limits.unavailable))
    }

    /// The fewest functional nodes the policy promises.
    pub(super) fn promised(&self) -> u32 {
        let behind_balancers = u32::from(!self.record.attachments.is_empty());
        self.own.saturating_sub(self.limits.unavailable).max(behind_balancers)
    }

    /// Whether there is work that neither surge nor unavailable leaves room for.
    pub(super) fn is_stuck(&self) -> bool {
        let room = self.limits.surge + self.limits.unavailable + self.surge() + self.in_drain;
        room == 0 && self.remaining > 0
    }

    /// How often its whole room is used until its old nodes are gone, and how many those are.
    pub(super) fn rounds_left(&self) -> (u32, u32) {
        let room = (self.limits.surge + self.limits.unavailable).max(1);
        (self.remaining.div_ceil(room), self.remaining)
    }

    /// Whether nothing is on its way in or out.
    fn is_at_rest(&self) -> bool {
        self.is_idle() && self.missing == 0
    }

    /// The same, launches that have not shown aside.
    pub(super) fn is_idle(&self) -> bool {
        self.arriving + self.failing + self.in_drain + self.to_raise == 0 && self.picked.is_empty()
    }

    /// Whether it goes on taking old nodes in hand.
    pub(super) fn goes_on(&self, pass: &Pass<'_>) -> bool {
        let settled = self.fault.is_none() && self.sunk == 0;
        pass.ending.is_none() && settled && self.remaining > 0 && !self.is_stuck()
    }

    /// Whether nothing new is launched for it: its terminations take the surge along.
    pub(super) fn winds_down(&self, pass: &Pass<'_>) -> bool {
        pass.ending.is_some() || self.retargets || self.sunk > 0
    }

    /// Whether a tag of ours is on.
    pub(super) fn is_tagged(&self) -> bool {
        self.record.tags.keys().any(|k| k.starts_with("fastnode:"))
    }

    pub(super) fn key(&self) -> ActionKey {
        ActionKey::Group(self.name.clone())
    }

    fn progress(&self) -> Progress {
        let view = self.view;
        Progress {
            outdated: view.candidates + (view.draining.len() + view.held.len()) as u32,
            current: view.current + (view.adopted.len() + view.young.len()) as u32,
            functional: view.serving_current + self.functional,
            draining: view.draining.len() as u32,
            leaving: view.leaving.len() as u32,
            arriving: self.arriving + self.missing,
            skipped: view.skipped.len() as u32,
            own_desired: self.own,
            surge: self.ledger.confirmed,
        }
    }
}

/// Counts candidates whose cordon is in flight.
pub(super) fn cordons_in_flight<'a>(pass: &mut Pass<'a>, groups: &mut [Group<'a>]) {
    let derived = pass.derived;
    for key in pass.snapshot.in_flight.keys() {
        let ActionKey::Node(name) = key else { continue };
        let id = pass.snapshot.nodes.get(name).and_then(|n| n.instance.as_ref());
        let Some(member) = id.and_then(|id| derived.members.get(id)) else { continue };
        // A mark in flight on a candidate may be its cordon; where it is the soft taint, this errs on the safe side.
        if matches!(member.role, Role::Adopted | Role::Young) {
            // It may be the cordon of one that is given back, which carries the taint by then.
            pass.draining += u32::from(member.role == Role::Adopted);
            if let Some(group) = groups.iter_mut().find(|g| *g.name == member.group) {
                group.picked_serving += u32::from(member.tainted);
            }
        } else if member.role == Role::Candidate
            && let Some(group) = groups.iter_mut().find(|g| *g.name == member.group)
        {
            pick(pass, group, member);
        }
    }
}

fn pick<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, member: &'a Member) {
    *group.picked.entry(&member.zone).or_default() += 1;
    group.picked_serving += u32::from(member.serves);
    pass.draining += 1;
    let snapshot = pass.snapshot;
    for pod in member.node.iter().flat_map(|node| snapshot.pods_on(node)) {
        pass.tokens.promise(snapshot, pod);
    }
}

/// Plans everything about one group, once all groups are known; `passed` says that no group's canary is awaited.
pub(super) fn rotate<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, passed: bool) {
    show_held(pass, group);
    terminate::watch(pass, group);
    let stuck = group.is_stuck();
    if stuck {
        let reason = match group.limits.max_needed {
            Some(_) => BlockReason::Maximum { max: group.record.max, needed: group.own + 1 },
            None if pass.policy.unavailable.of_down(group.own) > 0 => BlockReason::LastServing,
            None => BlockReason::NoRoom,
        };
        pass.incomplete = true;
        pass.block(group.subject(), reason);
    }
    if let Some(why) = group.fault.clone() {
        pass.incomplete = true;
        pass.block(group.subject(), BlockReason::Ledger { why });
    }
    if group.sunk > 0 {
        let why = ledger::why_sunk(group.record, &group.ledger, group.sunk);
        pass.incomplete = true;
        pass.block(group.subject(), BlockReason::Ledger { why });
    }
    if group.retargets && pass.ending.is_none() && group.fault.is_none() && group.sunk == 0 {
        retarget::wind_down(pass, group);
    } else if !group.goes_on(pass) {
        ending::close(pass, group);
    } else {
        pass.working = true;
        if begin(pass, group) {
            raise(pass, group, passed);
            if passed && canary::has_passed(pass.policy, group) {
                soft_taints(pass, group);
            }
            drain::failed(pass, group);
            drain::old(pass, group, &BTreeSet::new());
            let given_up = pass.entries.skipped.len();
            let own_way = group.limits.surge == 0 || canary::is_cut_short(group);
            let stands = (passed || own_way) && select(pass, group, u32::MAX);
            if stands && pass.entries.skipped.len() == given_up {
                standstill::check(pass, group);
            }
        }
    }
    pass.plan.progress.insert(group.name.clone(), group.progress());
}

/// Names what is held and what was given up.
fn show_held(pass: &mut Pass<'_>, group: &Group<'_>) {
    let derived = pass.derived;
    for (id, member) in derived.select(&group.view.held) {
        if let Role::Held(reason) = &member.role {
            pass.incomplete = true;
            pass.block(candidates::subject(id, member), reason.clone());
        }
    }
    pass.incomplete |= group.view.has_outdated_in_standby();
    for (id, member) in derived.select(&group.view.aside) {
        let state: Text = match &member.role {
            Role::Aside(state) => state.clone(),
            _ => "Warmed".into(),
        };
        pass.block(candidates::subject(id, member), BlockReason::Lifecycle { state });
    }
    for (id, member) in derived.select(&group.view.skipped) {
        let why = member.node.as_ref().and_then(|node| {
            let written = pass.snapshot.nodes.get(node).and_then(|n| n.annotations.get(marks::REASON));
            pass.rotation.skipped.get(node).or(written).cloned()
        });
        let why = why.unwrap_or_else(|| "given up".into());
        pass.incomplete = true;
        if let Some(node) = &member.node
            && !pass.rotation.skipped.contains_key(node)
        {
            pass.entries.skipped.insert(node.clone(), why.clone());
        }
        pass.block(candidates::subject(id, member), BlockReason::Skipped { why });
    }
}

/// Tags the group, suspends AZRebalance, makes room below the maximum; whether all that is done.
fn begin(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    let tags = &group.record.tags;
    let mut wanted: BTreeMap<Text, Text> = BTreeMap::new();
    let rebalances = !group.record.is_suspended(Process::AZ_REBALANCE);
    if !group.begun {
        wanted.insert(marks::TAG_ROTATION.into(), pass.rotation.id.clone());
        if !tags.contains_key(marks::TAG_SURGE) {
            wanted.insert(marks::TAG_SURGE.into(), Ledger::settled(0).to_tag().into());
        }
        // What somebody else suspended is not ours to resume.
        if rebalances && !tags.contains_key(marks::TAG_SUSPENDED) {
            wanted.insert(marks::TAG_SUSPENDED.into(), Process::AZ_REBALANCE.into());
        }
    }
    let raise = group.limits.max_needed.filter(|needed| pass.policy.raise_max && *needed > group.record.max);
    if raise.is_some() && !tags.contains_key(marks::TAG_MAX) {
        wanted.insert(marks::TAG_MAX.into(), group.record.max.to_string().into());
    }
    if !wanted.is_empty() {
        let action = Action::TagGroup { group: group.name.clone(), tags: wanted };
        pass.act(action, ActionReason::GroupBegins);
        return false;
    }
    if rebalances && tags.get(marks::TAG_SUSPENDED).is_some_and(|t| t.contains(Process::AZ_REBALANCE)) {
        let processes = BTreeSet::from([Process(Process::AZ_REBALANCE.into())]);
        pass.act(Action::Suspend { group: group.name.clone(), processes }, ActionReason::GroupBegins);
        return false;
    }
    let launch = group.record.is_suspended(Process::LAUNCH);
    if launch && tags.get(marks::TAG_SUSPENDED).is_some_and(|t| t.split(',').any(|p| p == Process::LAUNCH)) {
        // Suspended to take back what had not been launched; it launches again.
        let processes = BTreeSet::from([Process(Process::LAUNCH.into())]);
        pass.act(Action::Resume { group: group.name.clone(), processes }, ActionReason::GroupBegins);
        return false;
    }
    if let Some(to) = raise {
        let action = Action::SetMax { group: group.name.clone(), from: group.record.max, to };
        pass.act(action, ActionReason::GroupBegins);
        return false;
    }
    true
}

/// Raises desired to the canary, and once all groups' have passed to the surge.
fn raise(pass: &mut Pass<'_>, group: &mut Group<'_>, passed: bool) {
    if canary::is_mended(pass, group) {
        return;
    }
    let confirmed = group.ledger.confirmed;
    let mut want = group.limits.surge.min(group.remaining);
    if !group.proven || !passed {
        want = want.min(canary::wanted(group));
    }
    // What is terminated with decrement is not raised again.
    if want <= confirmed || group.remaining <= confirmed {
        return;
    }
    group.to_raise = want - confirmed;
    let step = group.to_raise;
    let reason = if group.proven { ActionReason::Surge { to: want } } else { ActionReason::Canary };
    if let Some(action) = terminate::resize(pass, group, i64::from(step)) {
        pass.act(action, reason);
    }
}

fn soft_taints(pass: &mut Pass<'_>, group: &Group<'_>) {
    let derived = pass.derived;
    for (_, member) in derived.select(&group.view.untainted).take(MARKS_AT_ONCE) {
        if let Some(node) = member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n)) {
            pass.act(changes::soft_taint(node), ActionReason::CanaryPassed);
        }
    }
}

/// Takes all of ours off the group's nodes, save those `keep` names; whether nothing is left.
pub(super) fn release_marks(pass: &mut Pass<'_>, group: &Group<'_>, keep: &BTreeSet<InstanceId>) -> bool {
    let derived = pass.derived;
    let marked = derived.select(&group.view.marked).filter(|(id, m)| !keep.contains(*id) && m.role != Role::Leaving);
    let mut clean = true;
    for (_, member) in marked.take(MARKS_AT_ONCE) {
        let Some(node) = member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n)) else { continue };
        clean = false;
        let purpose = super::NodePurpose::Release;
        pass.act(changes::release(node, purpose), ActionReason::PuttingBack);
    }
    clean
}

/// Chooses old nodes and cordons them, as far as capacity, drain slots, canary and zones allow; `most` in this
/// pass at most. Whether none may go until something of the group changes.
pub(super) fn select<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, most: u32) -> bool {
    let winds_down = group.winds_down(pass);
    if !group.view.untainted.is_empty() && canary::has_passed(pass.policy, group) && !winds_down {
        return false;
    }
    if !winds_down && canary::is_mended(pass, group) {
        return false;
    }
    // While desired is being changed, a reading may show it changed with the ledger as it was.
    if pass.in_flight(&ActionKey::Group(group.name.clone())) {
        pass.wait(group.subject(), WaitReason::AwsBusy { what: "a change of the group is under way".into() });
        return false;
    }
    // Until it is written down whose a change of desired is, the group's own desired may be the higher one.
    if ledger::has_step(group.record) {
        pass.wait(group.subject(), WaitReason::AwsBusy { what: "a change of desired is being written down".into() });
        return false;
    }
    for _ in 0..most {
        let picked: u32 = group.picked.values().sum();
        if group.view.candidates <= picked {
            return false;
        }
        let draining = drain::slots(pass, group) + picked;
        if draining >= group.limits.drains {
            let reason = WaitReason::DrainSlot { draining, allowed: group.limits.drains };
            pass.wait(group.subject(), reason);
            return false;
        }
        if !has_cluster_slot(pass, group) {
            return false;
        }
        if !winds_down && let Some(reason) = canary::holds(group) {
            pass.wait(group.subject(), reason);
            return true;
        }
        if !select_one(pass, group) {
            return true;
        }
    }
    false
}

/// Whether the cluster has a drain slot left; else the wait for one is named.
pub(super) fn has_cluster_slot(pass: &mut Pass<'_>, group: &Group<'_>) -> bool {
    let Some(allowed) = pass.policy.max_drains.filter(|max| pass.draining >= *max) else { return true };
    pass.wait(group.subject(), WaitReason::DrainSlot { draining: pass.draining, allowed });
    false
}

fn select_one<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>) -> bool {
    let (functional, promised) = (group.serving(), group.promised());
    let (order, held) = zones::order(pass, group, group.winds_down(pass));
    // With nothing on its way, balance gives way before a node is given up.
    let last = held.iter().filter(|_| group.is_at_rest());
    let last: Vec<_> = last.map(|zone| zones::Choice { zone: zone.clone(), replaced: false }).collect();
    let mut bound = None;
    for choice in order.into_iter().chain(last) {
        let room = functional > promised && zones::keeps_its_share(pass, group, &choice.zone);
        match candidates::next(pass, group, &choice, room) {
            candidates::Next::Drain(id) if cordon(pass, group, id, &choice) => return true,
            candidates::Next::Bound(id) => bound = bound.or(Some(id)),
            _ => {}
        }
    }
    if functional <= promised {
        pass.wait(group.subject(), WaitReason::Capacity { functional, promised });
    } else if let Some(id) = bound.filter(|_| group.is_at_rest()) {
        give_up_bound(pass, id);
    }
    for zone in held {
        pass.wait(group.subject(), WaitReason::ZoneBalance { zone });
    }
    false
}

fn cordon<'a>(pass: &mut Pass<'a>, group: &mut Group<'a>, id: &InstanceId, choice: &zones::Choice) -> bool {
    let derived = pass.derived;
    let Some(member) = derived.members.get(id) else { return false };
    let Some(node) = member.node.as_ref().and_then(|n| pass.snapshot.nodes.get(n)) else { return false };
    let surplus = zones::surplus_after(pass, group, id);
    if let Some(surplus) = surplus.and_then(|id| derived.members.get(&id)).filter(|m| !m.tainted)
        && let Some(node) = drain::node_of(pass, surplus)
    {
        pass.act(changes::soft_taint(node), ActionReason::Surplus);
        return false;
    }
    let outdated = member.outdated.clone();
    let words = outdated.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let reason = match choice.replaced {
        true => ActionReason::Drain { outdated, zone: choice.zone.clone() },
        false if group.limits.unavailable > 0 => ActionReason::DrainUnavailable { outdated },
        false => ActionReason::DrainFullest { outdated, zone: choice.zone.clone() },
    };
    if !pass.act(changes::cordon(node, &pass.rotation.id, &words, pass.now), reason) {
        return false;
    }
    pass.show(id, member, Stage::Selected, None);
    pick(pass, group, member);
    true
}

/// Nothing is on its way that could make room for its pods: it is given up before it was touched, or whatever the
/// policy answers to what is stuck.
fn give_up_bound(pass: &mut Pass<'_>, id: &InstanceId) {
    let derived = pass.derived;
    if let Some(member) = derived.members.get(id)
        && let Some(node) = member.node.clone()
    {
        let why = Text::from("its pods are bound to its zone, and fit on no other node of it");
        match pass.policy.on_stuck {
            OnStuck::Wait => pass.wait(Subject::Node(node), WaitReason::Standstill { why }),
            OnStuck::Stop => pass.end(Verdict::Stuck),
            OnStuck::Skip => {
                pass.show(id, member, Stage::Skipped, None);
                pass.incomplete = true;
                pass.entries.skipped.insert(node, why);
            }
        }
    }
}

/// Whether the verdict forbids to touch an old node.
pub(super) fn spares_old_nodes(pass: &Pass<'_>) -> bool {
    pass.ending == Some(Verdict::CanaryFailed)
}
