//! The restart of a DaemonSet's pods after a change: followed, and judged.
//!
//! ```text
//! going --> every pod new and available -----------------> done
//!   |-----> a new pod restarts, cannot start, or is not ready for too long --> bad: to be taken back
//!   '-----> no step for too long, and no new pod to blame -------------------> late
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::render::{START_OVER, is_waiter};
use crate::clock::Clock;
use crate::cluster::Result;
use crate::cluster::manifests::Manifests;
use crate::model::{Container, ContainerState, Node, NodeName, ObjectKey, Pod, Uid};
use crate::observe::Snapshot;

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);
/// A node that was made so shortly before the change has not settled: its pods have until they are to be ready.
const STARTING: Duration = Duration::from_secs(15 * 60);
/// How long a pod that was ready may be not ready.
const LAPSE: Duration = Duration::from_secs(30);
/// What a container waits with that will not start by itself.
const HOPELESS: [&str; 8] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Of these, what no node could mend: what was asked of the container is wrong.
const UNFIT: [&str; 5] = [
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// The same of a run that never began: the image does not hold the program.
const NEVER_RAN: [&str; 2] = ["StartError", "ContainerCannotRun"];

/// Why a container starts on no node.
fn unfit(container: &Container) -> Option<String> {
    let why = match (&container.state, &container.last) {
        (ContainerState::Waiting(why), _) if UNFIT.contains(&&**why) => why,
        (ContainerState::Terminated(run), _) | (ContainerState::Waiting(_), Some(run))
            if NEVER_RAN.contains(&&*run.reason) =>
        {
            &run.reason
        }
        _ => return None,
    };
    Some(format!("container {}: {why}", container.name))
}

/// A pod of the DaemonSet, as far as its rollout is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub key: ObjectKey,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// When that Node was made, where it is known.
    pub node_since: Option<Timestamp>,
    /// When it was created.
    pub created: Timestamp,
    /// It is ready.
    pub ready: bool,
    /// Restarts, those in which a waiter asked to start over left out.
    pub restarts: u32,
    /// The container that cannot start, and what it waits with.
    pub trouble: Option<String>,
    /// The container that could start on no node, and why.
    pub unfit: Option<String>,
}

impl PodView {
    /// The pods of one DaemonSet, as the watches have them.
    pub fn all(snapshot: &Snapshot, set: &ObjectKey) -> Vec<Self> {
        let own = |pod: &&Arc<Pod>| {
            let owner = pod.owner.as_ref().and_then(|owner| snapshot.daemonsets.get(&owner.uid));
            owner.is_some_and(|owner| owner.key == *set)
        };
        let node = |pod: &Pod| snapshot.nodes.get(pod.node.as_ref()?);
        snapshot.pods.values().filter(own).map(|pod| Self::of(pod, node(pod))).collect()
    }

    /// Of a pod and its Node.
    fn of(pod: &Pod, node: Option<&Node>) -> Self {
        let started_over =
            |c: &&Container| is_waiter(&c.name) && c.last.as_ref().is_some_and(|last| last.exit_code == START_OVER);
        let trouble = pod.containers.iter().find_map(|c| match &c.state {
            ContainerState::Waiting(why) if HOPELESS.contains(&&**why) && !started_over(&c) => {
                Some(format!("container {}: {why}", c.name))
            }
            _ => None,
        });
        Self {
            uid: pod.uid.clone(),
            key: pod.key.clone(),
            node: pod.node.clone(),
            node_since: node.map(|node| node.created),
            created: pod.created,
            ready: pod.flags.ready,
            restarts: pod.containers.iter().filter(|c| !started_over(c)).map(|c| c.restarts).sum(),
            trouble,
            unfit: pod.containers.iter().find_map(unfit),
        }
    }

