//! From nothing to a snapshot that may be planned on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::fresh::Targets;
use super::{Error, Ports, Settings, handover, history};
use crate::cloud::{self, Cloud, ErrorKind};
use crate::cluster::{self, Cluster, ConfigRecord};
use crate::event::EventKind;
use crate::execute::retry;
use crate::model::marks::{OUTDATED_TAINT, ROTATION, STATE, TAG_SURGE};
use crate::model::{GroupName, Ledger, Node, NodeGroup, Override, Target, TemplateRef, Text};
use crate::observe::source::{Answer, Heard, Source, resolve};
use crate::observe::{RotationRecord, Snapshot};
use crate::plan::Preview;
use crate::policy::Policy;
use crate::preflight::Fault;

/// Facts taken in at once.
pub(super) const BATCH: usize = 1024;
/// An activity is stamped by AWS's clock, a ledger's step by ours.
const SKEW: SignedDuration = SignedDuration::from_mins(2);

/// A snapshot, the source that keeps it up, and the rotation found in progress.
pub(super) struct World<C> {
    pub(super) snapshot: Snapshot,
    pub(super) source: Source<C>,
    pub(super) open: Option<(RotationRecord, ConfigRecord)>,
    /// When the groups' targets were resolved.
    pub(super) targets: Targets,
}

/// Starts every source and waits until each has been heard in full.
pub(super) async fn observe<C, K>(ports: &Ports<C, K>, settings: &Settings) -> Result<World<C>, Error>
where
    C: Cloud + 'static,
    K: Cluster + 'static,
{
    let mut source = Source::start(ports.cloud.clone(), ports.cluster.clone(), &settings.cluster);
    source.read_groups();
    let mut snapshot = Snapshot::default();
    snapshot.cluster = settings.cluster.clone();
    let listed = listed(&mut source, snapshot, ports);
    let jitter = retry::Jitter::seeded(settings.seed);
    let version = patiently(&jitter, "get /version", || ports.cluster.version());
    let configs = patiently(&jitter, "list configmaps", || ports.cluster.configs(&settings.namespace));
    let (mut snapshot, version, configs) = tokio::try_join!(listed, version, configs)?;
    snapshot.version = version;
    snapshot.own_node = handover::own_node(settings, &snapshot);
    let asked = Instant::now();
    resolve_targets(&mut snapshot, ports).await?;
    let targets = Targets::resolved(targets(&snapshot).into_keys(), asked);
    if details_matter(&settings.policy, &snapshot) {
        let ids: Vec<_> = snapshot.instances.keys().cloned().collect();
        snapshot.apply_details(ports.cloud.instances(&ids).await?);
    }
    let names: Vec<_> = snapshot.groups.values().filter(|g| g.managed_by.is_none()).map(|g| g.name.clone()).collect();
    for name in ports.cloud.refreshing(&names).await? {
        snapshot.change_group(&name, |g| g.refreshing = true);
    }
    let ours = snapshot.groups.values().filter(|g| g.managed_by.is_none());
    let attached: BTreeSet<_> = ours.flat_map(|g| &g.attachments).cloned().collect();
    if !attached.is_empty() {
        snapshot.delays = ports.cloud.deregistration_delays(&attached).await?;
    }
    read_steps(&mut snapshot, ports).await?;
    let open = history::open(&configs, &settings.cluster);
    snapshot.rotation = open.as_ref().map(|(record, _)| record.clone().into());
    Ok(World { snapshot, source, open, targets })
}

/// Reads what can be read again, a few times if need be.
pub(super) async fn patiently<T, F: Future<Output = cluster::Result<T>>>(
    jitter: &retry::Jitter,
    verb: &str,
    read: impl FnMut() -> F,
) -> Result<T, Error> {
    retry::repeat(jitter, || Ok(()), read).await.map_err(|fault| history::access(fault, verb))
}

/// Applies facts until every first list is complete.
async fn listed<C, K>(source: &mut Source<C>, mut snapshot: Snapshot, ports: &Ports<C, K>) -> Result<Snapshot, Error>
where
    C: Cloud + 'static,
{
    let mut facts = Vec::with_capacity(BATCH);
    while !snapshot.is_synced() {
        match source.hear(&mut facts).await {
            Heard::Facts => facts.drain(..).for_each(|fact| snapshot.apply(fact)),
            Heard::Answer(answer) => match *answer {
                Answer::Groups { states, .. } => {
                    let now = ports.clock.now();
                    source.pace.end(Instant::now());
                    snapshot.apply_groups(states, now);
                }
                Answer::GroupsFailed(e) | Answer::Failed(e) => return Err(e.into()),
                Answer::WatchRefused(e) => return Err(e.into()),
                Answer::Targets(_) | Answer::Details(_) | Answer::Activities(..) => {}
            },
        }
    }
    Ok(snapshot)
}

/// The targets of the groups that may be rotated; a managed node group's is its owner's business.
pub(super) fn targets(snapshot: &Snapshot) -> BTreeMap<GroupName, Target> {
    let ours = snapshot.groups.values().filter(|g| g.managed_by.is_none() && g.operator.is_none());
    ours.map(|g| (g.name.clone(), unresolved(&g.target))).collect()
}

/// The target as the group names it, so that equal ones are asked for once.
pub(super) fn unresolved(target: &Target) -> Target {
    let plain = |t: &TemplateRef| TemplateRef { resolved: None, image: None, ..t.clone() };
    match target {
        Target::Template(t) => Target::Template(plain(t)),
        Target::Mixed { base, overrides } => Target::Mixed {
            base: plain(base),
            overrides: overrides
                .iter()
                .map(|o| Override { instance_type: o.instance_type.clone(), template: o.template.as_ref().map(plain) })
                .collect(),
        },
        other => other.clone(),
    }
}

