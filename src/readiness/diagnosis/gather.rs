//! Reads what the ports give of the suspects, within limits. What may not be read, or does not come in time, is
//! said, and the diagnosis goes on with less.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::SignedDuration;
use tokio::time::{Instant, timeout_at};

use super::{
    Case, Catalogue, CatalogueError, Evidence, Finding, LogOf, Scope, SuspectPod, Suspects, diagnose, suspects,
};
use crate::clock::Clock;
use crate::cloud::{self, Cloud, evidence::Evidence as CloudEvidence};
use crate::cluster::{self, evidence::Evidence as ClusterEvidence, evidence::LogRun, manifests::Manifests};
use crate::fixes;
use crate::model::{GroupName, InstanceId, ObjectKey, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;

/// Logs read at once: each may wait for a node that does not answer.
const LOGS_AT_ONCE: usize = 4;
/// Instances that never joined whose console is read.
const CONSOLES: usize = 5;
/// Groups whose activities are read.
const GROUPS: usize = 20;
/// Activities are read so far back.
const ACTIVITIES: SignedDuration = SignedDuration::from_hours(1);
/// How long an autopsy may take: a rotation waits for it.
const AUTOPSY: Duration = Duration::from_secs(20);
/// Pods whose logs an autopsy reads.
const AUTOPSY_PODS: usize = 8;

/// What is to be gathered.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// The EKS cluster's name.
    pub cluster: &'a str,
    /// What is gated.
    pub policy: &'a Policy,
    /// What is looked at.
    pub scope: Scope,
    /// Pods whose logs are read, at most.
    pub pods: usize,
    /// How long all of it may take.
    pub limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Who is suspected.
    pub suspects: Suspects,
    /// What was read of them.
    pub evidence: Evidence,
    /// Pods whose logs were asked for, and not refused.
    pub pods_read: usize,
}

/// Diagnoses one instance and the node it became, or did not: what a failed canary is asked. Bounded in time
/// (20 s) and in reads (8 pods' logs).
///
/// # Errors
/// None from the ports: what they refuse is left out. The built-in signatures are read by a test.
pub async fn autopsy<C, K>(
    ports: (&C, &K, Clock),
    (cluster, policy): (&str, &Policy),
    snapshot: &Snapshot,
    instance: &InstanceId,
) -> Result<Vec<Finding>, CatalogueError>
where
    C: Cloud + CloudEvidence,
    K: ClusterEvidence + Manifests,
{
    let scope = Scope::Instance(instance.clone());
    let ask = Ask { cluster, policy, scope, pods: AUTOPSY_PODS, limit: AUTOPSY };
    let Gathered { suspects, evidence, .. } = gather(ports, &ask, snapshot).await;
    for missing in &evidence.missing {
        tracing::info!("diagnosis of {instance}: {missing}");
    }
    let catalogue = Catalogue::built_in(evidence.service.as_deref())?;
    let now = ports.2.now();
    Ok(diagnose(&catalogue, Case { snapshot, suspects: &suspects, evidence: &evidence, now }))
}

