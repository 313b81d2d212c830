//! What the containers of the world wrote, and what its kubelets warned of: told from the runs as they went, in the
//! words of the programs of those versions.

use jiff::Timestamp;
use serde_json::json;

use crate::cluster::Result;
use crate::cluster::evidence::{EventRecord, Evidence, LOG_LINES, LogLine, LogRun};
use crate::model::{ConditionStatus, ObjectKey, Uid};
use crate::units::seconds;

use super::SimCluster;
use super::behaviour::{Act, Without, minor};
use super::cluster::not_found;
use super::manifests::SERVICE_ADDRESS;
use super::start::{Run, Startup};
use super::workloads::{Origin, PodState};
use super::world::{Micros, World, later, timestamp};

const SECOND: Micros = 1_000_000;
const LOGS: &str = "get pods/log";
const EVENTS: &str = "list events";
/// How long the API server keeps an Event (`--event-ttl`).
const KEPT: Micros = 3_600 * SECOND;
const NETWORK_NOT_READY: &str = "network is not ready: container runtime network not ready: NetworkReady=false \
    reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

/// A log as it is written.
struct Log {
    begin: Timestamp,
    lines: Vec<(Timestamp, String)>,
}

impl Log {
    fn time(&self, at: Micros) -> Timestamp {
        later(self.begin, at)
    }

    fn line(&mut self, at: Micros, text: impl Into<String>) {
        self.lines.push((self.time(at), text.into()));
    }

    /// As klog writes: severity, month and day, time, file.
    fn klog(&mut self, at: Micros, severity: char, file: &str, text: &str) {
        let time = self.time(at).strftime("%m%d %H:%M:%S%.6f").to_string();
        self.line(at, format!("{severity}{time}       1 {file}] {text}"));
    }

    /// As zap writes for the VPC CNI.
    fn zap(&mut self, at: Micros, level: &str, caller: &str, text: &str) {
        let time = self.time(at).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        self.line(at, json!({ "level": level, "ts": time, "caller": caller, "msg": text }).to_string());
    }
}

/// What a log is told from.
struct Story<'a> {
    run: &'a Run,
    name: &'a str,
    image: &'a str,
    host_name: &'a str,
    without: Without,
    need: &'a str,
}

fn tell_proxy(log: &mut Log, story: &Story<'_>) {
    let begin = story.run.started;
    let today = minor(story.image).is_none_or(|version| version >= (1, 34));
    let nobody = format!("nodes {:?} not found", story.host_name);
    if today {
        log.klog(begin, 'I', "server_linux.go:53", "\"Using iptables proxy\"");
    } else {
        log.klog(begin, 'I', "flags.go:59", "FLAG: --v=\"2\"");
        for at in &story.run.lookups {
            log.klog(*at, 'E', "node.go:161", &format!("Failed to retrieve node info: {nobody}"));
        }
    }
    let Some(reached) = story.run.reached else { return };
    match (story.run.lookups.is_empty(), today) {
        (false, true) => {
            let text = format!("\"Timed out waiting for node to exist\" node={:?} err={nobody:?}", story.host_name);
            log.klog(reached, 'E', "node.go:118", &text);
            let text = "\"Can't determine this node's IP, assuming loopback; if this is incorrect, please set the \
                        --bind-address flag\"";
            log.klog(reached, 'I', "server.go:682", text);
        }
        (false, false) => {
            let text = "can't determine this node's IP, assuming 127.0.0.1; if this is incorrect, please set the \
                        --bind-address flag";
            log.klog(reached, 'I', "server.go:836", text);
        }
        (true, _) => log.klog(reached, 'I', "node.go:172", "Successfully retrieved node IP: 10.0.0.1"),
    }
    log.klog(reached + 40_000, 'I', "server_others.go:212", "Using iptables Proxier.");
    log.klog(reached + 90_000, 'I', "config.go:315", "Starting service config controller");
    log.klog(reached + 190_000, 'I', "shared_informer.go:247", "Caches are synced for service config ");
}

