//! Auto Scaling: groups that launch and terminate instances over time.
//!
//! ```text
//! launch -> Pending -> InService -> Terminating -> gone
//!              |                        ^
//!              +------------------------+
//! ```
//! What follows AWS's own words: the zone with the fewest instances launches next, Terminating instances do
//! not count in desired, a termination without decrement is replaced some seconds later, scaling in takes
//! unprotected instances of the fullest zone, the oldest first (Amazon EC2 Auto Scaling User Guide,
//! "Default termination policy"); each change leaves a scaling activity with its cause.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    Activity, ActivityStatus, Attachment, GroupName, Instance, InstanceId, LaunchSource, Lifecycle, NodeGroup,
    Override, Process, Target, TemplateRef, Text,
};

use super::past::Came;
use super::scenario::GroupSpec;
use super::world::{Event, Micros, World, timestamp};

/// A group and what AWS does not show of it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) record: NodeGroup,
    pub(super) spec: GroupSpec,
    /// Zones as positions in the world's list.
    pub(super) zones: Vec<usize>,
    /// Instances that are not gone.
    pub(super) live: BTreeSet<usize>,
    pub(super) latest: u32,
    pub(super) launches: u32,
    pub(super) activities: Vec<Activity>,
    /// An instance launched to balance the zones, until it is in service.
    rebalancing: Option<usize>,
    /// Launches failed, and the next try is due.
    retrying: bool,
    /// Why the next launch happens, in AWS's words.
    cause: String,
    /// An excess that nobody asked for in the right way: terminations for it are on the judge's list.
    pub(super) shrunk_by_others: bool,
}

/// An instance and what AWS does not show of it.
#[derive(Debug)]
pub(super) struct InstanceState {
    pub(super) record: Instance,
    pub(super) group: usize,
    pub(super) zone: usize,
    pub(super) node: Option<usize>,
    pub(super) dns: Text,
    pub(super) image: Text,
    pub(super) launched: Timestamp,
    /// Launched after the scenario began.
    pub(super) new: bool,
    pub(super) gone: bool,
    /// On its way out it runs until then, while a lifecycle hook waits.
    pub(super) runs_until: Micros,
    /// Its kubelet starts then; unknown of those that were there before.
    pub(super) booted: Option<Micros>,
    launch_activity: Option<usize>,
    end_activity: Option<usize>,
}

/// Why a termination is refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// No such instance.
    NotFound,
    /// It is on its way out already.
    InProgress(Text),
    /// The decrement would go below the minimum.
    BelowMin(u32),
    /// It is in the warm pool.
    Warm,
}

impl Group {
    /// The image of a template version.
    pub(super) fn image(&self, version: u32) -> Text {
        format!("ami-{:013x}{:04x}", 0xa11ce ^ self.spec.name.len(), version).into()
    }

    fn source(&self, version: u32) -> LaunchSource {
        if self.spec.configuration {
            LaunchSource::Configuration(format!("{}-{version}", self.spec.name).into())
        } else {
            LaunchSource::Template { id: self.template_id(), version: version.to_string().into() }
        }
    }

    fn template_id(&self) -> Text {
        format!("lt-{}", self.spec.name).into()
    }

    fn target(&self) -> Target {
        if self.spec.configuration {
            return Target::Configuration(format!("{}-{}", self.spec.name, self.latest).into());
        }
        let version = match self.spec.version.as_str() {
            "number" => self.latest.to_string(),
            named => named.to_owned(),
        };
        let base = TemplateRef { id: self.template_id(), version: version.into(), resolved: None, image: None };
        if self.spec.instance_types.len() == 1 {
            return Target::Template(base);
        }
        let types = self.spec.instance_types.iter();
        let overrides = types.map(|t| Override { instance_type: Some(t.as_str().into()), template: None }).collect();
        Target::Mixed { base, overrides }
    }

