//! Which waits are told: each when it begins and when whoever is to blame changes, unless it is over in a moment.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::event::EventKind;
use crate::model::{GroupName, ObjectKey, Text};
use crate::plan::{Subject, Wait, WaitReason};

/// What kind of wait it is, and the name of who is to blame.
type Culprit = (&'static str, Option<Text>, Option<ObjectKey>);

/// A wait's subject and who is to blame.
type WaitKey = (Subject, Culprit);

/// What is waited for, since when it is seen here, and whether that has been told.
#[derive(Debug, Default)]
pub(super) struct Waits {
    seen: BTreeMap<WaitKey, (Timestamp, bool)>,
    last: Vec<Wait>,
    untold: bool,
}

/// What is over sooner is not told: a plan waits a moment for most of its own actions.
const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(1);

impl Waits {
    /// Those that have stood for long enough to be told by now, though nothing has changed.
    pub(super) fn grown(&mut self, waits: &[Wait], now: Timestamp, out: &mut Vec<EventKind>) {
        if self.untold {
            self.follow(waits, now, out);
        }
    }

    /// Tells what has begun, or is somebody else's fault by now.
    pub(super) fn follow(&mut self, waits: &[Wait], now: Timestamp, out: &mut Vec<EventKind>) {
        if !self.untold && self.last.len() == waits.len() && self.last.iter().zip(waits).all(|(a, b)| is_same(a, b)) {
            return;
        }
        let mut before = std::mem::take(&mut self.seen);
        self.untold = false;
        for wait in waits {
            let (what, who, which) = culprit(&wait.reason);
            let key = (wait.subject.clone(), (what, who.cloned(), which.cloned()));
            if self.seen.contains_key(&key) {
                continue;
            }
            let (since, mut told) = before.remove(&key).unwrap_or((now, false));
            if !told && now.duration_since(since) >= WORTH_TELLING {
                out.push(EventKind::Wait(wait.clone()));
                told = true;
            }
            self.untold |= !told;
            self.seen.insert(key, (since, told));
        }
        self.last = waits.to_vec();
    }
}

/// Two waits of a subject with the same one to blame are the same wait, however its numbers move.
fn is_same(a: &Wait, b: &Wait) -> bool {
    a.subject == b.subject && culprit(&a.reason) == culprit(&b.reason)
}

/// What kind of wait it is, and who is to blame.
fn culprit(reason: &WaitReason) -> (&'static str, Option<&Text>, Option<&ObjectKey>) {
    fn text<'a>(what: &'static str, who: &'a Text) -> (&'static str, Option<&'a Text>, Option<&'a ObjectKey>) {
        (what, Some(who), None)
    }
    let alone = |what: &'static str| (what, None, None);
    match reason {
        WaitReason::StartupTaint { taint } => text("startup taint", taint),
        WaitReason::DaemonSet { daemonset, .. } => ("daemonset", None, Some(daemonset)),
        WaitReason::Budget { budget, .. } => text("budget", budget),
        WaitReason::ZoneBalance { zone } => text("zone balance", zone.text()),
        WaitReason::AwsBusy { what } => text("aws", what),
        WaitReason::Launch { failure: Some(failure), .. } => text("launch", failure),
        WaitReason::Launch { failure: None, .. } => alone("launch"),
        WaitReason::Join => alone("join"),
        WaitReason::NodeReady { .. } => alone("ready"),
        WaitReason::NodeLacks { .. } => alone("lacks"),
        WaitReason::Soak { .. } => alone("soak"),
        WaitReason::Canary { .. } => alone("canary"),
        WaitReason::Mending { what } => text("mending", what),
        WaitReason::Capacity { .. } => alone("capacity"),
        WaitReason::Standstill { why } => text("standstill", why),
        WaitReason::DrainSlot { .. } => alone("drain slot"),
        WaitReason::Held { pod, .. } => ("held", None, Some(pod)),
        WaitReason::ServerBusy { .. } => alone("server"),
        WaitReason::PodTermination { .. } => alone("pods"),
        WaitReason::VolumeDetach { .. } => alone("volumes"),
        WaitReason::Successor => alone("successor"),
        WaitReason::Deregistration { of, .. } => text("deregistration", &of.0),
        WaitReason::Termination => alone("termination"),
        WaitReason::Paused => alone("paused"),
    }
}

/// The subject's group, where the wait is a group's.
pub(super) fn group_of(wait: &Wait) -> Option<&GroupName> {
    match &wait.subject {
        Subject::Group(group) => Some(group),
        _ => None,
    }
}
