//! The SDK's records in the model's words.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types;
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use crate::cloud::GroupState;
use crate::model::{
    Activity, ActivityStatus, Attachment, GroupName, Instance, InstanceId, LaunchSource, Lifecycle, NodeGroup,
    Override, Process, Target, TemplateRef, Text, Zone,
};

/// The tag EKS puts on the groups of its managed node groups, with the cluster's name as value.
const EKS_CLUSTER: &str = "eks:cluster-name";
/// The tag that names the managed node group.
const EKS_NODE_GROUP: &str = "eks:nodegroup-name";

/// The keys of the tags that can make a group the cluster's. Filters are joined by AND but the values of one
/// filter by OR, so that one call finds them all; `eks:cluster-name` also finds other clusters' managed
/// groups, which [`belongs`] leaves out.
pub(super) fn cluster_tag_keys(cluster: &str) -> Vec<String> {
    vec![format!("kubernetes.io/cluster/{cluster}"), format!("k8s.io/cluster/{cluster}"), EKS_CLUSTER.into()]
}

/// Whether the tags make a group the cluster's.
pub(super) fn belongs(tags: &BTreeMap<Text, Text>, cluster: &str) -> bool {
    let value = |key: &str| tags.get(key).map(|value| &**value);
    matches!(value(&format!("kubernetes.io/cluster/{cluster}")), Some("owned" | "shared"))
        || value(&format!("k8s.io/cluster/{cluster}")).is_some()
        || value(EKS_CLUSTER) == Some(cluster)
}

/// A group and its instances; `None` for one without a name.
pub(super) fn group(group: &types::AutoScalingGroup) -> Option<GroupState> {
    let name = GroupName::from(group.auto_scaling_group_name()?);
    let tags: BTreeMap<Text, Text> = group
        .tags()
        .iter()
        .filter_map(|tag| Some((Text::from(tag.key()?), Text::from(tag.value().unwrap_or_default()))))
        .collect();
    let mut zones: Vec<Zone> = group.availability_zones().iter().map(|zone| Zone::from(zone.as_str())).collect();
    zones.sort();
    let instances = group.instances().iter().filter_map(|i| instance(&name, i)).collect();
    let group = NodeGroup {
        min: count(group.min_size()),
        max: count(group.max_size()),
        desired: count(group.desired_capacity()),
        zones,
        target: target(group),
        suspended: group
            .suspended_processes()
            .iter()
            .filter_map(|process| process.process_name().map(|name| Process(name.into())))
            .collect(),
        new_instances_protected: group.new_instances_protected_from_scale_in().unwrap_or(false),
        managed_by: tags.get(EKS_NODE_GROUP).cloned(),
        operator: group.operator().and_then(types::Operator::principal).map(Text::from),
        refreshing: false,
        warm_pool: group.warm_pool_configuration().is_some(),
        reuses: group
            .warm_pool_configuration()
            .and_then(|pool| pool.instance_reuse_policy()?.reuse_on_scale_in())
            .unwrap_or(false),
        attachments: attachments(group),
        subnets: subnets(group),
        weighted: weighted(group),
        tags,
        name,
    };
    Some(GroupState { group, instances })
}

/// The older two lists and the newer one name the same things.
fn attachments(group: &types::AutoScalingGroup) -> BTreeSet<Attachment> {
    let listed = group.target_group_arns().iter().chain(group.load_balancer_names()).map(String::as_str);
    let sources = group.traffic_sources().iter().filter_map(|source| source.identifier());
    listed.chain(sources).map(|name| Attachment(name.into())).collect()
}

/// `VPCZoneIdentifier` is one string, joined by commas.
fn subnets(group: &types::AutoScalingGroup) -> BTreeSet<Text> {
    let listed = group.vpc_zone_identifier().unwrap_or_default().split(',').map(str::trim);
    listed.filter(|subnet| !subnet.is_empty()).map(Text::from).collect()
}

/// Capacity is a node count unless overrides carry weights, or the group counts in vCPUs or memory.
fn weighted(group: &types::AutoScalingGroup) -> bool {
    let overrides = group.mixed_instances_policy().and_then(|p| p.launch_template()).map(|t| t.overrides());
    overrides.unwrap_or_default().iter().any(|o| o.weighted_capacity().is_some())
        || !matches!(group.desired_capacity_type().unwrap_or_default(), "" | "units")
}

fn target(group: &types::AutoScalingGroup) -> Target {
    if let Some(base) = group.launch_template().and_then(template) {
        return Target::Template(base);
    }
    let policy = group.mixed_instances_policy().and_then(|policy| policy.launch_template());
    if let Some((policy, base)) =
        policy.and_then(|policy| Some((policy, policy.launch_template_specification().and_then(template)?)))
    {
        let overrides = policy.overrides().iter().map(|o| launch_override(o, &base)).collect();
        return Target::Mixed { base, overrides };
    }
    group.launch_configuration_name().map_or(Target::None, |name| Target::Configuration(name.into()))
}

