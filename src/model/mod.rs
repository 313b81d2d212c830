//! The vocabulary: what AWS and Kubernetes say, in the few words fastnode needs.
//!
//! Nothing here does IO, reads a clock or knows a client. Every record is slim: it holds what a rule
//! somewhere reads, not what the API sent. Records are plain data, ordered and serialisable, so that a
//! [`crate::observe::Snapshot`] can be written to a file and read back.

pub mod budget;
pub mod daemonset;
pub mod group;
pub mod ids;
pub mod instance;
pub mod ledger;
pub mod marks;
pub mod node;
pub mod pod;
pub mod quantity;
pub mod selector;

pub use budget::Budget;
pub use daemonset::{DaemonSet, Revision, UpdateStrategy, fix_marks};
pub use group::{Activity, ActivityStatus, Attachment, NodeGroup, Override, Process, Target, TemplateRef};
pub use ids::{GroupName, InstanceId, NodeName, ObjectKey, Text, Uid, Zone};
pub use instance::{Instance, LaunchSource, Lifecycle};
pub use ledger::{Ledger, Step};
pub use marks::NodeMark;
pub use node::{Condition, ConditionStatus, CsiNode, Node, Taint, TaintEffect, VolumeAttachment};
pub use pod::{Container, ContainerState, LastRun, Owner, Phase, Pod, PodFlags};
pub use selector::{Labels, NodeSelectorTerm, Operator, Requirement, Selector, Toleration};