fn tell_network(log: &mut Log, story: &Story<'_>) {
    let (begin, run) = (story.run.started, story.run);
    let script = "entrypoint.sh";
    log.zap(begin, "info", script, "Install CNI binary..");
    log.zap(begin + 20_000, "info", script, "Starting IPAM daemon in the background ... ");
    log.zap(begin + 21_000, "info", script, "Checking for IPAM connectivity ... ");
    let timeout = format!("dial tcp {SERVICE_ADDRESS}:443: i/o timeout");
    let get = format!("Get \"https://{SERVICE_ADDRESS}:443/version?timeout=5s\": {timeout}");
    log.zap(begin + 60_000, "info", "k8sapi/k8sutils.go:122", "Testing communication with server");
    if run.missed {
        let end = run.ended.map(|(at, _)| at).or(run.reached).unwrap_or(Micros::MAX);
        match story.without {
            Without::Exits(_) => {
                if let Some((at, _)) = run.ended {
                    let text = format!("Unable to reach API Server: error communicating with apiserver: {get}");
                    log.zap(at, "error", "aws-k8s-agent/main.go:28", &text);
                }
            }
            _ => {
                // Its request times out after 5 s, and it tries again 2 s later; the end is cut at now.
                for at in (0..60).map(|n| begin + (5 + 7 * n) * SECOND).take_while(|at| *at < end) {
                    log.zap(at, "error", "k8sapi/k8sutils.go:130", &format!("Unable to reach API Server, {get}"));
                }
                if let (Without::GoesOn(_, until), None) = (story.without, run.reached) {
                    let at = begin + (until * SECOND as f64) as Micros;
                    let text = "Proceeding without API server connectivity, will retry in the background";
                    log.zap(at, "warn", "aws-k8s-agent/main.go:71", text);
                }
            }
        }
    }
    let Some(reached) = run.reached else { return };
    let text = "Successful communication with the Cluster! Cluster Version is: v1.21+. git version: v1.21.14-eks";
    log.zap(reached, "info", "k8sapi/k8sutils.go:140", text);
    log.zap(reached + SECOND, "info", script, "Copying config file ... ");
    log.zap(reached + SECOND + 5_000, "info", script, "Successfully copied CNI plugin binary and config file.");
    log.zap(reached + SECOND + 9_000, "info", script, "Foregrounding IPAM daemon ...");
}

