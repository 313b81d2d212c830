//! What a node was waiting for at each moment of its start.
//!
//! The path is found backwards. The node was functional when the last thing was there; before that it waited for
//! that thing's last step, before that for the step before, and so on. A step that was itself waiting for
//! somebody else hands over to it at the moment the other one was ready: this is inferred, since nothing says who
//! waits for whom, and only from these signs:
//!
//! - a container whose failed run began before, and whose good run began after, the other one was ready;
//! - a step of more than [`LONG`] that ended within [`SOON`] of it;
//! - the Node's Ready, which waits for the network, within [`STATUS`] of a network agent.
//!
//! Where there is no such sign, all of a step is its own. The proxy waits for nobody, and a network agent for
//! nobody but the proxy.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Chain, Moments, seconds};
use crate::model::ObjectKey;

/// Who waited for something goes on this soon after it.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// In the first seconds of a node everything is ready soon after something else: a shorter step tells nothing.
const LONG: SignedDuration = SignedDuration::from_secs(10);

/// How long a kubelet may take to say what it has noticed (`nodeStatusUpdateFrequency`).
const STATUS: SignedDuration = SignedDuration::from_secs(10);

/// What gives a node its network, without which no kubelet says Ready.
const NETWORK: [&str; 9] = [
    "aws-node",
    "calico-node",
    "cilium",
    "antrea-agent",
    "kube-router",
    "kube-flannel",
    "kube-flannel-ds",
    "weave-net",
    "kube-ovn-cni",
];

/// What writes the rules of Service addresses: what fails without them waits for it.
const PROXY: &str = "kube-proxy";

/// One thing a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The instance to be launched.
    Provisioned,
    /// The instance to boot and register, where the moment between is unknown.
    Joined,
    /// The instance to boot: its kubelet to start.
    Booted,
    /// The kubelet to register its Node.
    Registered,
    /// The DaemonSet's pod to be made.
    Created,
    /// The pod to be bound.
    Scheduled,
    /// Its init containers.
    Initialized,
    /// Its containers to be started.
    Started,
    /// From the first start to the last: failures and back-off.
    Restarted,
    /// The pod, or the Node, to be Ready.
    Ready,
}

impl Step {
    /// What is waited for, after the DaemonSet's name.
    fn words(self) -> &'static str {
        match self {
            Self::Provisioned => "launch",
            Self::Joined => "boot and registration",
            Self::Booted => "boot",
            Self::Registered => "registration",
            Self::Created => "pod to be made",
            Self::Scheduled => "pod to be bound",
            Self::Initialized => "init containers",
            Self::Started => "containers to start",
            Self::Restarted => "restarts",
            Self::Ready => "Ready",
        }
    }

    /// The same with the name: `kube-system/aws-node: restarts`; `node: Ready` of no DaemonSet.
    pub fn of(self, daemonset: Option<&ObjectKey>) -> String {
        match daemonset {
            Some(set) => format!("{set}: {}", self.words()),
            None => format!("node: {}", self.words()),
        }
    }
}

/// A part of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The DaemonSet; `None` for the node itself.
    pub daemonset: Option<ObjectKey>,
    /// Which of its steps.
    pub step: Step,
    /// From.
    pub from: Timestamp,
    /// To; never before `from`.
    pub to: Timestamp,
}

impl Segment {
    /// How long it took, seconds.
    pub fn seconds(&self) -> f64 {
        seconds(self.from, self.to)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step.of(self.daemonset.as_ref()))
    }
}

/// What the walk is at.
#[derive(Clone, Copy)]
enum Item<'a> {
    Node,
    Set(&'a Chain),
}

/// The path from the Node's creation to functional; empty where that is unknown.
pub(super) fn critical(moments: &Moments, chains: &[Chain]) -> Vec<Segment> {
    let (Some(functional), Some(ready)) = (moments.functional, moments.ready) else { return Vec::new() };
    let mut path = Walk { joined: moments.joined, ready, chains, seen: Vec::new() }.back(functional);
    path.retain(|segment| segment.from < segment.to);
    path.reverse();
    path
}

/// What comes before the Node's creation, as far as it is known.
pub(super) fn before(moments: &Moments) -> Vec<Segment> {
    let node = |step, from, to| Segment { daemonset: None, step, from, to };
    let Some(provisioned) = moments.provisioned else { return Vec::new() };
    let requested = moments.requested.map(|requested| node(Step::Provisioned, requested, provisioned));
    let joined = match moments.booted {
        None => vec![node(Step::Joined, provisioned, moments.joined)],
        Some(booted) => {
            vec![node(Step::Booted, provisioned, booted), node(Step::Registered, booted, moments.joined)]
        }
    };
    requested.into_iter().chain(joined).filter(|segment| segment.from < segment.to).collect()
}

