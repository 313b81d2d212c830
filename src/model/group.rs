//! An Auto Scaling group, the target it launches from, and its activities.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GroupName, InstanceId, Text, Zone};

/// A launch template as a group names it, and what that resolves to now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TemplateRef {
    /// `lt-…`; the resolved id where the group names the template by its name.
    pub id: Text,
    /// What the group says: a number, `$Latest` or `$Default`.
    pub version: Text,
    /// The number it resolves to; `None` until EC2 was asked.
    pub resolved: Option<Text>,
    /// The image of that version, `resolve:ssm:` resolved; `None` where it names none or was not asked.
    pub image: Option<Text>,
}

/// One override of a mixed-instances policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Override {
    /// The instance type it is for; `None` for attribute-based selection.
    pub instance_type: Option<Text>,
    /// Its own template, where it has one; else the policy's.
    pub template: Option<TemplateRef>,
}

/// What a group launches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// One launch template.
    Template(TemplateRef),
    /// A mixed-instances policy.
    Mixed {
        /// The policy's template.
        base: TemplateRef,
        /// Its overrides, in order.
        overrides: Vec<Override>,
    },
    /// A launch configuration.
    Configuration(Text),
    /// Nothing: an EKS Hybrid or a broken group; never rotated.
    None,
}

impl TemplateRef {
    fn keeping_resolution(mut self, old: &Self) -> Self {
        // `$Latest` and `$Default` are read anew in time; until then the last answer stands.
        if self.resolved.is_none() && self.id == old.id && self.version == old.version {
            self.resolved = old.resolved.clone();
            self.image = old.image.clone();
        }
        self
    }
}

impl Target {
    /// Whether EC2 was asked what every template of it resolves to.
    pub fn is_resolved(&self) -> bool {
        match self {
            Self::Template(template) => template.resolved.is_some(),
            Self::Mixed { base, overrides } => {
                let mut templates = std::iter::once(base).chain(overrides.iter().filter_map(|o| o.template.as_ref()));
                templates.all(|template| template.resolved.is_some())
            }
            Self::Configuration(_) | Self::None => true,
        }
    }

    /// This target with what `old` had resolved, wherever both name the same template and version.
    pub fn keeping_resolution(self, old: &Self) -> Self {
        match (self, old) {
            (Self::Template(new), Self::Template(old)) => Self::Template(new.keeping_resolution(old)),
            (Self::Mixed { base, mut overrides }, Self::Mixed { base: old_base, overrides: old_overrides }) => {
                for (new, old) in overrides.iter_mut().zip(old_overrides) {
                    new.template = match (new.template.take(), &old.template) {
                        (Some(template), Some(old)) => Some(template.keeping_resolution(old)),
                        (template, _) => template,
                    };
                }
                Self::Mixed { base: base.keeping_resolution(old_base), overrides }
            }
            (new, _) => new,
        }
    }
}

/// A target group (by its ARN) or a classic load balancer (by its name) that a group registers its instances
/// with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attachment(pub Text);

impl Attachment {
    /// How long AWS lets what is deregistered finish where nobody set another time, in seconds: the default of
    /// target groups and of classic load balancers alike.
    pub const DEFAULT_DELAY_S: u32 = 300;

    /// Whether it is a target group of Elastic Load Balancing.
    pub fn is_target_group(&self) -> bool {
        self.0.starts_with("arn:") && self.0.split(':').nth(2) == Some("elasticloadbalancing")
    }

    /// Whether it is a classic load balancer.
    pub fn is_classic(&self) -> bool {
        !self.0.starts_with("arn:")
    }
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID
        match self.0.split_once("targetgroup/") {
            Some((_, name)) => write!(f, "target group {}", name.split('/').next().unwrap_or(name)),
            None => write!(f, "load balancer {}", self.0),
        }
    }
}

/// A process of a group that can be suspended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process(pub Text);

impl Process {
    /// `AZRebalance`.
    pub const AZ_REBALANCE: &'static str = "AZRebalance";
    /// `Launch`.
    pub const LAUNCH: &'static str = "Launch";
    /// `Terminate`.
    pub const TERMINATE: &'static str = "Terminate";
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGroup {
    /// Its name.
    pub name: GroupName,
    /// `MinSize`.
    pub min: u32,
    /// `MaxSize`.
    pub max: u32,
    /// `DesiredCapacity`, our surge included.
    pub desired: u32,
    /// `AvailabilityZones`, sorted.
    pub zones: Vec<Zone>,
    /// What it launches.
    pub target: Target,
    /// Suspended processes.
    pub suspended: BTreeSet<Process>,
    /// Its tags, ours included.
    pub tags: BTreeMap<Text, Text>,
    /// `NewInstancesProtectedFromScaleIn`.
    pub new_instances_protected: bool,
    /// The EKS managed node group that owns it (tag `eks:nodegroup-name`): never mutated.
    pub managed_by: Option<Text>,
    /// `AutoScalingGroup.operator`: only that service may mutate it.
    pub operator: Option<Text>,
    /// An instance refresh is in progress.
    pub refreshing: bool,
    /// It has a warm pool.
    pub warm_pool: bool,
    /// Its warm pool takes back what is scaled in (`ReuseOnScaleIn`).
    #[serde(default)]
    pub reuses: bool,
    /// The target groups and classic load balancers its instances are registered with.
    #[serde(default)]
    pub attachments: BTreeSet<Attachment>,
    /// The subnets it launches into (`VPCZoneIdentifier`).
    #[serde(default)]
    pub subnets: BTreeSet<Text>,
    /// Instance weights are in use (a mixed policy with `WeightedCapacity`): capacity is not a node count.
    pub weighted: bool,
}

#[cfg(test)]
impl NodeGroup {
    /// One in which nothing is out of the ordinary, for tests to change.
    pub(crate) fn plain(name: &str, desired: u32) -> Self {
        Self {
            name: name.into(),
            min: 0,
            max: 9,
            desired,
            zones: vec!["a".into()],
            target: Target::None,
            suspended: BTreeSet::new(),
            tags: BTreeMap::new(),
            new_instances_protected: false,
            managed_by: None,
            operator: None,
            refreshing: false,
            warm_pool: false,
            reuses: false,
            attachments: BTreeSet::new(),
            subnets: BTreeSet::new(),
            weighted: false,
        }
    }
}

impl NodeGroup {
    /// Whether `process` is suspended.
    pub fn is_suspended(&self, process: &str) -> bool {
        self.suspended.iter().any(|p| &*p.0 == process)
    }
}

/// How a scaling activity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityStatus {
    /// Pending, waiting, or in progress.
    InProgress,
    /// `Successful`.
    Successful,
    /// `Failed`.
    Failed,
    /// `Cancelled`.
    Cancelled,
}

/// A scaling activity of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its id.
    pub id: Text,
    /// Its group.
    pub group: GroupName,
    /// The instance named in its description, where one is.
    pub instance: Option<InstanceId>,
    /// `Description`, e.g. `Launching a new EC2 instance: i-…`.
    pub description: Text,
    /// `Cause`.
    pub cause: Text,
    /// `StatusMessage`: why it failed.
    pub message: Option<Text>,
    /// How it stands.
    pub status: ActivityStatus,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}