/// Gathers the evidence: specs first, since they make suspects; then the suspects' logs, Warnings, and what AWS
/// says of instances that never joined.
pub async fn gather<C, K>((cloud, cluster, clock): (&C, &K, Clock), ask: &Ask<'_>, snapshot: &Snapshot) -> Gathered
where
    C: Cloud + CloudEvidence,
    K: ClusterEvidence + Manifests,
{
    let mut reader = Reader { deadline: Instant::now() + ask.limit, evidence: Evidence::default() };
    reader.specs(cluster, snapshot).await;
    let suspects = suspects(ask.policy, snapshot, &ask.scope, &reader.evidence, clock.now());
    let read = suspects.pods.get(..ask.pods.min(suspects.pods.len())).unwrap_or_default();
    if !suspects.sick.is_empty() || !read.is_empty() {
        reader.warnings(cluster).await;
    }
    let pods_read = reader.logs(cluster, read, suspects.pods.len()).await;
    reader.activities(cloud, &suspects.groups, clock).await;
    if !suspects.unjoined.is_empty() {
        reader.unjoined(cloud, cluster, ask.cluster, snapshot, &suspects.unjoined).await;
    }
    Gathered { suspects, evidence: reader.evidence, pods_read }
}

/// Reads until a deadline, and notes what it did not get.
struct Reader {
    deadline: Instant,
    evidence: Evidence,
}

impl Reader {
    /// What a read gives; an error, or none in time, is noted once.
    async fn take<T, E: std::fmt::Display>(
        &mut self,
        what: &str,
        read: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        match timeout_at(self.deadline, read).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                self.miss(format!("{what} could not be read: {error}"));
                None
            }
            Err(_) => {
                self.miss(format!("{what} could not be read in time"));
                None
            }
        }
    }

    fn miss(&mut self, sentence: String) {
        let sentence = Text::from(sentence);
        if !self.evidence.missing.contains(&sentence) {
            self.evidence.missing.push(sentence);
        }
    }

    async fn specs<K: Manifests>(&mut self, cluster: &K, snapshot: &Snapshot) {
        for set in snapshot.daemonsets.values().filter(|s| matches!(&*s.key.name, "kube-proxy" | "aws-node")) {
            let found = self.take(&format!("DaemonSet {}", set.key), cluster.daemonset(&set.key)).await;
            if let Some(spec) = found.flatten() {
                self.evidence.specs.insert(set.key.clone(), spec);
            }
        }
        let key = ObjectKey::new("default", "kubernetes");
        let service = self.take("Service default/kubernetes", cluster.service(&key)).await.flatten();
        self.evidence.service = service.and_then(|service| service.address);
        if snapshot.daemonsets.values().any(|s| &*s.key.name == "kube-proxy") {
            let key = ObjectKey::new("kube-system", "kube-proxy-config");
            let config = self.take("ConfigMap kube-system/kube-proxy-config", cluster.config_map(&key)).await.flatten();
            let files = || config.iter().flat_map(|data| data.values());
            self.evidence.proxy_mode = files().find_map(|text| setting(text, "mode:"));
            let name = files().find_map(|text| setting(text, "hostnameOverride:"));
            self.evidence.proxy_name = name.is_some_and(|name| fixes::detect::is_per_node(&name));
        }
    }

    async fn warnings<K: ClusterEvidence>(&mut self, cluster: &K) {
        if let Some(found) = self.take("Events", cluster.warnings()).await {
            self.evidence.warnings = found;
        }
    }

    /// The number of pods whose logs were asked for and not refused; `all` are suspected.
    async fn logs<K: ClusterEvidence>(&mut self, cluster: &K, pods: &[SuspectPod], all: usize) -> usize {
        let wanted: Vec<LogOf> = pods.iter().flat_map(logs_of).collect();
        let mut unread = wanted.len();
        let mut reads = stream::iter(wanted)
            .map(|log| async move {
                let found = cluster.logs(&log.pod, &log.container, log.run).await;
                (log, found)
            })
            .buffered(LOGS_AT_ONCE);
        while let Ok(Some((log, found))) = timeout_at(self.deadline, reads.next()).await {
            unread -= 1;
            match found {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => drop(self.evidence.logs.insert(log, lines)),
                // Whoever may not read one may mostly read none: it asks no further.
                Err(error) if error.kind == cluster::ErrorKind::Forbidden => {
                    drop(reads);
                    let read: BTreeSet<&ObjectKey> = self.evidence.logs.keys().map(|log| &log.pod).collect();
                    let read = read.len();
                    let what = match read {
                        0 => "no logs were read".to_owned(),
                        some => format!("the logs of {some} of {all} suspected pods were read"),
                    };
                    self.miss(format!("{what}: {error}; config/deploy/rbac-doctor.yaml allows it"));
                    return read;
                }
                Err(error) => {
                    let sentence = format!("the log of {}/{} could not be read: {error}", log.pod, log.container);
                    self.evidence.missing.push(sentence.into());
                }
            }
        }
        drop(reads);
        if unread > 0 {
            self.miss(format!("{} could not be read in time", crate::units::count(unread as u64, "log")));
        }
        let read = pods.len();
        if read < all {
            self.miss(format!("the logs of {read} of {all} suspected pods were read; --log-pods N reads more"));
        }
        read
    }

    async fn activities<C: Cloud>(&mut self, cloud: &C, groups: &BTreeSet<GroupName>, clock: Clock) {
        let since = clock.now().saturating_sub(ACTIVITIES).unwrap_or(jiff::Timestamp::MIN);
        for group in groups.iter().take(GROUPS) {
            let found = self.take(&format!("activities of {group}"), cloud.activities(group, since)).await;
            if let Some(found) = found {
                self.evidence.activities.insert(group.clone(), found);
            }
        }
    }

    async fn unjoined<C, K>(&mut self, cloud: &C, cluster: &K, name: &str, snapshot: &Snapshot, ids: &[InstanceId])
    where
        C: Cloud + CloudEvidence,
        K: Manifests,
    {
        let details: Option<Vec<cloud::InstanceDetail>> = self.take("instances", cloud.instances(ids)).await;
        self.evidence.states = details.into_iter().flatten().map(|d| (d.id, d.state)).collect();
        for id in ids.iter().take(CONSOLES) {
            if let Some(Some(console)) = self.take("the console", cloud.console(id)).await {
                self.evidence.consoles.insert(id.clone(), console);
            }
        }
        self.evidence.roles = self.take("roles of instances", cloud.roles(ids)).await.unwrap_or_default();
        if let Some(mut principals) = self.take("access entries", cloud.principals(name)).await {
            // Who is in neither may not join; without aws-auth that cannot be said.
            let key = ObjectKey::new("kube-system", "aws-auth");
            if let Some(config) = self.take("ConfigMap kube-system/aws-auth", cluster.config_map(&key)).await {
                principals.extend(config.into_iter().flat_map(|data| data.into_values()).flat_map(arns));
                self.evidence.principals = Some(principals);
            }
        }
        let groups = ids.iter().filter_map(|id| snapshot.groups.get(&snapshot.instances.get(id)?.group));
        let subnets: BTreeSet<Text> = groups.flat_map(|group| &group.subnets).cloned().collect();
        if !subnets.is_empty() {
            let free = self.take("subnets", cloud.free_addresses(&subnets)).await;
            self.evidence.free_addresses = free.unwrap_or_default();
        }
    }
}

