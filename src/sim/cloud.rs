//! The port to AWS, on the world.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::{Cloud, EksCluster, Error, ErrorKind, GroupState, InstanceDetail, Result};
use crate::model::{Activity, Attachment, GroupName, InstanceId, Lifecycle, Process, Target, TemplateRef, Text};

use super::groups::Refused;
use super::simulation::Handle;
use super::world::World;

/// AWS as the simulator plays it.
#[derive(Clone, Debug)]
pub struct SimCloud {
    pub(super) handle: Handle,
    /// The last reading of the groups, which a stale one repeats.
    last: Rc<RefCell<Option<Vec<GroupState>>>>,
}

/// A throttled reading is sent so often at most.
const READ_ATTEMPTS: u32 = 6;

/// Whether the process dies at an action, and the answer is lost on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    dies_after: bool,
    lost: bool,
}

impl SimCloud {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, last: Rc::default() }
    }

    /// A call on its way to AWS: counted, delayed, perhaps refused or throttled, perhaps the last one.
    pub(super) async fn send(&self, operation: &'static str, changes: bool) -> Result<Fate> {
        self.handle.alive().await;
        let mut fate = Fate::default();
        if changes && self.handle.counts_to_death() {
            fate.dies_after = self.handle.with(|world| world.random.faults.chance(0.5));
            if !fate.dies_after {
                self.handle.die().await;
            }
        }
        // What is throttled had no effect; a call that is sent once is not sent again all the same.
        let attempts = if changes { 1 } else { READ_ATTEMPTS };
        for attempt in 1..=attempts {
            let (there, denied) = self.handle.with(|world| {
                *world.calls.entry(operation).or_default() += 1;
                let (low, high) = world.times.aws_ms;
                (world.random.latency.micros(low, high), world.faults.denied.contains(operation))
            });
            tokio::time::sleep(Duration::from_micros(there)).await;
            self.handle.alive().await;
            if denied {
                let message = format!("AccessDenied: not authorized to perform: {operation}");
                return Err(error(ErrorKind::Denied, operation, message));
            }
            if !self.handle.with(|world| world.random.faults.chance(world.faults.throttle)) {
                break;
            }
            if attempt == attempts {
                return Err(error(ErrorKind::Throttled, operation, "Throttling: Rate exceeded".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
        fate.lost = changes && self.handle.with(|world| world.random.faults.chance(world.faults.lost_replies));
        Ok(fate)
    }

    /// The answer's way back.
    async fn answer<T>(&self, fate: Fate, operation: &'static str, sent_once: bool, result: Result<T>) -> Result<T> {
        if fate.dies_after {
            self.handle.die().await;
        }
        if fate.lost && result.is_ok() {
            let kind = if sent_once { ErrorKind::UnknownOutcome } else { ErrorKind::Unavailable };
            return Err(error(kind, operation, "connection closed before an answer came".to_owned()));
        }
        result
    }

    pub(super) async fn change<T>(
        &self,
        operation: &'static str,
        sent_once: bool,
        act: impl FnOnce(&mut World) -> Result<T>,
    ) -> Result<T> {
        let fate = self.send(operation, true).await?;
        let result = self.handle.with(act);
        self.answer(fate, operation, sent_once, result).await
    }
}

pub(super) fn error(kind: ErrorKind, operation: &str, message: String) -> Error {
    Error { kind, operation: operation.into(), message }
}

fn find_group(world: &World, group: &GroupName, operation: &str) -> Result<usize> {
    world.group_index.get(group).copied().ok_or_else(|| {
        let message =
            format!("ValidationError: AutoScalingGroup name not found - AutoScalingGroup '{group}' not found");
        error(ErrorKind::NotFound, operation, message)
    })
}

const DESCRIBE_CLUSTER: &str = "eks:DescribeCluster";
const DESCRIBE_GROUPS: &str = "autoscaling:DescribeAutoScalingGroups";
const DESCRIBE_REFRESHES: &str = "autoscaling:DescribeInstanceRefreshes";
const DESCRIBE_TARGET_GROUP: &str = "elasticloadbalancing:DescribeTargetGroupAttributes";
const DESCRIBE_VERSIONS: &str = "ec2:DescribeLaunchTemplateVersions";
const DESCRIBE_INSTANCES: &str = "ec2:DescribeInstances";
const DESCRIBE_ACTIVITIES: &str = "autoscaling:DescribeScalingActivities";
const SET_DESIRED: &str = "autoscaling:SetDesiredCapacity";
const TERMINATE: &str = "autoscaling:TerminateInstanceInAutoScalingGroup";
const SUSPEND: &str = "autoscaling:SuspendProcesses";
const RESUME: &str = "autoscaling:ResumeProcesses";
const PROTECT: &str = "autoscaling:SetInstanceProtection";
const UPDATE: &str = "autoscaling:UpdateAutoScalingGroup";
const TAG: &str = "autoscaling:CreateOrUpdateTags";
const UNTAG: &str = "autoscaling:DeleteTags";

impl Cloud for SimCloud {
    async fn cluster(&self, name: &str) -> Result<EksCluster> {
        self.send(DESCRIBE_CLUSTER, false).await?;
        self.handle.with(|world| {
            if *world.cluster != *name {
                let message = format!("ResourceNotFoundException: No cluster found for name: {name}.");
                return Err(error(ErrorKind::NotFound, DESCRIBE_CLUSTER, message));
            }
            let version = world.version.trim_start_matches('v').rsplit_once('.').map_or(&*world.version, |(v, _)| v);
            Ok(EksCluster {
                name: world.cluster.clone(),
                version: version.into(),
                endpoint: "https://simulated.invalid".into(),
                ca: "".into(),
                status: "ACTIVE".into(),
            })
        })
    }

    async fn groups(&self, cluster: &str) -> Result<Vec<GroupState>> {
        self.send(DESCRIBE_GROUPS, false).await?;
        let states = self.handle.with(|world| {
            if world.random.faults.chance(world.faults.stale_reads)
                && let Some(last) = self.last.borrow().clone()
            {
                return last;
            }
            if *world.cluster != *cluster {
                return Vec::new();
            }
            world.judge_told();
            let states = world.groups.iter().map(|group| GroupState {
                group: group.record.clone(),
                instances: group.live.iter().map(|i| world.instances[*i].record.clone()).collect(),
            });
            states.collect()
        });
        *self.last.borrow_mut() = Some(states.clone());
        Ok(states)
    }

    async fn refreshing(&self, groups: &[GroupName]) -> Result<BTreeSet<GroupName>> {
        let mut refreshing = BTreeSet::new();
        for group in groups {
            self.send(DESCRIBE_REFRESHES, false).await?;
            let found = self.handle.with(|world| {
                let at = find_group(world, group, DESCRIBE_REFRESHES)?;
                Ok(world.groups[at].spec.refreshing)
            });
            if found? {
                refreshing.insert(group.clone());
            }
        }
        Ok(refreshing)
    }

    async fn deregistration_delays(&self, attachments: &BTreeSet<Attachment>) -> Result<BTreeMap<Attachment, u32>> {
        let mut delays = BTreeMap::new();
        for attachment in attachments {
            match self.send(DESCRIBE_TARGET_GROUP, false).await {
                Err(refused) if refused.kind == ErrorKind::Denied => continue,
                sent => sent?,
            };
            let delay = self.handle.with(|world| {
                let group = world.groups.iter().find(|g| g.record.attachments.contains(attachment));
                group.and_then(|g| g.spec.deregistration_s)
            });
            delays.extend(delay.map(|delay| (attachment.clone(), delay)));
        }
        Ok(delays)
    }

    async fn resolve(&self, target: &Target) -> Result<Target> {
        if matches!(target, Target::Configuration(_) | Target::None) {
            return Ok(target.clone());
        }
        self.send(DESCRIBE_VERSIONS, false).await?;
        self.handle.with(|world| {
            let resolve = |template: &TemplateRef| {
                let group = template.id.strip_prefix("lt-").map(GroupName::from);
                let group = group.and_then(|g| world.group_index.get(&g)).ok_or_else(|| {
                    let message = format!("InvalidLaunchTemplateId.NotFound: {} does not exist", template.id);
                    error(ErrorKind::NotFound, DESCRIBE_VERSIONS, message)
                })?;
                Ok(world.groups[*group].resolve(template.clone()))
            };
            match target {
                Target::Template(template) => Ok(Target::Template(resolve(template)?)),
                Target::Mixed { base, overrides } => {
                    let mut overrides = overrides.clone();
                    for template in overrides.iter_mut().filter_map(|o| o.template.as_mut()) {
                        *template = resolve(template)?;
                    }
                    Ok(Target::Mixed { base: resolve(base)?, overrides })
                }
                other => Ok(other.clone()),
            }
        })
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<InstanceDetail>> {
        self.send(DESCRIBE_INSTANCES, false).await?;
        Ok(self.handle.with(|world| {
            let found = ids.iter().filter_map(|id| world.instance_index.get(id)).map(|i| &world.instances[*i]);
            let details = found.map(|i| InstanceDetail {
                id: i.record.id.clone(),
                launched_at: Some(i.launched),
                image: Some(i.image.clone()),
                state: match i.record.lifecycle {
                    _ if i.gone => "terminated",
                    Lifecycle::Pending => "pending",
                    Lifecycle::Terminating if i.runs_until > world.now => "running",
                    Lifecycle::Terminating => "shutting-down",
                    Lifecycle::Warmed => "stopped",
                    _ => "running",
                }
                .into(),
                private_dns: Some(i.dns.clone()),
            });
            details.collect()
        }))
    }

    async fn activities(&self, group: &GroupName, since: Timestamp) -> Result<Vec<Activity>> {
        self.send(DESCRIBE_ACTIVITIES, false).await?;
        self.handle.with(|world| {
            let at = find_group(world, group, DESCRIBE_ACTIVITIES)?;
            let newest_first = world.groups[at].activities.iter().rev();
            Ok(newest_first.take_while(|a| a.started >= since).cloned().collect())
        })
    }

    async fn set_desired(&self, group: &GroupName, desired: u32) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, SET_DESIRED)?;
            let record = &world.groups[at].record;
            let beyond = if desired > record.max {
                Some(("above max", record.max))
            } else if desired < record.min {
                Some(("below min", record.min))
            } else {
                None
            };
            if let Some((side, limit)) = beyond {
                let message = format!(
                    "ValidationError: New SetDesiredCapacity value {desired} is {side} value {limit} for the \
                     AutoScalingGroup."
                );
                return Err(error(ErrorKind::Refused, SET_DESIRED, message));
            }
            world.set_desired(at, desired);
            Ok(())
        };
        self.change(SET_DESIRED, true, act).await
    }

    async fn terminate(&self, instance: &InstanceId, decrement: bool) -> Result<Activity> {
        let act = |world: &mut World| {
            world.terminate(instance, decrement).map_err(|refused| {
                let (kind, message) = match refused {
                    Refused::NotFound => (
                        ErrorKind::NotFound,
                        format!("ValidationError: Instance Id not found - No managed instance found for instance ID: {instance}"),
                    ),
                    Refused::InProgress(activity) => (
                        ErrorKind::Busy,
                        format!("ScalingActivityInProgress: Scaling activity {activity} is in progress and blocks this action"),
                    ),
                    Refused::BelowMin(min) => (
                        ErrorKind::Refused,
                        format!(
                            "ValidationError: Currently, desiredSize equals minSize ({min}). Terminating instance without \
                             replacement will violate group's min size constraint. Either set \
                             shouldDecrementDesiredCapacity flag to false or lower group's min size."
                        ),
                    ),
                    Refused::Warm => (
                        ErrorKind::Refused,
                        format!("ValidationError: The instance {instance} is in a warm pool and cannot be terminated so."),
                    ),
                };
                error(kind, TERMINATE, message)
            })
        };
        self.change(TERMINATE, true, act).await
    }

    async fn suspend(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, SUSPEND)?;
            world.groups[at].record.suspended.extend(processes.iter().cloned());
            Ok(())
        };
        self.change(SUSPEND, false, act).await
    }

    async fn resume(&self, group: &GroupName, processes: &BTreeSet<Process>) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, RESUME)?;
            world.groups[at].record.suspended.retain(|p| !processes.contains(p));
            world.react(at);
            Ok(())
        };
        self.change(RESUME, false, act).await
    }

    async fn protect(&self, group: &GroupName, instances: &[InstanceId], protected: bool) -> Result<()> {
        for page in instances.chunks(50) {
            let act = |world: &mut World| {
                let at = find_group(world, group, PROTECT)?;
                for id in page {
                    let found = world.instance_index.get(id).copied().filter(|i| world.groups[at].live.contains(i));
                    let Some(instance) = found else {
                        let message =
                            format!("ValidationError: The instance {id} is not part of Auto Scaling group {group}.");
                        return Err(error(ErrorKind::NotFound, PROTECT, message));
                    };
                    let record = &world.instances[instance].record;
                    if !matches!(record.lifecycle, Lifecycle::InService | Lifecycle::Standby) {
                        let message = format!(
                            "ValidationError: The instance {id} is not in InService or EnteringStandby or Standby."
                        );
                        return Err(error(ErrorKind::Refused, PROTECT, message));
                    }
                    world.instances[instance].record.protected = protected;
                }
                let counted: u32 = world.in_desired(at).values().sum();
                if !protected && counted > world.groups[at].record.desired {
                    // What protection held back can shrink now.
                    world.react(at);
                }
                Ok(())
            };
            self.change(PROTECT, false, act).await?;
        }
        Ok(())
    }

    async fn set_max(&self, group: &GroupName, max: u32) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, UPDATE)?;
            let record = &world.groups[at].record;
            if max < record.min {
                let message = format!(
                    "ValidationError: Max bound, {max}, must be greater than or equal to min bound, {}",
                    record.min
                );
                return Err(error(ErrorKind::Refused, UPDATE, message));
            }
            world.set_max(at, max);
            Ok(())
        };
        self.change(UPDATE, false, act).await
    }

    async fn tag(&self, group: &GroupName, tags: &BTreeMap<Text, Text>) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, TAG)?;
            if let Some((key, value)) = tags.iter().find(|(k, v)| k.chars().count() > 128 || v.chars().count() > 256) {
                let message = format!("ValidationError: tag {key}={value} is longer than 128 and 256 characters");
                return Err(error(ErrorKind::Refused, TAG, message));
            }
            world.groups[at].record.tags.extend(tags.iter().map(|(k, v)| (k.clone(), v.clone())));
            Ok(())
        };
        self.change(TAG, false, act).await
    }

    async fn untag(&self, group: &GroupName, keys: &BTreeSet<Text>) -> Result<()> {
        let act = |world: &mut World| {
            let at = find_group(world, group, UNTAG)?;
            world.groups[at].record.tags.retain(|k, _| !keys.contains(k));
            Ok(())
        };
        self.change(UNTAG, false, act).await
    }

    fn calls(&self) -> BTreeMap<Text, u64> {
        self.handle.with(|world| world.calls.iter().map(|(k, n)| (Text::from(*k), *n)).collect())
    }
}
