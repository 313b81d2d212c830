//! A small cluster, one part of it in trouble, and what its containers wrote.

use std::collections::BTreeSet;

use fastnode::cluster::evidence::{EventRecord, LogLine, LogRun};
use fastnode::model::*;
use fastnode::observe::Snapshot;
use fastnode::policy::Policy;
use fastnode::readiness::diagnosis::*;
use jiff::{SignedDuration, Timestamp};

use super::worlds::*;

pub const SERVICE: &str = "172.20.0.1";

pub struct Scene {
    pub snapshot: Snapshot,
    pub evidence: Evidence,
    pub scope: Scope,
    pub now: Timestamp,
}

/// So many seconds after `new-0` was created.
pub fn at(seconds: f64) -> Timestamp {
    minute(2) + SignedDuration::from_secs_f64(seconds)
}

impl Scene {
    /// The world of `worlds`, with kiam-agent besides, eight minutes after `new-0` was created.
    pub fn new() -> Self {
        let mut snapshot = world();
        let kiam = daemonset("kube-system", "kiam-agent");
        snapshot.revisions.insert(kiam.uid.clone(), revision(&kiam, 1, "hash-1"));
        for node in snapshot.nodes.values().cloned().collect::<Vec<_>>() {
            let pod = daemon_pod(&kiam, &node);
            snapshot.pods.insert(pod.uid.clone(), pod.into());
        }
        snapshot.daemonsets.insert(kiam.uid.clone(), kiam);
        let evidence = Evidence { service: Some(SERVICE.into()), ..Evidence::default() };
        Self { snapshot, evidence, scope: Scope::Policy, now: now() }
    }

    /// The pod of `set` on `new-0`.
    pub fn pod(&mut self, set: &str) -> &mut Pod {
        pod_mut(&mut self.snapshot, &format!("pod-{set}-new-0"))
    }

    /// `set`'s container on `new-0` was restarted once: it ran from 25 s to 37 s, again from 38 s on, and its pod
    /// became ready at 68 s.
    pub fn restarted(mut self, set: &str) -> Self {
        let pod = self.pod(set);
        let last = LastRun { exit_code: 1, reason: "Error".into(), started: Some(at(25.0)), finished: Some(at(37.0)) };
        pod.containers[1].restarts = 1;
        pod.containers[1].last = Some(last);
        pod.containers[1].state = ContainerState::Running(Some(at(38.0)));
        pod.initialized = Some(at(25.0));
        pod.ready_since = Some(at(68.0));
        self
    }

    /// `set`'s container on `new-0` has run since 1 s and became ready only after so many.
    pub fn late(mut self, set: &str, ready: f64) -> Self {
        let pod = self.pod(set);
        pod.containers[1].state = ContainerState::Running(Some(at(1.0)));
        pod.initialized = Some(at(1.0));
        pod.ready_since = Some(at(ready));
        self
    }

    /// `set`'s container on `new-0` runs and is not ready.
    pub fn unready(mut self, set: &str) -> Self {
        let pod = self.pod(set);
        pod.flags.ready = false;
        pod.containers[1].ready = false;
        self
    }

    /// The log of `set`'s container on `new-0`: seconds after the node's creation, and what was written.
    pub fn log(mut self, set: &str, run: LogRun, lines: &[(f64, &str)]) -> Self {
        let pod = ObjectKey::new("kube-system", &format!("{set}-new-0"));
        let lines = lines.iter().map(|(seconds, text)| LogLine { time: at(*seconds), text: (*text).into() }).collect();
        self.evidence.logs.insert(LogOf { pod, container: set.into(), run }, lines);
        self
    }

    /// The spec of kube-proxy, with this command.
    pub fn proxy_command(self, command: &[&str]) -> Self {
        let containers = serde_json::json!([{ "name": "kube-proxy", "command": command }]);
        self.spec("kube-proxy", &serde_json::json!({ "containers": containers }))
    }

    /// The spec of a DaemonSet's pods.
    pub fn spec(mut self, set: &str, pod: &serde_json::Value) -> Self {
        let spec = serde_json::json!({ "spec": { "template": { "spec": pod } } });
        self.evidence.specs.insert(ObjectKey::new("kube-system", set), spec);
        self
    }

    /// A Warning about a pod of `set`, or about the Node, seen from 20 s to `until`.
    pub fn warning(mut self, about: &str, reason: &str, message: &str, until: f64) -> Self {
        let (kind, uid) = match about {
            "node" => ("Node", "new-0".to_owned()),
            set => ("Pod", format!("pod-{set}-new-0")),
        };
        let about = if kind == "Node" { ObjectKey::new("", "new-0") } else { ObjectKey::new("kube-system", about) };
        self.evidence.warnings.push(EventRecord {
            kind: kind.into(),
            about,
            uid: Some(uid.into()),
            warning: true,
            reason: reason.into(),
            message: message.into(),
            count: 4,
            first: Some(at(20.0)),
            last: Some(at(until)),
            source: "kubelet".into(),
        });
        self
    }

    /// The instance `i-late`, launched so many minutes before now, in service without a Node.
    pub fn unjoined(mut self, minutes: i64) -> Self {
        let launched = self.now - SignedDuration::from_mins(minutes);
        self.snapshot.instances.insert("i-late".into(), instance("i-late", "a", "2", launched));
        self
    }

    pub fn console(mut self, text: &str) -> Self {
        self.evidence.consoles.insert("i-late".into(), text.to_owned());
        self
    }

    /// Its role, and the roles that may join.
    pub fn role(mut self, role: &str, principals: &[&str]) -> Self {
        self.evidence.roles.insert("i-late".into(), role.into());
        self.evidence.principals = Some(principals.iter().map(|p| Text::from(*p)).collect::<BTreeSet<_>>());
        self
    }

    /// A failed activity of the group, so many minutes ago.
    pub fn failed_launch(mut self, message: &str, minutes: i64) -> Self {
        let activity = Activity {
            id: "a-1".into(),
            group: GROUP.into(),
            instance: None,
            description: "Launching a new EC2 instance.  Status Reason: see the message".into(),
            cause: "At 2026-11-23T12:00:00Z an instance was started in response to a difference".into(),
            message: Some(message.into()),
            status: ActivityStatus::Failed,
            started: self.now - SignedDuration::from_mins(minutes),
            ended: None,
        };
        self.evidence.activities.insert(GROUP.into(), vec![activity]);
        self
    }

    pub fn change(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.snapshot);
        self
    }

    pub fn findings(&mut self) -> Vec<Finding> {
        self.snapshot.reindex();
        let suspects = suspects(&Policy::default(), &self.snapshot, &self.scope, &self.evidence, self.now);
        let catalogue = Catalogue::built_in(self.evidence.service.as_deref()).unwrap();
        let case = Case { snapshot: &self.snapshot, suspects: &suspects, evidence: &self.evidence, now: self.now };
        diagnose(&catalogue, case)
    }

    /// What is said beside the findings.
    pub fn remarks(mut self) -> Vec<String> {
        self.snapshot.reindex();
        let suspects = suspects(&Policy::default(), &self.snapshot, &self.scope, &self.evidence, self.now);
        let case = Case { snapshot: &self.snapshot, suspects: &suspects, evidence: &self.evidence, now: self.now };
        remarks(case).iter().map(ToString::to_string).collect()
    }

    /// The names of the signatures found.
    pub fn names(mut self) -> Vec<String> {
        self.findings().iter().map(|f| f.signature.to_string()).collect()
    }

    /// The one finding.
    pub fn finding(mut self) -> Finding {
        let mut findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.pop().unwrap()
    }
}