/// The runs of each container of a pod; the one before only where there was one.
fn logs_of(pod: &SuspectPod) -> impl Iterator<Item = LogOf> {
    pod.containers.iter().flat_map(|(container, before)| {
        let runs = [(*before, LogRun::Previous), (true, LogRun::Current)];
        let log = |run| LogOf { pod: pod.pod.clone(), container: container.clone(), run };
        runs.into_iter().filter(|(there, _)| *there).map(move |(_, run)| log(run))
    })
}

/// A key of a KubeProxyConfiguration, which is flat for those that are asked; `""` is the empty one.
fn setting(config: &str, key: &str) -> Option<Text> {
    let value = config.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().trim_matches('"').into())
}

/// The roles that aws-auth's YAML names.
fn arns(text: String) -> Vec<Text> {
    let quotes = ['"', '\''];
    let value = |line: &str| {
        let (_, arn) = line.split_once("rolearn:")?;
        Some(Text::from(arn.trim().trim_matches(quotes)))
    };
    text.lines().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_roles_are_read_from_config_maps() {
        let config = "kind: KubeProxyConfiguration\nhostnameOverride: \"\"\nmode: \"ipvs\"\n";
        assert_eq!(setting(config, "mode:").as_deref(), Some("ipvs"));
        assert_eq!(setting(config, "hostnameOverride:").as_deref(), Some(""));
        assert_eq!(setting("kind: X\n", "mode:"), None);
        let auth =
            "- groups:\n  - system:nodes\n  rolearn: arn:aws:iam::1:role/node\n- rolearn: \"arn:aws:iam::1:role/b\"\n";
        assert_eq!(arns(auth.to_owned()), ["arn:aws:iam::1:role/node", "arn:aws:iam::1:role/b"].map(Text::from));
    }
}