/// An override may name an image of its own on top of its template, or of the policy's.
fn launch_override(launch: &types::LaunchTemplateOverrides, base: &TemplateRef) -> Override {
    let own = launch.launch_template_specification().and_then(template);
    let template = match launch.image_id() {
        Some(image) => Some(TemplateRef { image: Some(image.into()), ..own.unwrap_or_else(|| base.clone()) }),
        None => own,
    };
    Override { instance_type: launch.instance_type().map(Text::from), template }
}

fn template(specification: &types::LaunchTemplateSpecification) -> Option<TemplateRef> {
    let id = specification.launch_template_id().or(specification.launch_template_name())?;
    // Without a version the group launches the default one.
    let version = specification.version().unwrap_or("$Default");
    Some(TemplateRef { id: id.into(), version: version.into(), resolved: None, image: None })
}

fn instance(group: &GroupName, instance: &types::Instance) -> Option<Instance> {
    let source = match (instance.launch_template(), instance.launch_configuration_name()) {
        (Some(launched), _) => {
            match (launched.launch_template_id().or(launched.launch_template_name()), launched.version()) {
                (Some(id), Some(version)) => LaunchSource::Template { id: id.into(), version: version.into() },
                _ => LaunchSource::Unknown,
            }
        }
        (None, Some(name)) => LaunchSource::Configuration(name.into()),
        (None, None) => LaunchSource::Unknown,
    };
    Some(Instance {
        id: instance.instance_id()?.into(),
        group: group.clone(),
        zone: instance.availability_zone().unwrap_or_default().into(),
        instance_type: instance.instance_type().unwrap_or_default().into(),
        lifecycle: Lifecycle::parse(instance.lifecycle_state().map_or("", |state| state.as_str())),
        healthy: instance.health_status().is_some_and(|health| health.eq_ignore_ascii_case("healthy")),
        protected: instance.protected_from_scale_in().unwrap_or(false),
        source,
        launched_at: None,
        image: instance.image_id().map(Text::from),
    })
}

/// An activity; `None` for one without an id or a start.
pub(super) fn activity(activity: &types::Activity) -> Option<Activity> {
    use types::ScalingActivityStatusCode as Code;
    let description = activity.description().unwrap_or_default();
    Some(Activity {
        id: activity.activity_id()?.into(),
        group: activity.auto_scaling_group_name().unwrap_or_default().into(),
        instance: instance_in(description),
        description: description.into(),
        cause: activity.cause().unwrap_or_default().into(),
        message: activity.status_message().filter(|message| !message.is_empty()).map(Text::from),
        status: match activity.status_code() {
            Some(Code::Successful) => ActivityStatus::Successful,
            Some(Code::Failed) => ActivityStatus::Failed,
            Some(Code::Cancelled) => ActivityStatus::Cancelled,
            _ => ActivityStatus::InProgress,
        },
        started: timestamp(activity.start_time()?)?,
        ended: activity.end_time().and_then(timestamp),
    })
}

/// Whether an instance refresh is under way, its roll-back and its baking time included.
pub(super) fn is_running(status: Option<&types::InstanceRefreshStatus>) -> bool {
    use types::InstanceRefreshStatus as Status;
    matches!(
        status,
        Some(Status::Pending | Status::InProgress | Status::Cancelling | Status::RollbackInProgress | Status::Baking)
    )
}

/// The tag `key` of a group, to be written or removed.
pub(super) fn tag(group: &GroupName, key: &str) -> types::builders::TagBuilder {
    types::Tag::builder().resource_id(group.as_str()).resource_type("auto-scaling-group").key(key)
}

/// The instance id in `Terminating EC2 instance: i-0ab - Waiting For ELB connection draining`.
fn instance_in(description: &str) -> Option<InstanceId> {
    description.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).find_map(|word| {
        let digits = word.strip_prefix("i-")?;
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())).then(|| word.into())
    })
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn count(size: Option<i32>) -> u32 {
    size.and_then(|size| u32::try_from(size).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<Text, Text> {
        pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
    }

    #[test]
    fn a_group_is_the_clusters_by_any_of_three_tags() {
        assert!(belongs(&tags(&[("kubernetes.io/cluster/demo", "owned")]), "demo"));
        assert!(belongs(&tags(&[("kubernetes.io/cluster/demo", "shared")]), "demo"));
        assert!(belongs(&tags(&[("k8s.io/cluster/demo", "owned")]), "demo"));
        assert!(belongs(&tags(&[("eks:cluster-name", "demo")]), "demo"));
        assert!(!belongs(&tags(&[("kubernetes.io/cluster/demo", "none")]), "demo"));
        assert!(!belongs(&tags(&[("eks:cluster-name", "demo-2"), ("Name", "demo")]), "demo"));
    }

    #[test]
    fn the_instance_of_an_activity_is_the_one_its_description_names() {
        for (text, id) in [
            ("Launching a new EC2 instance: i-0abc12", Some("i-0abc12")),
            ("Terminating EC2 instance: i-0abc12 - Waiting For ELB connection draining.", Some("i-0abc12")),
            ("Launching a new EC2 instance.  Status Reason: no capacity in multi-az", None),
            ("", None),
        ] {
            assert_eq!(instance_in(text), id.map(InstanceId::from), "{text}");
        }
    }
}
