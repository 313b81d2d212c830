//! Why a run ended without a report.

use jiff::Timestamp;

use super::Interrupt;
use crate::invariants::Violation;
use crate::model::NodeName;
use crate::preflight::Preflight;
use crate::{cloud, cluster, lock};

/// Why a run ended without a report. [`Error::kind`] is what exit codes are made of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// AWS cannot be reached or refused.
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    /// Kubernetes cannot be reached or refused.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Permissions are missing, found before anything was changed.
    #[error("failed to start: not allowed to {}", .0.join(", "))]
    NotAllowed(Vec<String>),
    /// Something in the cluster forbids it, found before anything was changed.
    #[error("refused before anything was changed{}", .0.faults.first().map(|f| format!(": {f}")).unwrap_or_default())]
    Preflight(Preflight),
    /// The user said no.
    #[error("declined: nothing was changed")]
    Declined,
    /// Another rotation holds the lock.
    #[error("failed to lock the cluster: {holder} holds it{}", crate::lock::told(.doing.as_deref()))]
    Locked {
        /// Its identity.
        holder: String,
        /// What it does, where that is no rotation.
        doing: Option<String>,
        /// Since when, by its own word.
        since: Option<Timestamp>,
        /// The rotation it runs, by its own word.
        rotation: Option<String>,
    },
    /// All is done but the node that fastnode itself runs on: the next run, elsewhere, finishes it.
    #[error("{node}, on which fastnode itself runs, is left to the next run, which has to be on another node")]
    OwnNode {
        /// The node, cordoned.
        node: NodeName,
    },
    /// It was started on a node that its own rotation is draining.
    #[error("stopped before anything was done: fastnode runs on {node}, which this rotation has cordoned to drain it")]
    OnOwnNode {
        /// The node.
        node: NodeName,
    },
    /// The plan was about to break a rule that must hold.
    #[error("stopped before a rule was broken: {0}")]
    Invariant(Violation),
    /// What had to be done failed again and again, and what was begun could not be put back either.
    #[error("failed to {what}, again and again: {fault}")]
    Stuck {
        /// The action.
        what: String,
        /// How it failed last.
        fault: String,
    },
    /// A signal; everything is left so that the next run continues.
    #[error("interrupted")]
    Interrupted(Interrupt),
}

/// What kind of end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Credentials, a permission, or unreachable.
    Access,
    /// Refused before acting.
    Preflight,
    /// The user said no.
    Declined,
    /// Another holds the lock.
    Locked,
    /// fastnode's own node is left, or is the one it was started on.
    OwnNode,
    /// An invariant stopped it.
    Invariant,
    /// Something failed again and again.
    Stuck,
    /// A signal.
    Interrupted(Interrupt),
}

impl Error {
    /// What kind of end it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cloud(_) | Self::Cluster(_) | Self::NotAllowed(_) => ErrorKind::Access,
            Self::Preflight(_) => ErrorKind::Preflight,
            Self::Declined => ErrorKind::Declined,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::OwnNode { .. } | Self::OnOwnNode { .. } => ErrorKind::OwnNode,
            Self::Invariant(_) => ErrorKind::Invariant,
            Self::Stuck { .. } => ErrorKind::Stuck,
            Self::Interrupted(signal) => ErrorKind::Interrupted(*signal),
        }
    }
}

impl From<lock::Error> for Error {
    fn from(e: lock::Error) -> Self {
        match e {
            lock::Error::Held { holder, doing, since, rotation } => Self::Locked { holder, doing, since, rotation },
            lock::Error::Cluster(e) => Self::Cluster(e),
        }
    }
}
