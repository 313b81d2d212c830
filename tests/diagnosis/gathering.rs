//! What is read of the suspects, within which limits, and what is said of what could not be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastnode::clock::Clock;
use fastnode::cloud::{self, Cloud, EksCluster, GroupState, InstanceDetail};
use fastnode::cluster::evidence::{EventRecord, LogLine, LogRun};
use fastnode::cluster::manifests::{Manifests, Sending, ServiceRecord};
use fastnode::cluster::{self, ErrorKind};
use fastnode::model::*;
use fastnode::policy::Policy;
use fastnode::readiness::diagnosis::{Ask, Gathered, autopsy, gather};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::scene::{SERVICE, Scene, at};
use super::worlds::*;

/// Both ports, answering as it is told; what it was asked is noted.
#[derive(Default)]
struct Fake {
    asked: RefCell<Vec<String>>,
    log: Vec<LogLine>,
    log_error: Option<ErrorKind>,
    /// Pods whose name begins so are refused with that error.
    refused: &'static str,
    log_takes: Duration,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.asked.borrow_mut().push(what.into());
    }

    fn asked(&self, prefix: &str) -> usize {
        self.asked.borrow().iter().filter(|what| what.starts_with(prefix)).count()
    }
}

fn refuse(kind: ErrorKind, verb: &str) -> cluster::Error {
    cluster::Error { kind, verb: verb.into(), message: "no".into(), retry_after: None }
}

impl cluster::evidence::Evidence for Fake {
    async fn logs(&self, pod: &ObjectKey, container: &str, run: LogRun) -> cluster::Result<Vec<LogLine>> {
        self.note(format!("log {}/{container} {run:?}", pod.name));
        tokio::time::sleep(self.log_takes).await;
        match &self.log_error {
            Some(kind) if pod.name.starts_with(self.refused) => Err(refuse(kind.clone(), "get pods/log")),
            _ => Ok(self.log.clone()),
        }
    }

    async fn warnings(&self) -> cluster::Result<Vec<EventRecord>> {
        self.note("warnings");
        Ok(vec![])
    }

    async fn starts(&self) -> cluster::Result<Vec<EventRecord>> {
        unreachable!("a diagnosis does not ask when kubelets started")
    }
}

impl Manifests for Fake {
    async fn daemonset(&self, key: &ObjectKey) -> cluster::Result<Option<Value>> {
        self.note(format!("daemonset {key}"));
        let command = json!({ "containers": [{ "name": "kube-proxy", "command": ["kube-proxy"] }] });
        Ok(Some(json!({ "spec": { "template": { "spec": command } } })))
    }

    async fn apply_daemonset(&self, _: &ObjectKey, _: &Value, _: Sending) -> cluster::Result<Value> {
        unreachable!("a diagnosis changes nothing")
    }

    async fn patch_daemonset(&self, _: &ObjectKey, _: &Value, _: Sending) -> cluster::Result<Value> {
        unreachable!("a diagnosis changes nothing")
    }

    async fn service(&self, _: &ObjectKey) -> cluster::Result<Option<ServiceRecord>> {
        Ok(Some(ServiceRecord { address: Some(SERVICE.into()), ports: vec![443] }))
    }

    async fn config_map(&self, key: &ObjectKey) -> cluster::Result<Option<BTreeMap<String, String>>> {
        match &*key.name {
            "kube-proxy-config" => Ok(Some([("config".to_owned(), "mode: \"ipvs\"\n".to_owned())].into())),
            "aws-auth" => Ok(None),
            _ => Err(refuse(ErrorKind::Forbidden, "get configmaps")),
        }
    }
}

impl cloud::evidence::Evidence for Fake {
    async fn console(&self, instance: &InstanceId) -> cloud::Result<Option<String>> {
        self.note(format!("console {instance}"));
        Ok(Some("kubelet: Unauthorized\n".to_owned()))
    }

    async fn principals(&self, _: &str) -> cloud::Result<BTreeSet<Text>> {
        Ok(BTreeSet::new())
    }

    async fn roles(&self, instances: &[InstanceId]) -> cloud::Result<BTreeMap<InstanceId, Text>> {
        Ok(instances.iter().map(|id| (id.clone(), "arn:aws:iam::1:role/node".into())).collect())
    }

    async fn free_addresses(&self, subnets: &BTreeSet<Text>) -> cloud::Result<BTreeMap<Text, u32>> {
        self.note(format!("subnets {}", subnets.len()));
        let message = "you may not".to_owned();
        Err(cloud::Error { kind: cloud::ErrorKind::Denied, operation: "ec2:DescribeSubnets".into(), message })
    }
}

