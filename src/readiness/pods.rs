//! Whether a gated DaemonSet's pod on a node is what it should be, restarts aside from policy.

use crate::model::{Container, ContainerState, DaemonSet, LastRun, Phase, Pod, Revision, Text, UpdateStrategy};
use crate::observe::Snapshot;

/// The exit code by which a waiter asks to be started over; such a restart is the waiter at work.
const STARTED_OVER: i32 = 75;

/// What a waiter's init container is called, or begins with.
const WAITER: &str = "fastnode-wait";

/// Which of the gate's clauses apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clauses {
    /// All of them but restarts, which the caller weighs by the policy.
    New,
    /// A node that has run for months: its pod's revision is left out.
    Old,
}

/// The pod that stands for `set` among `pods` (those of DaemonSets on one node), or what is wrong.
///
/// With `maxSurge` two pods coexist for a while: one good pod is enough. Of several bad ones the last made
/// is named.
pub(super) fn pod_of<'a>(
    set: &DaemonSet,
    revision: Option<&Revision>,
    pods: &[&'a Pod],
    clauses: Clauses,
) -> Result<&'a Pod, String> {
    let mut worst: Option<(&Pod, String)> = None;
    for pod in pods.iter().filter(|p| p.owner.as_ref().is_some_and(|o| o.uid == set.uid)) {
        match fault(set, revision, pod, clauses) {
            None => return Ok(pod),
            Some(why) if worst.as_ref().is_none_or(|(other, _)| other.created <= pod.created) => {
                worst = Some((pod, why));
            }
            Some(_) => {}
        }
    }
    Err(worst.map_or_else(|| format!("{}: it has no pod here", set.key.name), |(_, why)| why))
}

/// The one pod of `set` among `pods` that nothing is about to replace: not on its way out, of the newest revision.
pub(super) fn lasting_pod<'a>(set: &DaemonSet, revision: Option<&Revision>, pods: &[&'a Pod]) -> Option<&'a Pod> {
    let mut own = pods.iter().filter(|p| p.owner.as_ref().is_some_and(|o| o.uid == set.uid));
    let (first, None) = (own.next()?, own.next()) else { return None };
    let newest = revision.is_some_and(|newest| first.revision.as_ref() == Some(&newest.hash));
    let ends = first.deleting.is_some() || first.is_finished();
    (newest && !ends).then_some(*first)
}

fn fault(set: &DaemonSet, revision: Option<&Revision>, pod: &Pod, clauses: Clauses) -> Option<String> {
    let name = &set.key.name;
    if pod.deleting.is_some() {
        return Some(format!("{name}: its pod is being deleted"));
    }
    if clauses == Clauses::New && set.strategy == UpdateStrategy::RollingUpdate {
        // A pod of an OnDelete set is made from the newest revision and stays at that one: only a pod
        // made before a later change differs, and no wait would cure it.
        match revision {
            None => return Some(format!("{name}: its newest revision is not known yet")),
            Some(newest) if pod.revision.as_ref() != Some(&newest.hash) => {
                return Some(format!("{name}: its pod is of an older revision, an update is in progress"));
            }
            Some(_) => {}
        }
    }
    if pod.phase != Phase::Running {
        return Some(format!("{name}: {}", not_running(pod)));
    }
    let mut main = pod.containers.iter().filter(|c| !c.init).peekable();
    if main.peek().is_none() {
        return Some(format!("{name}: its pod shows no container status yet"));
    }
    if let Some(container) = main.find(|c| !c.ready || !matches!(c.state, ContainerState::Running(_))) {
        return Some(format!("{name}: {}", not_ready(container)));
    }
    if !pod.flags.ready {
        return Some(format!("{name}: its pod is not Ready"));
    }
    if pod.ready_since.is_none() {
        return Some(format!("{name}: its pod does not say since when it is Ready"));
    }
    None
}

fn not_running(pod: &Pod) -> String {
    let busy = |c: &&Container| match &c.state {
        ContainerState::Running(_) => false,
        ContainerState::Terminated(run) => run.exit_code != 0,
        ContainerState::Waiting(_) => true,
    };
    match pod.containers.iter().find(busy) {
        Some(container) => not_ready(container),
        None => match &pod.unschedulable {
            Some(why) => format!("its pod cannot be scheduled: {why}"),
            None => format!("its pod is {:?}", pod.phase),
        },
    }
}

