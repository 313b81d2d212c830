//! Why something is done, waited for, or held: typed, with the numbers, each with one sentence.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{Attachment, GroupName, InstanceId, NodeName, ObjectKey, Text, Zone};

/// Who an action, wait or block is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Subject {
    /// The whole rotation.
    Rotation,
    /// A group.
    Group(GroupName),
    /// A Node.
    Node(NodeName),
    /// An instance without a Node.
    Instance(InstanceId),
    /// A pod.
    Pod(ObjectKey),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotation => f.write_str("rotation"),
            Self::Group(g) => g.fmt(f),
            Self::Node(n) => n.fmt(f),
            Self::Instance(i) => i.fmt(f),
            Self::Pod(p) => p.fmt(f),
        }
    }
}

/// Why an instance is outdated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Outdated {
    /// Launched from another template.
    TemplateId {
        /// What it was launched from.
        have: Text,
        /// The target's.
        want: Text,
    },
    /// Launched from another version of the template.
    TemplateVersion {
        /// Its version.
        have: Text,
        /// The target's.
        want: Text,
    },
    /// Launched from another launch configuration, or one that is not known any more.
    Configuration {
        /// Its configuration; `None` where not recorded.
        have: Option<Text>,
        /// The target's.
        want: Text,
    },
    /// Its group launches from templates now, it was not.
    Source,
    /// Its instance type has no override in the mixed policy any more.
    InstanceType {
        /// Its type.
        have: Text,
    },
    /// Another image than the target's.
    Image {
        /// Its image.
        have: Text,
        /// The target's.
        want: Text,
    },
    /// Its kubelet is behind the control plane, and the target would cure it.
    Kubelet {
        /// Its kubelet.
        have: Text,
        /// The control plane.
        want: Text,
    },
    /// Older than `--older-than`, launched before the rotation began.
    Age {
        /// When it was launched.
        launched: Timestamp,
    },
    /// Named by `--node`.
    Named,
    /// `--force`, launched before the rotation began.
    Forced,
}

/// Why an action is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum ActionReason {
    /// The rotation of this group begins: AZRebalance and other actors must leave it alone.
    GroupBegins,
    /// One more instance, to prove the target.
    Canary,
    /// The canary passed: up to the surge.
    Surge {
        /// Instances above the group's own desired after it.
        to: u32,
    },
    /// A replacement registered.
    ReplacementJoined,
    /// A replacement passed the gate, soak included.
    ReplacementFunctional,
    /// The canary passed: evicted pods should prefer new nodes.
    CanaryPassed,
    /// A replacement that will be given back: evicted pods should prefer those that stay.
    Surplus,
    /// It is outdated and a functional replacement allows its drain.
    Drain {
        /// Why it is outdated.
        outdated: Vec<Outdated>,
        /// The zone whose replacement allows it.
        zone: Zone,
    },
    /// It is outdated, and no zone with a functional replacement has an old node to give: the fullest zone's.
    DrainFullest {
        /// Why it is outdated.
        outdated: Vec<Outdated>,
        /// Its zone.
        zone: Zone,
    },
    /// It is allowed below desired by `unavailable`.
    DrainUnavailable {
        /// Why it is outdated.
        outdated: Vec<Outdated>,
    },
    /// A pod on a node that drains.
    Evicting,
    /// A budget opened, or its back-off is over.
    EvictAgain {
        /// Refusals so far.
        attempts: u32,
    },
    /// The drain time-out passed and the policy allows to go past budgets.
    PastBudget,
    /// Its replacement serves: out of the load balancers.
    ReplacementServes,
    /// Nothing evictable is left and volumes are detached.
    NothingLeft,
    /// Drained to the end; the group launches its replacement.
    Drained,
    /// Drained to the end, and one of the last: the surge goes with it.
    DrainedLast {
        /// Surge left after it.
        surge: u32,
    },
    /// A wait ran out.
    TimedOut {
        /// What was waited for, and who is to blame.
        culprit: Text,
    },
    /// The surge shrinks by the last ones: nothing else may be scaled in meanwhile.
    Shrinking,
    /// No old node is left that could go with the surge: the newest replacement does.
    GivingBack,
    /// Somebody uncordoned a node that is being drained.
    NotCordoned,
    /// A replacement failed.
    ReplacementFailed {
        /// Why.
        diagnosis: Text,
    },
    /// A step in hand was found applied, or not.
    StepSettled {
        /// It was.
        applied: bool,
    },
    /// Nodes skipped, replacements failed or protection changed: written down before anything depends on it.
    Recorded,
    /// The rotation ends: what was changed is put back.
    PuttingBack,
    /// A cordon of ours on a node that is not fully drained is undone.
    Interrupted,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum WaitReason {
    /// An instance to be launched.
    Launch {
        /// Instances missing.
        missing: u32,
        /// The last failed launch's message, where there is one.
        failure: Option<Text>,
    },
    /// The instance's Node to register.
    Join,
    /// The Node to be Ready.
    NodeReady {
        /// The condition's reason and message.
        why: Text,
    },
    /// A startup taint to go.
    StartupTaint {
        /// Its key.
        taint: Text,
    },
    /// A gated DaemonSet's pod.
    DaemonSet {
        /// Which.
        daemonset: ObjectKey,
        /// What is unmet, a sentence.
        why: Text,
    },
    /// Something that every healthy old node of its group has.
    NodeLacks {
        /// `CSI driver ebs.csi.aws.com`, `extended resource nvidia.com/gpu`.
        what: Text,
    },
    /// The node to stay functional.
    Soak {
        /// How much longer.
        left: SignedDuration,
    },
    /// The canary.
    Canary {
        /// Functional so far.
        functional: u32,
        /// Wanted.
        wanted: u32,
    },
    /// What is being done about new nodes: one looked into, a fix applied.
    Mending {
        /// What, in words.
        what: Text,
    },
    /// A functional replacement (in this zone), before the next drain.
    Capacity {
        /// Functional nodes now.
        functional: u32,
        /// The fewest the policy promises.
        promised: u32,
    },
    /// Somebody to change what keeps every old node of a group from being drained.
    Standstill {
        /// Who is to blame, one clause.
        why: Text,
    },
    /// A free drain slot.
    DrainSlot {
        /// Draining now.
        draining: u32,
        /// Allowed.
        allowed: u32,
    },
    /// Held back so that the group ends balanced over its zones.
    ZoneBalance {
        /// The zone.
        zone: Zone,
    },
    /// A budget to free.
    Budget {
        /// The pod it blocks.
        pod: ObjectKey,
        /// The budget.
        budget: Text,
    },
    /// Somebody to see to a pod that must not be evicted.
    Held {
        /// The pod.
        pod: ObjectKey,
        /// What holds it, one clause.
        why: Text,
    },
    /// The API server, which sheds load or does not answer, to take an eviction.
    ServerBusy {
        /// The pod to be evicted.
        pod: ObjectKey,
        /// What the server said.
        message: Text,
    },
    /// A pod to end.
    PodTermination {
        /// The pod.
        pod: ObjectKey,
        /// Pods left.
        left: u32,
    },
    /// Volumes to be detached.
    VolumeDetach {
        /// How many.
        left: u32,
    },
    /// A functional replacement, to serve behind its load balancers in its stead.
    Successor,
    /// Its load balancers: connections they still have to it are let finish.
    Deregistration {
        /// The one with the longest delay.
        of: Attachment,
        /// Its delay, in seconds.
        delay_s: u32,
        /// When it is over.
        until: Timestamp,
    },
    /// The instance to be gone.
    Termination,
    /// AWS to finish something else first.
    AwsBusy {
        /// What it said.
        what: Text,
    },
    /// Pause, until `resume`.
    Paused,
}