impl Cloud for Fake {
    async fn activities(&self, group: &GroupName, _: Timestamp) -> cloud::Result<Vec<Activity>> {
        self.note(format!("activities {group}"));
        Ok(vec![])
    }

    async fn instances(&self, _: &[InstanceId]) -> cloud::Result<Vec<InstanceDetail>> {
        Ok(vec![])
    }

    async fn cluster(&self, _: &str) -> cloud::Result<EksCluster> {
        unreachable!()
    }

    async fn groups(&self, _: &str) -> cloud::Result<Vec<GroupState>> {
        unreachable!()
    }

    async fn refreshing(&self, _: &[GroupName]) -> cloud::Result<BTreeSet<GroupName>> {
        unreachable!()
    }

    async fn deregistration_delays(&self, _: &BTreeSet<Attachment>) -> cloud::Result<BTreeMap<Attachment, u32>> {
        unreachable!()
    }

    async fn resolve(&self, _: &Target) -> cloud::Result<Target> {
        unreachable!()
    }

    async fn set_desired(&self, _: &GroupName, _: u32) -> cloud::Result<()> {
        unreachable!()
    }

    async fn terminate(&self, _: &InstanceId, _: bool) -> cloud::Result<Activity> {
        unreachable!()
    }

    async fn suspend(&self, _: &GroupName, _: &BTreeSet<Process>) -> cloud::Result<()> {
        unreachable!()
    }

    async fn resume(&self, _: &GroupName, _: &BTreeSet<Process>) -> cloud::Result<()> {
        unreachable!()
    }

    async fn protect(&self, _: &GroupName, _: &[InstanceId], _: bool) -> cloud::Result<()> {
        unreachable!()
    }

    async fn set_max(&self, _: &GroupName, _: u32) -> cloud::Result<()> {
        unreachable!()
    }

    async fn tag(&self, _: &GroupName, _: &BTreeMap<Text, Text>) -> cloud::Result<()> {
        unreachable!()
    }

    async fn untag(&self, _: &GroupName, _: &BTreeSet<Text>) -> cloud::Result<()> {
        unreachable!()
    }

    fn calls(&self) -> BTreeMap<Text, u64> {
        BTreeMap::new()
    }
}

async fn gathered(fake: &Fake, scene: &Scene, pods: usize) -> Gathered {
    let clock = Clock::starting_at(scene.now);
    let policy = Policy::default();
    let limit = Duration::from_secs(30);
    let ask = Ask { cluster: "blue", policy: &policy, scope: scene.scope.clone(), pods, limit };
    gather((fake, fake, clock), &ask, &scene.snapshot).await
}

fn troubled() -> Scene {
    let mut scene = Scene::new().restarted("aws-node").restarted("kiam-agent");
    scene.snapshot.reindex();
    scene
}

#[tokio::test(start_paused = true)]
async fn suspects_logs_are_read_both_runs_where_there_were_two() {
    let fake = Fake { log: vec![LogLine { time: at(1.0), text: "x".into() }], ..Fake::default() };
    let found = gathered(&fake, &troubled(), 20).await;
    assert_eq!(found.suspects.pods.len(), 4, "two that restarted, and two of kube-proxy, for it lacks the flag");
    // aws-node and kiam-agent: two runs each; kube-proxy: one, on two nodes. Init containers ended well.
    assert_eq!(fake.asked("log "), 2 + 2 + 1 + 1);
    assert_eq!((fake.asked("log kube-proxy-new-0/kube-proxy Previous"), fake.asked("warnings")), (0, 1));
    assert_eq!((found.evidence.logs.len(), found.evidence.specs.len()), (6, 2));
    assert_eq!(
        (found.evidence.service.as_deref(), found.evidence.proxy_mode.as_deref()),
        (Some(SERVICE), Some("ipvs"))
    );
    assert!(found.evidence.missing.is_empty(), "{:?}", found.evidence.missing);
}

#[tokio::test(start_paused = true)]
async fn no_more_pods_are_read_than_were_asked_for_and_that_is_said() {
    let fake = Fake::default();
    let found = gathered(&fake, &troubled(), 2).await;
    assert_eq!((found.pods_read, fake.asked("log ")), (2, 4));
    assert_eq!(&*found.evidence.missing[0], "the logs of 2 of 4 suspected pods were read; --log-pods N reads more");
}

