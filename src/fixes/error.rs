//! Why a fix was not applied or not taken back.

use super::catalogue::CatalogueError;
use crate::{cloud, cluster};

/// A failure of a fix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such fix, or its file is malformed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// AWS.
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    /// Kubernetes.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Nothing was changed, and will not be so.
    #[error("refused to {what}: {why}")]
    Refused {
        /// `apply aws-node-wait`, `revert …`.
        what: String,
        /// Why, and what helps.
        why: String,
    },
    /// The waiter's image was not named.
    #[error("failed to apply {fix}: the waiter's image is not named")]
    NoWaiter {
        /// The fix.
        fix: String,
    },
    /// EKS did not carry the change out.
    #[error("failed to change the add-on {addon}: {why}")]
    Addon {
        /// The add-on.
        addon: String,
        /// EKS's reasons, or that it took too long.
        why: String,
    },
}