/// `container aws-node ended with exit code 1`, or what else it is while it does not run as it should.
pub(super) fn not_ready(container: &Container) -> String {
    let kind = if container.init { "init container" } else { "container" };
    let restarts = match container.restarts {
        0 => String::new(),
        n => format!(", restarted {n}x"),
    };
    match &container.state {
        ContainerState::Waiting(why) => format!("{kind} {} is waiting: {why}{restarts}", container.name),
        ContainerState::Running(_) => format!("{kind} {} is running, not ready{restarts}", container.name),
        ContainerState::Terminated(LastRun { exit_code, .. }) => {
            format!("{kind} {} ended with exit code {exit_code}{restarts}", container.name)
        }
    }
}

/// Whether a pod is of the DaemonSet called kube-proxy, which writes the rules that most others need.
pub(super) fn is_kube_proxy(snapshot: &Snapshot, pod: &Pod) -> bool {
    let set = pod.owner.as_ref().and_then(|owner| snapshot.daemonsets.get(&owner.uid));
    set.is_some_and(|set| &*set.key.name == "kube-proxy")
}

/// The containers of `pod` that were restarted, init containers included, a waiter that started over aside.
pub(crate) fn restarted(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.containers.iter().filter(|c| c.restarts > 0 && !is_waiter_at_work(c))
}

/// The waiters of `pod` that asked to be started over.
pub(super) fn started_over(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.containers.iter().filter(|c| c.restarts > 0 && is_waiter_at_work(c))
}

/// `aws-node: waiter fastnode-wait-service was started over 2x, as it asked`
pub(super) fn waiter_sentence(set: &DaemonSet, waiter: &Container) -> Text {
    format!("{}: waiter {} was started over {}x, as it asked", set.key.name, waiter.name, waiter.restarts).into()
}

fn is_waiter_at_work(container: &Container) -> bool {
    container.init
        && container.name.starts_with(WAITER)
        && container.last.as_ref().is_some_and(|run| run.exit_code == STARTED_OVER)
}

/// `aws-node: container aws-node restarted 1x, 12 s after start, last exit code 1; kube-proxy became ready 31 s later`
pub(super) fn restart_sentence(set: &DaemonSet, container: &Container, proxy: Option<&Pod>) -> Text {
    format!("{}: {}", set.key.name, restart_words(container, None, proxy)).into()
}

/// The same without the DaemonSet; `why` is what the container's log said last, and stands for the exit code.
pub(super) fn restart_words(container: &Container, why: Option<&str>, proxy: Option<&Pod>) -> String {
    let kind = if container.init { "init container" } else { "container" };
    let last = container.last.as_ref();
    let lived = last.and_then(|run| Some(run.finished?.duration_since(run.started?).as_secs())).filter(|s| *s >= 0);
    let lived = lived.map_or(String::new(), |seconds| format!(", {seconds} s after start"));
    let why = match (why, last) {
        (Some(why), _) => format!(": {}", gist(why)),
        (None, Some(run)) => format!(", last exit code {}", run.exit_code),
        (None, None) => String::new(),
    };
    let ended = last.and_then(|run| run.finished);
    let later = |proxy: &Pod| match proxy.ready_since.filter(|_| proxy.flags.ready) {
        None => Some("; kube-proxy is not ready".to_owned()),
        Some(ready) => {
            let seconds = ready.duration_since(ended?).as_secs();
            (seconds > 0).then(|| format!("; kube-proxy became ready {seconds} s later"))
        }
    };
    let later = proxy.and_then(later).unwrap_or_default();
    format!("{kind} {} restarted {}x{lived}{why}{later}", container.name, container.restarts)
}

/// What a line of a log comes to: the failed dial without what surrounds it, else the line, clipped.
fn gist(line: &str) -> String {
    match line.find("dial tcp ") {
        Some(at) => line[at..].split(['"', '\\']).next().unwrap_or_default().trim().to_owned(),
        None => line.trim().chars().take(160).collect(),
    }
}
