//! EKS add-ons: whether one manages a DaemonSet, what it lets us set, and its updates.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Result;
use crate::model::Text;

/// An add-on of the cluster (`eks:DescribeAddon`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// `vpc-cni`, `kube-proxy`, `coredns`, …
    pub name: Text,
    /// `v1.20.0-eksbuild.1`.
    pub version: Text,
    /// `ACTIVE`, `UPDATING`, `DEGRADED`, …
    pub status: Text,
    /// `configurationValues`, JSON or YAML as it was given; `None` where nothing is set.
    pub configuration: Option<Text>,
    /// `health.issues[]`, code and message.
    pub issues: Vec<Text>,
}

/// A version of an add-on for a Kubernetes version (`eks:DescribeAddonVersions`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonVersion {
    /// `v1.20.0-eksbuild.1`.
    pub version: Text,
    /// EKS installs this one by default.
    pub default: bool,
}

/// What an update of an add-on changes; always with `resolveConflicts: PRESERVE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonChange {
    /// To this version.
    pub version: Option<Text>,
    /// To these configuration values, whole.
    pub configuration: Option<Text>,
}

/// Where an update stands (`eks:DescribeUpdate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddonUpdate {
    /// Under way.
    InProgress,
    /// Done.
    Successful,
    /// Failed or cancelled, with the reasons.
    Failed(Text),
}

/// EKS add-ons.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Addons {
    /// `eks:DescribeAddon`; `None` where EKS does not manage it here.
    async fn addon(&self, cluster: &str, name: &str) -> Result<Option<Addon>>;

    /// `eks:DescribeAddonConfiguration`: the JSON schema of its configuration values; `None` where it takes none.
    async fn addon_schema(&self, name: &str, version: &str) -> Result<Option<Value>>;

    /// `eks:DescribeAddonVersions` for a Kubernetes version (`1.36`), newest first.
    async fn addon_versions(&self, name: &str, kubernetes: &str) -> Result<Vec<AddonVersion>>;

    /// `eks:UpdateAddon`, sent once; the update's id.
    async fn update_addon(&self, cluster: &str, name: &str, change: &AddonChange) -> Result<Text>;

    /// `eks:DescribeUpdate`.
    async fn addon_update(&self, cluster: &str, name: &str, update: &str) -> Result<AddonUpdate>;
}