    /// Resolves a template reference of this group as of now.
    pub(super) fn resolve(&self, mut template: TemplateRef) -> TemplateRef {
        let version = template.version.parse().unwrap_or(self.latest);
        template.resolved = Some(version.to_string().into());
        template.image = Some(self.image(version));
        template
    }

    /// Whether an instance is on the version the group launches now.
    pub(super) fn is_current(&self, instance: &InstanceState) -> bool {
        instance.record.source == self.source(self.latest)
    }
}

/// The target group of a group that has one.
fn target_group(group: &str) -> Attachment {
    let arn = "arn:aws:elasticloadbalancing:us-west-2:111122223333:targetgroup";
    Attachment(format!("{arn}/{group}/0123456789abcdef").into())
}

impl World {
    pub(super) fn add_group(&mut self, spec: &GroupSpec, past: &[Came]) {
        let at = self.groups.len();
        let zones: Vec<usize> =
            (0..self.zones.len()).filter(|z| spec.zones.iter().any(|s| *s == self.zones[*z].as_str())).collect();
        let name = GroupName::from(spec.name.as_str());
        let cluster_tag: Text = format!("kubernetes.io/cluster/{}", self.cluster).into();
        let mut tags = BTreeMap::from([(cluster_tag, Text::from("owned")), ("Name".into(), spec.name.as_str().into())]);
        if let Some(nodegroup) = &spec.managed_by {
            tags.insert("eks:nodegroup-name".into(), nodegroup.as_str().into());
        }
        let record = NodeGroup {
            name: name.clone(),
            min: spec.min,
            max: spec.maximum(),
            desired: spec.nodes,
            zones: zones.iter().map(|z| self.zones[*z].clone()).collect(),
            target: Target::None,
            suspended: spec.suspended.iter().map(|p| Process(p.as_str().into())).collect(),
            tags,
            new_instances_protected: spec.protected,
            managed_by: spec.managed_by.as_deref().map(Text::from),
            operator: None,
            refreshing: false,
            warm_pool: spec.warm > 0,
            reuses: false,
            attachments: spec.deregistration_s.map(|_| target_group(&spec.name)).into_iter().collect(),
            subnets: spec.zones.iter().map(|zone| format!("subnet-{zone}").into()).collect(),
            weighted: false,
        };
        self.groups.push(Group {
            record,
            spec: spec.clone(),
            zones,
            live: BTreeSet::new(),
            latest: 2,
            launches: 0,
            activities: Vec::new(),
            rebalancing: None,
            retrying: false,
            cause: String::new(),
            shrunk_by_others: false,
        });
        self.groups[at].record.target = self.groups[at].target();
        self.group_index.insert(name, at);
        let outdated = spec.outdated.unwrap_or(spec.nodes);
        let aside = spec.nodes + spec.standby;
        for n in 0..aside + spec.detaching {
            let version = if n < outdated || n >= spec.nodes { 1 } else { 2 };
            let instance = self.old_instance(at, n, version, Lifecycle::InService);
            self.old_node(instance, past);
            if n >= spec.nodes {
                self.instances[instance].record.lifecycle =
                    if n < aside { Lifecycle::Standby } else { Lifecycle::Detaching };
            }
        }
        for n in 0..spec.warm {
            self.old_instance(at, n, 2, Lifecycle::Warmed);
        }
    }

    /// An instance that was there before the scenario began.
    fn old_instance(&mut self, group: usize, n: u32, version: u32, lifecycle: Lifecycle) -> usize {
        let zones = &self.groups[group].zones;
        let zone = zones[n as usize % zones.len()];
        let age = 86_400.0 * (20.0 + 20.0 * self.random.instances.uniform());
        let launched = timestamp(0) - SignedDuration::from_millis((age * 1000.0) as i64);
        self.new_instance(group, zone, version, lifecycle, launched)
    }

