//! Whole objects, read and written: what a fix looks at and changes. The rotation itself needs none of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Result;
use crate::model::{ObjectKey, Text};

/// The field manager of everything fastnode applies.
pub const FIELD_MANAGER: &str = "fastnode";

/// A Service, as far as something waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// `spec.clusterIP`; `None` where it is headless.
    pub address: Option<Text>,
    /// `spec.ports[].port`.
    pub ports: Vec<u16>,
}

/// How a change is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// Judged by the server and not kept (`dryRun=All`).
    pub dry_run: bool,
    /// Takes the fields of other managers over (`force=true`, of server-side apply only).
    pub force: bool,
}

/// Kubernetes' objects, whole.
///
/// A refusal of the schema (422) is [`super::ErrorKind::Invalid`]; a field of another manager, or a precondition
/// that does not hold, is [`super::ErrorKind::Conflict`] with the server's own sentence.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Manifests {
    /// A DaemonSet as it is, `metadata.managedFields` and `status` included.
    async fn daemonset(&self, key: &ObjectKey) -> Result<Option<Value>>;

    /// Server-side apply under [`FIELD_MANAGER`]; `manifest` holds apiVersion, kind, metadata and the fields we
    /// want to own, those we owned before and left out are removed. The object after it.
    async fn apply_daemonset(&self, key: &ObjectKey, manifest: &Value, sending: Sending) -> Result<Value>;

    /// A JSON patch (RFC 6902) under [`FIELD_MANAGER`], its `test` operations the precondition
    /// (`/metadata/resourceVersion`, at least). The object after it.
    async fn patch_daemonset(&self, key: &ObjectKey, patch: &Value, sending: Sending) -> Result<Value>;

    /// A Service.
    async fn service(&self, key: &ObjectKey) -> Result<Option<ServiceRecord>>;

    /// The data of a ConfigMap that is not ours (`kube-system/kube-proxy-config`).
    async fn config_map(&self, key: &ObjectKey) -> Result<Option<BTreeMap<String, String>>>;
}