/// Why something is not done unless somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum BlockReason {
    /// The group belongs to an EKS managed node group.
    ManagedNodeGroup {
        /// The managed node group's name.
        nodegroup: Text,
        /// The command that updates it.
        command: Text,
    },
    /// Only this service may mutate the group.
    Operator {
        /// Its service principal.
        operator: Text,
    },
    /// An instance refresh is in progress.
    InstanceRefresh,
    /// The group launches nothing.
    NoTarget,
    /// The group uses instance weights.
    Weighted,
    /// The group's maximum is in the way.
    Maximum {
        /// The maximum.
        max: u32,
        /// What it would need to be.
        needed: u32,
    },
    /// No surge and no unavailable: nothing could ever be drained.
    NoRoom,
    /// No surge, and what may be unavailable is the last node behind the group's load balancers.
    LastServing,
    /// The instance is in a state that is not ours to change (Standby, Detaching, …).
    Lifecycle {
        /// The state.
        state: Text,
    },
    /// The instance was protected from scale-in by somebody else; it is rotated only if policy says so.
    Protected,
    /// A pod on the node opts out of disruption.
    OptOut {
        /// The pod.
        pod: ObjectKey,
        /// The annotation.
        annotation: Text,
    },
    /// A pod on the node has no controller that would make it again.
    Unmanaged {
        /// The pod.
        pod: ObjectKey,
    },
    /// A pod on the node has `emptyDir` data.
    EmptyDir {
        /// The pod.
        pod: ObjectKey,
    },
    /// A pod on the node tolerates every taint: it would come straight back.
    ToleratesCordon {
        /// The pod.
        pod: ObjectKey,
    },
    /// A budget that can never free.
    NeverFrees {
        /// The pod.
        pod: ObjectKey,
        /// The budget.
        budget: ObjectKey,
    },
    /// More than one budget covers a pod: its eviction is answered 500 for ever.
    SeveralBudgets {
        /// The pod.
        pod: ObjectKey,
        /// The budgets.
        budgets: Vec<ObjectKey>,
    },
    /// A Node without an instance of these groups (Fargate, Karpenter's, another group's): left alone.
    NotOurs {
        /// What it looks like.
        what: Text,
    },
    /// The surge's ledger is unreadable or its step cannot be told; nothing is lowered.
    Ledger {
        /// Why.
        why: Text,
    },
    /// Resuming AZRebalance would terminate undrained nodes: it stays suspended.
    Unbalanced {
        /// Most and fewest nodes of a zone.
        max: u32,
        /// Fewest.
        min: u32,
    },
    /// A failed replacement that stays in its group: kept, or there is no surge to give it back with.
    FailedStays {
        /// How it failed.
        why: Text,
    },
    /// The node was given up.
    Skipped {
        /// Why.
        why: Text,
    },
}