    fn new_instance(
        &mut self,
        group: usize,
        zone: usize,
        version: u32,
        lifecycle: Lifecycle,
        launched: Timestamp,
    ) -> usize {
        let at = self.instances.len();
        // A unique id: the position in the low bits, randomness above.
        let id = (self.random.instances.bits() << 20 >> 4) | at as u64;
        let id = InstanceId::from(format!("i-0{id:016x}"));
        let address = at as u32 + 256;
        let dns: Text = format!(
            "ip-10-{}-{}-{}.us-west-2.compute.internal",
            address >> 16 & 255,
            address >> 8 & 255,
            address & 255
        )
        .into();
        let owner = &mut self.groups[group];
        let types = &owner.spec.instance_types;
        let record = Instance {
            id: id.clone(),
            group: owner.record.name.clone(),
            zone: self.zones[zone].clone(),
            instance_type: types[at % types.len()].as_str().into(),
            lifecycle,
            healthy: true,
            protected: owner.record.new_instances_protected,
            source: owner.source(version),
            launched_at: None,
            image: None,
        };
        let image = owner.image(version);
        owner.live.insert(at);
        self.instances.push(InstanceState {
            record,
            group,
            zone,
            node: None,
            dns,
            image,
            launched,
            new: false,
            gone: false,
            runs_until: 0,
            booted: None,
            launch_activity: None,
            end_activity: None,
        });
        self.instance_index.insert(id, at);
        at
    }

    /// Instances of a group that count in desired, by zone position in the world's list.
    pub(super) fn in_desired(&self, group: usize) -> BTreeMap<usize, u32> {
        let owner = &self.groups[group];
        let mut zones: BTreeMap<usize, u32> = owner.zones.iter().map(|z| (*z, 0)).collect();
        for instance in owner.live.iter().map(|i| &self.instances[*i]) {
            if instance.record.lifecycle.counts_in_desired() {
                *zones.entry(instance.zone).or_default() += 1;
            }
        }
        zones
    }

    /// Compares desired and actual, and launches or terminates what is missing or too much.
    pub(super) fn reconcile(&mut self, group: usize) {
        let zones = self.in_desired(group);
        let have: u32 = zones.values().sum();
        let want = self.groups[group].record.desired;
        let extra = u32::from(self.groups[group].rebalancing.is_some());
        if have < want {
            if !self.groups[group].record.is_suspended(Process::LAUNCH) {
                for _ in have..want {
                    self.launch(group, false, (have, want));
                }
            }
        } else if have > want + extra {
            if !self.groups[group].record.is_suspended(Process::TERMINATE) {
                for _ in want + extra..have {
                    self.scale_in(group, (have, want));
                }
            }
        } else if extra == 0 && self.may_rebalance(group) {
            let (most, fewest) = (zones.values().max(), zones.values().min());
            let pending =
                self.groups[group].live.iter().any(|i| self.instances[*i].record.lifecycle == Lifecycle::Pending);
            if most.zip(fewest).is_some_and(|(most, fewest)| most - fewest > 1) && !pending {
                self.launch(group, true, (have, have + 1));
            }
        }
    }

    /// Rebalancing needs to launch and to terminate.
    fn may_rebalance(&self, group: usize) -> bool {
        let needed = [Process::AZ_REBALANCE, Process::LAUNCH, Process::TERMINATE];
        !needed.iter().any(|process| self.groups[group].record.is_suspended(process))
    }

    /// Tries again what could not be launched.
    pub(super) fn retry(&mut self, group: usize) {
        self.groups[group].retrying = false;
        self.reconcile(group);
    }

    /// A group looks at itself again after a while.
    pub(super) fn react(&mut self, group: usize) {
        let delay = self.random.instances.spread(self.times.reaction_s);
        self.after(delay, Event::Reconcile(group));
    }

    fn has_capacity(&self, group: usize, zone: usize) -> bool {
        let now = self.now as f64 / 1e6;
        !self.faults.no_capacity.iter().any(|fault| {
            fault.zone.as_deref().is_none_or(|z| *z == *self.zones[zone].as_str())
                && fault.group.as_deref().is_none_or(|g| g == self.groups[group].spec.name)
                && fault.from_s <= now
                && fault.until_s.is_none_or(|until| now < until)
        })
    }