#[tokio::test(start_paused = true)]
async fn without_the_permission_for_logs_it_goes_on_with_less() {
    let fake = Fake { log_error: Some(ErrorKind::Forbidden), ..Fake::default() };
    let found = gathered(&fake, &troubled(), 2).await;
    assert!(fake.asked("log ") <= 4, "it asks no further");
    let missing: Vec<&str> = found.evidence.missing.iter().map(|m| &**m).collect();
    let expected = "no logs were read: failed to get pods/log: no; config/deploy/rbac-doctor.yaml allows it";
    assert_eq!(missing, [expected], "and not that some were");
    assert_eq!(found.pods_read, 0);
    assert_eq!(fake.asked("warnings"), 1);
}

#[tokio::test(start_paused = true)]
async fn with_the_permission_for_some_logs_only_it_says_how_many_were_read() {
    let log = vec![LogLine { time: at(1.0), text: "x".into() }];
    let fake = Fake { log, log_error: Some(ErrorKind::Forbidden), refused: "kiam-agent", ..Fake::default() };
    let found = gathered(&fake, &troubled(), 20).await;
    assert_eq!((found.pods_read, found.evidence.logs.len()), (1, 2), "{:?}", found.evidence.logs.keys());
    let missing: Vec<&str> = found.evidence.missing.iter().map(|m| &**m).collect();
    let expected = "the logs of 1 of 4 suspected pods were read: failed to get pods/log: no; \
                    config/deploy/rbac-doctor.yaml allows it";
    assert_eq!(missing, [expected]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_answer_hold_nothing_up_for_longer_than_the_limit() {
    let fake = Fake { log_takes: Duration::from_secs(20), ..Fake::default() };
    let begun = tokio::time::Instant::now();
    let found = gathered(&fake, &troubled(), 20).await;
    assert!(begun.elapsed() <= Duration::from_secs(30));
    assert_eq!(&*found.evidence.missing[0], "2 logs could not be read in time");
}

#[tokio::test(start_paused = true)]
async fn of_an_instance_that_never_joined_all_is_asked_and_a_refusal_is_said() {
    let mut scene = Scene::new().unjoined(6).change(|s| {
        group_mut(s).subnets = ["subnet-1", "subnet-2"].map(Text::from).into();
    });
    scene.snapshot.reindex();
    let fake = Fake::default();
    let found = gathered(&fake, &scene, 20).await;
    let asked = (fake.asked("console i-late"), fake.asked("activities workers"), fake.asked("subnets 2"));
    assert_eq!(asked, (1, 1, 1));
    assert!(found.evidence.principals.as_ref().is_some_and(BTreeSet::is_empty));
    assert_eq!(
        found.evidence.missing.iter().map(|m| &**m).collect::<Vec<_>>(),
        ["subnets could not be read: failed to call ec2:DescribeSubnets: you may not"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_healthy_cluster_costs_no_log_and_no_list() {
    let fake = Fake::default();
    let mut scene = Scene::new().change(|s| {
        s.daemonsets.remove(&Uid::from("ds-kube-proxy"));
    });
    scene.snapshot.reindex();
    gathered(&fake, &scene, 20).await;
    assert_eq!((fake.asked("log "), fake.asked("warnings"), fake.asked("activities")), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_autopsy_is_of_one_instance_and_bounded() {
    let line = "{\"msg\":\"dial tcp 172.20.0.1:443: i/o timeout\"}";
    let log = vec![LogLine { time: at(37.0), text: line.into() }];
    let fake = Fake { log, ..Fake::default() };
    let mut scene = troubled();
    scene.snapshot.reindex();
    let policy = Policy::default();
    let clock = Clock::starting_at(scene.now);
    let found = autopsy((&fake, &fake, clock), ("blue", &policy), &scene.snapshot, &"i-new-0".into()).await.unwrap();
    let names: Vec<_> = found.iter().map(|f| (&*f.signature, f.fix.as_deref())).collect();
    let expected = [
        ("aws-node-before-service-rules", Some("aws-node-wait")),
        ("dependent-before-service-rules", Some("wait-for")),
    ];
    assert_eq!(names, expected);

    let slow = Fake { log_takes: Duration::from_secs(3600), ..Fake::default() };
    let begun = tokio::time::Instant::now();
    autopsy((&slow, &slow, clock), ("blue", &policy), &scene.snapshot, &"i-new-0".into()).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(20));
}