async fn resolve_targets<C: Cloud, K>(snapshot: &mut Snapshot, ports: &Ports<C, K>) -> Result<(), Error> {
    for (group, target) in resolve(&*ports.cloud, targets(snapshot)).await? {
        snapshot.apply_target(&group, target);
    }
    Ok(())
}

/// EC2 is asked about every instance only where a rule reads what it alone knows.
fn details_matter(policy: &Policy, snapshot: &Snapshot) -> bool {
    let named = |t: &TemplateRef| t.image.is_some();
    let images = snapshot.groups.values().any(|g| match &g.target {
        Target::Template(t) => named(t),
        Target::Mixed { base, overrides } => named(base) || overrides.iter().flat_map(|o| &o.template).any(named),
        Target::Configuration(_) | Target::None => false,
    });
    policy.older_than.is_some() || policy.force || images
}

/// Reads the activities of each group whose ledger has a step in hand: they tell whether it took effect.
async fn read_steps<C: Cloud, K>(snapshot: &mut Snapshot, ports: &Ports<C, K>) -> Result<(), Error> {
    let steps: Vec<_> = snapshot.groups.values().filter_map(|g| Some((g.name.clone(), step_since(g)?))).collect();
    for (group, since) in steps {
        let activities = ports.cloud.activities(&group, since).await?;
        snapshot.apply_activities(&group, activities);
    }
    Ok(())
}

/// From when on the activities of a group tell of the step in its ledger, if it has one.
pub(super) fn step_since(group: &NodeGroup) -> Option<Timestamp> {
    let step = Ledger::parse(group.tags.get(TAG_SURGE)?).ok()?.step?;
    Some(by_aws(step.at))
}

/// From when on AWS's stamps may be later than a time of ours.
pub(super) fn by_aws(ours: Timestamp) -> Timestamp {
    ours.checked_sub(SKEW).unwrap_or(ours)
}

/// Whether the world carries anything of ours that a run would have to put back.
pub(super) fn is_marked(snapshot: &Snapshot) -> bool {
    let tagged = snapshot.groups.values().any(|g| g.tags.keys().any(|k| k.starts_with("fastnode:")));
    // A Node whose instance is gone, or going, goes by itself and takes its marks along.
    let stays = |n: &Node| {
        let instance = n.instance.as_ref().and_then(|id| snapshot.instances.get(id));
        instance.is_some_and(|i| !i.lifecycle.is_leaving())
    };
    let ours =
        |n: &Node| n.labels.contains_key(ROTATION) || n.annotations.contains_key(STATE) || n.has_taint(OUTDATED_TAINT);
    let marked = |n: &Node| stays(n) && ours(n);
    tagged || snapshot.rotation.is_some() || snapshot.nodes.values().any(marked)
}

/// Asks the API server whether we may do all that a rotation needs, before anything is changed.
pub(super) async fn permitted<C, K: Cluster>(ports: &Ports<C, K>, settings: &Settings) -> Result<(), Error> {
    let own = Some(settings.namespace.as_str());
    let mut wanted = vec![
        ("patch", "nodes", None),
        ("create", "pods/eviction", None),
        ("get", "leases", own),
        ("create", "leases", own),
        ("update", "leases", own),
        ("delete", "leases", own),
        ("list", "configmaps", own),
        ("create", "configmaps", own),
        ("update", "configmaps", own),
        ("delete", "configmaps", own),
    ];
    if settings.policy.past_budgets {
        wanted.push(("delete", "pods", None));
    }
    let jitter = retry::Jitter::seeded(settings.seed);
    let refused = patiently(&jitter, "create selfsubjectaccessreviews", || ports.cluster.refused(&wanted)).await?;
    if refused.is_empty() { Ok(()) } else { Err(Error::NotAllowed(refused)) }
}

/// The event that shows the plan.
pub(super) fn planned(cluster: &Text, preview: &Preview) -> EventKind {
    EventKind::RotationPlanned {
        cluster: cluster.clone(),
        groups: preview.progress(),
        blocks: preview.blocks.clone(),
        expected_s: preview.expected_s,
        lower_bound_s: preview.lower_bound_s,
        bottleneck: preview.bottleneck.to_string().into(),
    }
}

/// Whether a fault is one of what was asked for: it refuses also where nothing would be done. The nodes that were
/// asked for may be gone where a rotation was `begun`: it rotated them. What somebody else's group launches from is not
/// looked at, so that nothing may seem outdated where only such groups are left.
pub(super) fn is_of_the_request(fault: &Fault, begun: bool) -> bool {
    match fault {
        Fault::NoGroup | Fault::UnknownGroup { .. } | Fault::UnknownDaemonSet { .. } => true,
        Fault::UnknownNode { .. }
        | Fault::NodeOfNoGroup { .. }
        | Fault::NodeOfOthers { .. }
        | Fault::NothingSelected { .. }
        | Fault::AllHeld { .. }
        | Fault::NamedHeld { .. } => !begun,
        Fault::DaemonSetDown { .. }
        | Fault::Maximum { .. }
        | Fault::NoRoom { .. }
        | Fault::LastServing { .. }
        | Fault::NodesHeld { .. }
        | Fault::NeverFrees { .. } => false,
    }
}

/// Whether asking again later cannot help.
pub(super) fn is_denied(e: &cloud::Error) -> bool {
    e.kind == ErrorKind::Denied
}