    /// Launches one instance on the way from one capacity to another.
    fn launch(&mut self, group: usize, to_balance: bool, (from, to): (u32, u32)) {
        let mut by_count: Vec<(u32, usize)> = self.in_desired(group).into_iter().map(|(z, n)| (n, z)).collect();
        by_count.sort_unstable();
        if self.groups[group].spec.balanced_only || to_balance {
            by_count.truncate(1);
        }
        let mut placed = None;
        for (_, zone) in by_count {
            if self.has_capacity(group, zone) {
                placed = Some(zone);
                break;
            }
            self.launch_failed(group, zone, (from, to));
        }
        let Some(zone) = placed else {
            // One look again, however many launches failed: else each would try all that are missing.
            if !self.groups[group].retrying {
                self.groups[group].retrying = true;
                let again = self.random.instances.micros(15_000.0, 40_000.0);
                self.after(again, Event::Retry(group));
            }
            return;
        };
        let version = self.groups[group].latest;
        let now = self.timestamp();
        let at = self.new_instance(group, zone, version, Lifecycle::Pending, now);
        self.launches += 1;
        self.groups[group].launches += 1;
        let cause = if to_balance {
            self.groups[group].rebalancing = Some(at);
            format!(
                "At {} an instance was launched to rebalance the group's Availability Zones, increasing the \
                 capacity from {from} to {to}.",
                second(now)
            )
        } else {
            format!(
                "{}At {} an instance was started in response to a difference between desired and actual capacity, \
                 increasing the capacity from {from} to {to}.",
                self.groups[group].cause,
                second(now)
            )
        };
        let description = format!("Launching a new EC2 instance: {}", self.instances[at].record.id);
        let activity = self.begin_activity(group, Some(at), description, cause);
        self.instances[at].launch_activity = Some(activity);
        self.instances[at].new = true;

        let mut in_service = self.random.instances.spread(self.times.in_service_s);
        if let Some(hook) = self.groups[group].spec.launch_hook_s {
            in_service += self.random.instances.spread(hook);
        }
        let mut boot = self.random.instances.spread(self.times.boot_s);
        let join = self.random.instances.spread(self.times.join_s);
        if let Some(slow) = self.faults.slow_boots.clone()
            && self.random.faults.chance(slow.share)
        {
            boot = (boot as f64 * slow.factor) as Micros;
        }
        self.after(in_service, Event::InService(at));
        let (all, own) = (self.launches, self.groups[group].launches);
        let name = &self.groups[group].spec.name;
        let never = self.faults.never_joins.iter().any(|fault| match &fault.group {
            Some(only) => only == name && fault.launches.contains(&own),
            None => fault.launches.contains(&all),
        });
        let booted = boot.max(in_service);
        self.instances[at].booted = Some(self.now + booted);
        if !never {
            self.after(booted + join, Event::Join(at));
        }
    }

    fn launch_failed(&mut self, group: usize, zone: usize, (from, to): (u32, u32)) {
        let now = self.timestamp();
        let cause = format!(
            "{}At {} an instance was started in response to a difference between desired and actual capacity, \
             increasing the capacity from {from} to {to}.",
            self.groups[group].cause,
            second(now)
        );
        let kind = &self.groups[group].spec.instance_types[0];
        let message = format!(
            "We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({}). Our \
             system will be working on provisioning additional capacity. Launching EC2 instance failed.",
            self.zones[zone]
        );
        let description = "Launching a new EC2 instance.  Status Reason: ".to_owned() + &message;
        let at = self.begin_activity(group, None, description, cause);
        let activity = &mut self.groups[group].activities[at];
        activity.message = Some(message.into());
        activity.status = ActivityStatus::Failed;
        activity.ended = Some(now);
    }