fn tell_dependent(log: &mut Log, story: &Story<'_>) {
    let (run, name) = (story.run, story.name);
    let begin = log.begin;
    let time = |at| later(begin, at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    log.line(
        run.started,
        json!({ "level": "info", "msg": format!("starting {name}"), "time": time(run.started) }).to_string(),
    );
    if let (true, Some((at, code))) = (run.missed, run.ended) {
        let address = match (story.need, name) {
            ("kube-proxy", "node-local-dns") => "172.20.0.10:53".to_owned(),
            ("kube-proxy", _) => format!("{SERVICE_ADDRESS}:443"),
            ("node-local-dns", _) => "169.254.20.10:53".to_owned(),
            _ => "127.0.0.1:50051".to_owned(),
        };
        let text = format!("failed to start {name}: dial tcp {address}: i/o timeout");
        log.line(at, json!({ "level": "fatal", "msg": text, "exit": code, "time": time(at) }).to_string());
    }
    if let Some(at) = run.reached {
        log.line(at, json!({ "level": "info", "msg": format!("{name} is serving"), "time": time(at) }).to_string());
    }
}

fn tell_waiter(log: &mut Log, story: &Story<'_>) {
    let run = story.run;
    if let Some((at, 75)) = run.ended {
        log.line(at, "KUBERNETES_SERVICE_HOST is not there yet: exit 75, start me over");
        return;
    }
    let goal = format!("a connection to {SERVICE_ADDRESS}:443");
    if run.missed {
        let until = run.reached.unwrap_or(Micros::MAX);
        for n in (0..30).take_while(|n| run.started + (3 + 10 * n) * SECOND < until) {
            let text = format!("waiting for {goal}, {}: no answer", seconds((3 + 10 * n) as f64));
            log.line(run.started + (3 + 10 * n) * SECOND, text);
        }
    }
    if let Some(at) = run.reached {
        log.line(at, format!("{goal}: there after {}", seconds((at - run.started) as f64 / SECOND as f64)));
    }
}

impl World {
    fn log(&self, pod: &PodState, container: &str, which: LogRun) -> Vec<LogLine> {
        let (Some(startup), Origin::Daemon(daemon)) = (pod.startup.as_deref(), pod.origin) else { return Vec::new() };
        let Some(index) = startup.roles.iter().position(|r| *r.name == *container) else { return Vec::new() };
        let mut runs = startup.runs.iter().rev().filter(|r| r.container == index);
        let run = match which {
            LogRun::Current => runs.next(),
            LogRun::Previous => runs.nth(1),
        };
        let Some(run) = run else { return Vec::new() };
        let set = &self.daemons[daemon];
        let node = pod.node.map(|n| self.nodes[n].record.name.as_str()).unwrap_or_default();
        let host_name = match &self.dhcp_domain {
            Some(domain) => format!("{}.{domain}", node.split('.').next().unwrap_or(node)),
            None => node.to_owned(),
        };
        let act = &startup.roles[index].act;
        let story = Story {
            run,
            name: container,
            image: startup.tag.as_ref(),
            host_name: &host_name,
            without: if let Act::Works(work) = act { work.without } else { Without::Works },
            need: set.needs.map(|n| self.daemons[n].spec.name.as_str()).unwrap_or_default(),
        };
        let mut log = Log { begin: startup.begin, lines: Vec::new() };
        match act {
            Act::Waits(_) => tell_waiter(&mut log, &story),
            Act::Works(_) if container == "kube-proxy" => tell_proxy(&mut log, &story),
            Act::Works(_) if container == "aws-node" => tell_network(&mut log, &story),
            Act::Works(_) => tell_dependent(&mut log, &story),
            Act::Prepares | Act::Missing => {}
        }
        let written = log.lines.into_iter().filter(|(at, _)| *at <= self.timestamp());
        let mut lines: Vec<LogLine> = written.map(|(time, text)| LogLine { time, text: text.into() }).collect();
        lines.sort_by_key(|line| line.time);
        let more = lines.len().saturating_sub(LOG_LINES as usize);
        lines.split_off(more)
    }

    fn warnings(&self) -> Vec<EventRecord> {
        let mut found = Vec::new();
        for node in self.nodes.iter().filter(|n| !n.gone) {
            for pod in node.daemons.values().filter_map(|p| self.pods[*p as usize].as_ref()) {
                let Some(startup) = pod.startup.as_deref() else { continue };
                found.extend(self.back_offs(pod, startup));
                if startup.held && !pod.record.flags.host_network {
                    let ready = node.record.ready() == ConditionStatus::True;
                    let (reason, message) = if ready {
                        ("FailedCreatePodSandBox", no_sandbox(pod))
                    } else {
                        ("NetworkNotReady", NETWORK_NOT_READY.to_owned())
                    };
                    let since = self.now.saturating_sub(micros_since(pod.record.created, self.timestamp()));
                    let count = ((self.now - since) / (if ready { 12 } else { 2 } * SECOND)).max(1) as u32;
                    found.push(self.warning(pod, reason, message, count, (timestamp(since), self.timestamp())));
                }
            }
        }
        found.retain(|e| e.last.is_some_and(|last| last >= timestamp(self.now.saturating_sub(KEPT))));
        found
    }

    /// What kubelets and kube-proxies say of their Nodes as they start.
    fn starts(&self) -> Vec<EventRecord> {
        let mut found = Vec::new();
        for node in self.nodes.iter().filter(|n| !n.gone) {
            let name = node.record.name.text();
            let mut start = |at: Micros, message: &str, source: &str| {
                found.push(EventRecord {
                    kind: "Node".into(),
                    about: ObjectKey { namespace: "".into(), name: name.clone() },
                    uid: Some(Uid::from(name.clone())),
                    warning: false,
                    reason: "Starting".into(),
                    message: message.into(),
                    count: 1,
                    first: Some(timestamp(at)),
                    last: Some(timestamp(at)),
                    source: source.into(),
                });
            };
            if let Some(at) = self.instances[node.instance].booted {
                start(at, "Starting kubelet.", "kubelet");
            }
            let proxies = node.daemons.iter().filter(|(daemon, _)| self.daemons[**daemon].spec.name == "kube-proxy");
            for startup in proxies.filter_map(|(_, pod)| self.pods[*pod as usize].as_ref()?.startup.as_deref()) {
                let told = startup.runs.iter().filter(|_| startup.begin == timestamp(0));
                told.filter_map(|r| r.reached).for_each(|at| start(at, "", "kube-proxy"));
            }
        }
        let kept = timestamp(self.now.saturating_sub(KEPT))..=self.timestamp();
        found.retain(|e| e.last.is_some_and(|last| kept.contains(&last)));
        found
    }

    fn back_offs(&self, pod: &PodState, startup: &Startup) -> Vec<EventRecord> {
        let mut found = Vec::new();
        for (index, role) in startup.roles.iter().enumerate() {
            let backed: Vec<Timestamp> = startup
                .runs
                .iter()
                .filter(|r| r.container == index && r.back_off > 0)
                .filter_map(|r| r.ended.map(|(at, _)| later(startup.begin, at)))
                .collect();
            let (Some(first), Some(last)) = (backed.first(), backed.last()) else { continue };
            let key = &pod.record.key;
            let message = format!(
                "Back-off restarting failed container {} in pod {}_{}({})",
                role.name, key.name, key.namespace, pod.record.uid
            );
            found.push(self.warning(pod, "BackOff", message, backed.len() as u32, (*first, *last)));
        }
        found
    }

    fn warning(
        &self,
        pod: &PodState,
        reason: &str,
        message: String,
        count: u32,
        (first, last): (Timestamp, Timestamp),
    ) -> EventRecord {
        EventRecord {
            kind: "Pod".into(),
            about: pod.record.key.clone(),
            uid: Some(Uid::clone(&pod.record.uid)),
            warning: true,
            reason: reason.into(),
            message: message.into(),
            count,
            first: Some(first),
            last: Some(last),
            source: "kubelet".into(),
        }
    }
}

fn micros_since(then: Timestamp, now: Timestamp) -> Micros {
    u64::try_from(now.duration_since(then).as_micros()).unwrap_or(0)
}

fn no_sandbox(pod: &PodState) -> String {
    format!(
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \
         \"{}\": plugin type=\"aws-cni\" name=\"aws-cni\" failed (add): add cmd: Error received from AddNetwork gRPC \
         call: rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial \
         tcp 127.0.0.1:50051: connect: connection refused\"",
        pod.record.uid
    )
}

impl Evidence for SimCluster {
    async fn logs(&self, pod: &ObjectKey, container: &str, run: LogRun) -> Result<Vec<LogLine>> {
        let act = |world: &mut World| {
            let found = world.pod_index.get(pod).and_then(|id| world.pods[*id as usize].as_ref());
            let state = found.ok_or_else(|| not_found(LOGS, "pods", &pod.name))?;
            Ok(world.log(state, container, run))
        };
        self.read(LOGS, act).await
    }

    async fn warnings(&self) -> Result<Vec<EventRecord>> {
        self.read(EVENTS, |world| Ok(world.warnings())).await
    }

    async fn starts(&self) -> Result<Vec<EventRecord>> {
        self.read(EVENTS, |world| Ok(world.starts())).await
    }
}
