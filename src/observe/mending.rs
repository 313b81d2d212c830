//! What is being done about slow or failing new nodes, as far as a plan has to know.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{GroupName, InstanceId, Text};

/// What a rotation has mended so far; part of its record, so that it holds after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// Fixes it has applied, in their order: after each, one more canary has to prove itself.
    pub fixes: Vec<Text>,
    /// Replacements that failed for what was mended since: they end nothing, and count against no budget.
    pub excused: BTreeSet<InstanceId>,
}

/// What is under way. Not kept: after a crash it is begun again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mending {
    /// A failed replacement is looked into before it may end the rotation.
    pub awaited: bool,
    /// Failed ones that are to be looked into, or have been. Kept when their instance is gone: a failure stays one.
    pub failures: BTreeMap<InstanceId, Failure>,
    /// Failed ones that have been looked into, and whose verdict is due.
    pub examined: BTreeSet<InstanceId>,
    /// Failed ones whose verdict was not to end the rotation.
    pub settled: BTreeSet<InstanceId>,
    /// Failed ones that stay until it has been seen how long they take to come up, restarts and all, and by when they
    /// go all the same: what a fix is worth can be told from them.
    pub watched: BTreeMap<InstanceId, Timestamp>,
    /// What nothing new is begun before.
    pub busy: Option<Busy>,
    /// When the last of that ended.
    pub ended: Option<Timestamp>,
}

/// A failed replacement whose verdict waits until it has been looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its group.
    pub group: GroupName,
    /// It is waited for so long at most, unless something that is being done about new nodes takes longer.
    pub until: Timestamp,
}

/// Something that is done about new nodes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// What, for "waits for".
    pub what: Text,
    /// Since when.
    pub since: Timestamp,
    /// Its deadline.
    pub until: Timestamp,
}