    fn begin_activity(&mut self, group: usize, instance: Option<usize>, description: String, cause: String) -> usize {
        let started = self.timestamp();
        let id = format!("{:016x}-{:08x}", self.random.instances.bits(), self.groups[group].activities.len());
        let activity = Activity {
            id: id.into(),
            group: self.groups[group].record.name.clone(),
            instance: instance.map(|i| self.instances[i].record.id.clone()),
            description: description.into(),
            cause: cause.into(),
            message: None,
            status: ActivityStatus::InProgress,
            started,
            ended: None,
        };
        self.groups[group].activities.push(activity);
        self.groups[group].activities.len() - 1
    }

    fn end_activity(&mut self, group: usize, activity: Option<usize>, status: ActivityStatus) {
        let now = self.timestamp();
        if let Some(activity) = activity.and_then(|a| self.groups[group].activities.get_mut(a))
            && activity.ended.is_none()
        {
            activity.status = status;
            activity.ended = Some(now);
        }
    }

    pub(super) fn in_service(&mut self, instance: usize) {
        let state = &mut self.instances[instance];
        if state.record.lifecycle != Lifecycle::Pending {
            return;
        }
        state.record.lifecycle = Lifecycle::InService;
        let (group, activity) = (state.group, state.launch_activity);
        self.end_activity(group, activity, ActivityStatus::Successful);
        if self.groups[group].rebalancing == Some(instance) {
            self.groups[group].rebalancing = None;
            self.react(group);
        }
        if let Some(node) = self.instances[instance].node {
            self.refresh_functional(node);
        }
    }

    /// Takes an instance the way a scale-in does: fullest zone, outdated first, then the oldest.
    fn scale_in(&mut self, group: usize, (from, to): (u32, u32)) {
        let zones = self.in_desired(group);
        let candidates = self.groups[group]
            .live
            .iter()
            .map(|i| (*i, &self.instances[*i]))
            .filter(|(_, i)| i.record.lifecycle == Lifecycle::InService && !i.record.protected);
        let owner = &self.groups[group];
        let pick = candidates
            .max_by_key(|(_, i)| (zones.get(&i.zone), !owner.is_current(i), std::cmp::Reverse(i.launched)))
            .map(|(at, _)| at);
        let Some(at) = pick else { return };
        let cause = format!(
            "{}At {} an instance was taken out of service in response to a difference between desired and actual \
             capacity, shrinking the capacity from {from} to {to}.",
            self.groups[group].cause,
            second(self.timestamp())
        );
        self.judge_scale_in(at);
        self.begin_termination(at, cause);
    }

    fn begin_termination(&mut self, at: usize, cause: String) -> Activity {
        let group = self.instances[at].group;
        let description = format!("Terminating EC2 instance: {}", self.instances[at].record.id);
        let activity = self.begin_activity(group, Some(at), description, cause);
        let launch = self.instances[at].launch_activity;
        self.end_activity(group, launch, ActivityStatus::Cancelled);
        let state = &mut self.instances[at];
        state.record.lifecycle = Lifecycle::Terminating;
        state.end_activity = Some(activity);
        if self.groups[group].rebalancing == Some(at) {
            self.groups[group].rebalancing = None;
        }
        let mut delay = self.random.instances.spread(self.times.terminate_s);
        if let Some(hook) = self.groups[group].spec.terminate_hook_s {
            let waits = self.random.instances.spread(hook);
            self.instances[at].runs_until = self.now + waits;
            delay += waits;
        }
        self.after(delay, Event::Gone(at));
        if let Some(node) = self.instances[at].node {
            self.refresh_functional(node);
        }
        self.groups[group].activities[activity].clone()
    }