struct Walk<'a> {
    joined: Timestamp,
    ready: Timestamp,
    chains: &'a [Chain],
    /// Whoever was on the path hands over once: two that were ready in one second would do so for ever.
    seen: Vec<Option<&'a ObjectKey>>,
}

impl<'a> Walk<'a> {
    /// What was there last. The Node's Ready stands for the network agent it follows, so it goes first.
    fn last(&self, functional: Timestamp) -> Item<'a> {
        let last = self.chains.iter().find(|c| c.gated && c.ready == Some(functional));
        match last {
            Some(chain) if self.ready < functional => Item::Set(chain),
            _ => Item::Node,
        }
    }

    /// The segments before `at`, the last first, without gaps.
    fn back(mut self, mut at: Timestamp) -> Vec<Segment> {
        let mut path = Vec::new();
        let mut item = self.last(at);
        while let Some((next, then)) = self.along(item, at, &mut path) {
            (item, at) = (next, then);
        }
        path
    }

    /// Goes back along an item's steps, up to where another one hands over to it.
    fn along(&mut self, item: Item<'a>, at: Timestamp, path: &mut Vec<Segment>) -> Option<(Item<'a>, Timestamp)> {
        let (who, steps) = match item {
            Item::Node => (None, vec![(Step::Ready, self.joined, self.ready)]),
            Item::Set(chain) => (Some(chain), chain.steps(self.joined)),
        };
        self.seen.push(who.map(|c| &c.daemonset));
        for (step, from, to) in steps.into_iter().rev() {
            let to = to.min(at);
            let before = self.before(who, step, from, to);
            let begins = before.map_or(from, |(_, then)| then);
            path.push(Segment { daemonset: who.map(|c| c.daemonset.clone()), step, from: begins, to });
            if before.is_some() {
                return before;
            }
        }
        None
    }

    /// Who handed over within a step, and when.
    fn before(&self, who: Option<&Chain>, step: Step, from: Timestamp, to: Timestamp) -> Option<(Item<'a>, Timestamp)> {
        let others = || {
            let may = move |c: &&Chain| match who {
                Some(own) if is_proxy(own) => false,
                Some(own) if gives_network(own) => is_proxy(c),
                _ => true,
            };
            self.chains
                .iter()
                .filter(may)
                .filter(|c| !self.seen.contains(&Some(&c.daemonset)))
                .filter_map(|c| Some((c, c.ready?)))
        };
        let soon = |then: Timestamp, limit| from < then && then <= to && to.duration_since(then) <= limit;
        let is_long = to.duration_since(from) > LONG;
        match (who, step) {
            (None, _) => latest(others().filter(|(c, then)| gives_network(c) && soon(*then, STATUS))),
            (Some(own), Step::Restarted) => {
                let began = own.failed_run.unwrap_or(from).max(from);
                let helped: Vec<_> =
                    others().filter(|(c, then)| c.gated && began <= *then && from < *then && *then <= to).collect();
                let proxy = helped.iter().find(|(c, _)| is_proxy(c)).copied();
                proxy.map(|(c, then)| (Item::Set(c), then)).or_else(|| latest(helped.into_iter()))
            }
            (Some(_), _) if is_long => {
                let set = latest(others().filter(|(c, then)| c.gated && soon(*then, SOON)));
                // A pod of the pod network starts with the Node's network, which the kubelet tells of.
                let node = (step == Step::Started && !self.seen.contains(&None) && soon(self.ready, SOON))
                    .then_some((Item::Node, self.ready));
                match (set, node) {
                    (Some((_, a)), Some((_, b))) if b >= a => node,
                    (set, node) => set.or(node),
                }
            }
            (Some(_), _) => None,
        }
    }
}

fn latest<'a>(found: impl Iterator<Item = (&'a Chain, Timestamp)>) -> Option<(Item<'a>, Timestamp)> {
    found.max_by_key(|(_, then)| *then).map(|(chain, then)| (Item::Set(chain), then))
}

fn is_proxy(chain: &Chain) -> bool {
    &*chain.daemonset.name == PROXY
}

fn gives_network(chain: &Chain) -> bool {
    NETWORK.contains(&&*chain.daemonset.name)
}