    fn place(&self) -> String {
        self.node.as_ref().map_or_else(|| "no node yet".to_owned(), ToString::to_string)
    }
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Going {
    /// Pods that are new and available.
    pub done: u32,
    /// Pods there are to be.
    pub desired: u32,
    /// What is waited for, in words.
    pub waits_for: String,
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every pod is new and available; how many there are.
    Done(u32),
    /// The change does harm: which pod, and how.
    Bad(String),
    /// It does not come to an end, and the change is not to blame for what it waits for.
    Late(String),
}

/// A rollout under way.
pub struct Rollout {
    /// Pods from before the change.
    old: BTreeSet<Uid>,
    /// When the change was made: a Node made since then starts with it, and what its pods go through is its own start.
    since: Timestamp,
    /// New pods that were ready, and since when they are not any more.
    lapsed: BTreeMap<Uid, Option<Timestamp>>,
    /// The last step, and when.
    step: (u32, u32, Timestamp),
    patience: Duration,
}

fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// Pods that are to be, that are new, that are available; and whether the controller has seen the change.
fn numbers(object: &Value) -> (u32, u32, u32, bool) {
    let number = |field: &str| u32::try_from(object["status"][field].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
    let observed = object["status"]["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64();
    let (desired, updated) = (number("desiredNumberScheduled"), number("updatedNumberScheduled"));
    (desired, updated, number("numberAvailable"), observed)
}

impl Rollout {
    /// Begins with the pods there were before the change; `patience` is how long one pod may take.
    pub fn begin(pods: &[PodView], now: Timestamp, patience: Duration) -> Self {
        let old = pods.iter().map(|pod| pod.uid.clone()).collect();
        Self { old, since: now, lapsed: BTreeMap::new(), step: (0, 0, now), patience }
    }

    /// Takes up one that somebody began at `since` and did not see through.
    pub fn take_up(pods: &[PodView], since: Timestamp, now: Timestamp, patience: Duration) -> Self {
        let old = pods.iter().filter(|pod| pod.created < since).map(|pod| pod.uid.clone()).collect();
        Self { old, since, lapsed: BTreeMap::new(), step: (0, 0, now), patience }
    }

    /// How many pods a rollout has renewed that is over, of a DaemonSet as it is now; `None` while it goes on.
    pub fn over(object: &Value) -> Option<u32> {
        let (desired, updated, available, observed) = numbers(object);
        (observed && updated >= desired && available >= desired).then_some(desired)
    }

    /// Where it stands, or how it ended.
    pub fn look(&mut self, object: &Value, pods: &[PodView], now: Timestamp) -> std::result::Result<Going, Ended> {
        let (desired, updated, available, observed) = numbers(object);
        if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
            return Err(Ended::Done(0));
        }
        let new: Vec<&PodView> = pods.iter().filter(|pod| !self.old.contains(&pod.uid)).collect();
        let changed = self.since;
        for pod in new.iter().filter(|pod| pod.node_since.is_none_or(|made| made < changed)) {
            if let Some(why) = self.harm(pod, now) {
                return Err(Ended::Bad(format!("{} on {}: {why}", pod.key, pod.place())));
            }
        }
        if let Some(pods) = Self::over(object) {
            return Err(Ended::Done(pods));
        }
        if (updated, available) != (self.step.0, self.step.1) {
            self.step = (updated, available, now);
        }
        let waiting = new.into_iter().find(|pod| !pod.ready);
        let stale = || pods.iter().find(|pod| self.old.contains(&pod.uid));
        let waits_for =
            match (observed, waiting.map(|pod| (pod, "ready")).or_else(|| stale().map(|pod| (pod, "replaced")))) {
                (false, _) => "the DaemonSet controller to see the change".to_owned(),
                (true, Some((pod, what))) => format!("{} on {} to be {what}", pod.key, pod.place()),
                (true, None) => "the last pods to be made".to_owned(),
            };
        if since(now, self.step.2) > self.patience {
            let minutes = crate::units::seconds(self.patience.as_secs_f64());
            return Err(Ended::Late(format!(
                "{updated} of {desired} pods are new and no more in {minutes}: waiting for {waits_for}"
            )));
        }
        let done = if observed { updated.min(available) } else { 0 };
        Ok(Going { done, desired, waits_for })
    }

    /// What a new pod suffers from.
    fn harm(&mut self, pod: &PodView, now: Timestamp) -> Option<String> {
        if let Some(why) = &pod.unfit {
            return Some(why.clone());
        }
        // On a node that is still starting pods fail for what it lacks, with the change or without.
        let starting = pod.node_since.is_some_and(|made| since(self.since, made) < STARTING);
        if pod.restarts > 0 && !starting {
            let times = if pod.restarts == 1 { "once".to_owned() } else { format!("{} times", pod.restarts) };
            return Some(format!("restarted {times}"));
        }
        if let Some(trouble) = pod.trouble.as_ref().filter(|_| !starting) {
            return Some(trouble.clone());
        }
        if pod.ready {
            self.lapsed.insert(pod.uid.clone(), None);
            return None;
        }
        match self.lapsed.get_mut(&pod.uid) {
            Some(lapse) => {
                let from = *lapse.get_or_insert(now);
                (since(now, from) > LAPSE).then(|| "was ready and is not any more".to_owned())
            }
            None if since(now, pod.created) > self.patience => {
                let waited = crate::units::seconds(since(now, pod.created).as_secs_f64());
                Some(format!("not ready {waited} after it was made"))
            }
            None => None,
        }
    }
}

/// Follows a rollout to its end; `pods` are the DaemonSet's as they are now, `tell` hears of every change.
///
/// # Errors
/// If the DaemonSet cannot be read for longer than a pod may take.
pub async fn follow<K: Manifests>(
    (cluster, key): (&K, &ObjectKey),
    mut rollout: Rollout,
    clock: Clock,
    mut pods: impl FnMut() -> Vec<PodView>,
    mut tell: impl FnMut(&Going),
) -> Result<Ended> {
    let mut told = None;
    let mut read = clock.now();
    loop {
        let now = clock.now();
        match cluster.daemonset(key).await {
            Ok(Some(object)) => {
                read = now;
                match rollout.look(&object, &pods(), now) {
                    Err(ended) => return Ok(ended),
                    Ok(going) => {
                        if told.as_ref() != Some(&going) {
                            tell(&going);
                        }
                        told = Some(going);
                    }
                }
            }
            Ok(None) => return Ok(Ended::Late(format!("{key} is gone"))),
            // The API server's own faults are no fault of the change.
            Err(error) if error.is_passing() && since(now, read) < rollout.patience => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn pod(name: &str, created: i64) -> PodView {
        PodView {
            uid: name.into(),
            key: ObjectKey::new("kube-system", name),
            node: Some("n1".into()),
            node_since: Some(at(-1000)),
            created: at(created),
            ready: true,
            restarts: 0,
            trouble: None,
            unfit: None,
        }
    }

    fn object(updated: u32, available: u32) -> Value {
        json!({ "metadata": { "generation": 2 }, "spec": { "updateStrategy": { "type": "RollingUpdate" } },
            "status": { "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated,
                "numberAvailable": available } })
    }

    fn begun() -> Rollout {
        Rollout::begin(&[pod("old-1", -100), pod("old-2", -100)], at(0), Duration::from_secs(300))
    }

    #[test]
    fn it_is_done_when_all_pods_are_new_and_available() {
        let mut rollout = begun();
        let going = rollout.look(&object(1, 2), &[pod("new-1", 1), pod("old-2", -100)], at(5)).unwrap();
        assert_eq!((going.done, going.desired), (1, 2));
        assert_eq!(going.waits_for, "kube-system/old-2 on n1 to be replaced");
        assert_eq!(rollout.look(&object(2, 2), &[], at(9)), Err(Ended::Done(2)));
        let mut unseen = object(2, 2);
        unseen["status"]["observedGeneration"] = json!(1);
        let going = rollout.look(&unseen, &[], at(9)).unwrap();
        // What it counts is of the time before the change.
        assert_eq!((going.done, &*going.waits_for), (0, "the DaemonSet controller to see the change"));
    }

    #[test]
    fn a_new_pod_that_restarts_or_cannot_start_ends_it_at_once() {
        let bad = |pod: PodView| match begun().look(&object(1, 1), &[pod], at(5)) {
            Err(Ended::Bad(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(bad(PodView { restarts: 1, ..pod("new-1", 1) }), "kube-system/new-1 on n1: restarted once");
        let crash = Some("container x: CrashLoopBackOff".to_owned());
        assert!(bad(PodView { ready: false, trouble: crash, ..pod("new-1", 1) }).contains("CrashLoopBackOff"));
        let mut rollout = begun();
        let restarted = PodView { restarts: 7, ..pod("old-1", -100) };
        assert!(
            rollout.look(&object(0, 2), &[restarted], at(5)).is_ok(),
            "an old pod's restarts are not of the change"
        );
    }

    #[test]
    fn a_pod_that_becomes_unready_has_a_while_to_recover() {
        let mut rollout = begun();
        let unready = PodView { ready: false, ..pod("new-1", 1) };
        assert!(rollout.look(&object(1, 1), &[pod("new-1", 1)], at(5)).is_ok());
        assert!(rollout.look(&object(1, 1), std::slice::from_ref(&unready), at(10)).is_ok());
        assert!(rollout.look(&object(1, 1), std::slice::from_ref(&unready), at(39)).is_ok());
        assert!(
            matches!(rollout.look(&object(1, 1), &[unready], at(41)), Err(Ended::Bad(why)) if why.contains("not any more"))
        );
    }

    #[test]
    fn a_pod_that_never_becomes_ready_is_bad_and_a_node_that_is_away_is_only_late() {
        let unready = PodView { ready: false, ..pod("new-1", 1) };
        assert!(matches!(begun().look(&object(1, 1), &[unready], at(302)), Err(Ended::Bad(_))));
        let mut rollout = begun();
        let away = [pod("old-1", -100)];
        assert!(rollout.look(&object(1, 1), &away, at(1)).is_ok());
        match rollout.look(&object(1, 1), &away, at(302)) {
            Err(Ended::Late(why)) => assert!(why.contains("old-1"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_new_nodes_pod_goes_through_is_no_harm_of_the_change() {
        let restarted = PodView { restarts: 1, ready: false, ..pod("new-1", 1) };
        let joined = PodView { node_since: Some(at(0)), ..restarted.clone() };
        assert!(begun().look(&object(1, 1), &[joined], at(5)).is_ok());
        assert!(matches!(begun().look(&object(1, 1), &[restarted], at(5)), Err(Ended::Bad(_))));
    }

    #[test]
    fn on_a_node_that_is_still_starting_only_a_pod_that_never_becomes_ready_is_harm() {
        let starting = PodView { node_since: Some(at(-60)), restarts: 2, ready: false, ..pod("new-1", 1) };
        let mut rollout = begun();
        assert!(rollout.look(&object(1, 1), std::slice::from_ref(&starting), at(5)).is_ok());
        let unfit = PodView { unfit: Some("container wait: StartError".into()), ..starting.clone() };
        assert!(
            matches!(begun().look(&object(1, 1), &[unfit], at(5)), Err(Ended::Bad(why)) if why.contains("StartError"))
        );
        assert!(
            matches!(rollout.look(&object(1, 1), &[starting], at(302)), Err(Ended::Bad(why)) if why.contains("not ready"))
        );
    }

    #[test]
    fn one_that_was_begun_by_another_run_knows_its_old_pods_by_their_age() {
        let patience = Duration::from_secs(300);
        let pods = [PodView { restarts: 4, ..pod("old-1", -100) }, pod("new-1", 2)];
        let mut rollout = Rollout::take_up(&pods, at(0), at(60), patience);
        assert_eq!(
            rollout.look(&object(1, 2), &pods, at(60)).unwrap().waits_for,
            "kube-system/old-1 on n1 to be replaced"
        );
        let harmed = [PodView { restarts: 1, ..pod("new-1", 2) }];
        let mut rollout = Rollout::take_up(&harmed, at(0), at(60), patience);
        assert!(matches!(rollout.look(&object(2, 1), &harmed, at(60)), Err(Ended::Bad(_))));
    }

    #[test]
    fn on_delete_has_nothing_to_follow() {
        let mut object = object(0, 2);
        object["spec"]["updateStrategy"]["type"] = json!("OnDelete");
        assert_eq!(begun().look(&object, &[], at(1)), Err(Ended::Done(0)));
    }
}