    /// `TerminateInstanceInAutoScalingGroup`.
    pub(super) fn terminate(&mut self, id: &InstanceId, decrement: bool) -> Result<Activity, Refused> {
        let at = *self.instance_index.get(id).ok_or(Refused::NotFound)?;
        let state = &self.instances[at];
        if state.gone {
            return Err(Refused::NotFound);
        }
        if state.record.lifecycle == Lifecycle::Warmed {
            return Err(Refused::Warm);
        }
        let group = state.group;
        if state.record.lifecycle.is_leaving() {
            let activity = state.end_activity.map(|a| self.groups[group].activities[a].id.clone());
            self.judge_terminated_again(at);
            return Err(Refused::InProgress(activity.unwrap_or_else(|| "".into())));
        }
        let record = &self.groups[group].record;
        if decrement && record.desired <= record.min {
            return Err(Refused::BelowMin(record.min));
        }
        self.judge_terminate(at, decrement);
        let desired = self.groups[group].record.desired;
        let now = second(self.timestamp());
        let cause = if decrement {
            format!(
                "At {now} instance {id} was taken out of service in response to a user request, shrinking the \
                 capacity from {desired} to {}.",
                desired - 1
            )
        } else {
            format!("At {now} instance {id} was taken out of service in response to a user request.")
        };
        let pending = self.in_flight(group);
        let activity = self.begin_termination(at, cause);
        if decrement {
            self.groups[group].record.desired -= 1;
            if pending && self.random.faults.chance(self.faults.decrement_race) {
                self.launch(group, false, (desired - 1, desired));
            }
        } else {
            self.groups[group].cause.clear();
        }
        self.react(group);
        Ok(activity)
    }

    fn in_flight(&self, group: usize) -> bool {
        self.groups[group].live.iter().any(|i| self.instances[*i].record.lifecycle == Lifecycle::Pending)
    }

    /// `SetDesiredCapacity`; the caller has checked the limits.
    pub(super) fn set_desired(&mut self, group: usize, desired: u32) {
        self.change_desired(group, desired, "explicitly set group desired capacity");
    }

    /// `UpdateAutoScalingGroup` with a maximum no lower than the minimum; desired is brought inside by AWS itself.
    pub(super) fn set_max(&mut self, group: usize, max: u32) {
        let record = &mut self.groups[group].record;
        record.max = max;
        let (min, desired) = (record.min, record.desired.min(max));
        if desired != record.desired {
            let what = format!("update of AutoScalingGroup constraints to min: {min}, max: {max}, desired: {desired}");
            self.change_desired(group, desired, &what);
        }
    }

    fn change_desired(&mut self, group: usize, desired: u32, what: &str) {
        let now = second(self.timestamp());
        let owner = &mut self.groups[group];
        let old = owner.record.desired;
        owner.cause =
            format!("At {now} a user request {what} changing the desired capacity from {old} to {desired}.  ");
        owner.record.desired = desired;
        self.react(group);
    }

    pub(super) fn instance_gone(&mut self, at: usize) {
        let state = &mut self.instances[at];
        state.record.lifecycle = Lifecycle::Terminated;
        state.gone = true;
        let (group, activity, node) = (state.group, state.end_activity, state.node);
        self.groups[group].live.remove(&at);
        self.end_activity(group, activity, ActivityStatus::Successful);
        if let Some(node) = node {
            let delay = self.random.instances.spread(self.times.node_gone_s);
            self.after(delay, Event::NodeDeleted(node));
        }
    }

    pub(super) fn scale_by_others(&mut self, at: usize) {
        let fault = self.faults.scale[at].clone();
        let Some(group) = self.group_index.get(&GroupName::from(fault.group.as_str())).copied() else { return };
        let record = &self.groups[group].record;
        let desired = record.desired.saturating_add_signed(fault.by).clamp(record.min, record.max);
        let by = i64::from(desired) - i64::from(record.desired);
        self.judge_scaled_by_others(group, by);
        self.groups[group].shrunk_by_others |= by < 0;
        self.set_desired(group, desired);
    }

    pub(super) fn retarget(&mut self, at: usize) {
        let name = GroupName::from(self.faults.retarget[at].group.as_str());
        let Some(group) = self.group_index.get(&name).copied() else { return };
        let owner = &mut self.groups[group];
        owner.latest += 1;
        owner.record.target = owner.target();
    }
}

/// A time as AWS writes it into a cause: whole seconds.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
