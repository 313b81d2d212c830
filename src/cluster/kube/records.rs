//! Leases and ConfigMaps of ours, to and from the API's JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{ConfigRecord, LeaseRecord};
use crate::model::marks::ROTATION;
use crate::model::{ObjectKey, Text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    name: String,
    resource_version: Option<String>,
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    annotations: BTreeMap<Text, Text>,
}

#[derive(Deserialize)]
struct LeaseJson {
    metadata: Meta,
    #[serde(default)]
    spec: LeaseSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u32>,
    acquire_time: Option<Timestamp>,
    renew_time: Option<Timestamp>,
    lease_transitions: Option<u32>,
}

/// Reads a Lease.
pub(super) fn lease(json: &[u8]) -> Result<LeaseRecord, serde_json::Error> {
    let LeaseJson { metadata, spec } = serde_json::from_slice(json)?;
    Ok(LeaseRecord {
        holder: spec.holder_identity.filter(|h| !h.is_empty()),
        duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: spec.acquire_time,
        renewed: spec.renew_time,
        transitions: spec.lease_transitions.unwrap_or_default(),
        annotations: metadata.annotations,
        version: metadata.resource_version,
    })
}

/// Writes a Lease. The API takes no empty holder and no duration below 1 s; times are `MicroTime`.
pub(super) fn lease_json(key: &ObjectKey, lease: &LeaseRecord) -> Value {
    let micros = |time: Option<Timestamp>| time.map(|t| format!("{t:.6}"));
    let mut json = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": key.name, "namespace": key.namespace, "annotations": lease.annotations },
        "spec": {
            "holderIdentity": lease.holder.as_ref().filter(|h| !h.is_empty()),
            "leaseDurationSeconds": lease.duration_seconds.max(1),
            "acquireTime": micros(lease.acquired),
            "renewTime": micros(lease.renewed),
            "leaseTransitions": lease.transitions,
        },
    });
    if let Some(version) = &lease.version {
        json["metadata"]["resourceVersion"] = json!(version);
    }
    json
}

#[derive(Deserialize)]
struct ConfigJson {
    metadata: Meta,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl ConfigJson {
    fn record(self) -> ConfigRecord {
        ConfigRecord {
            name: self.metadata.name,
            data: self.data,
            version: self.metadata.resource_version,
            created: self.metadata.creation_timestamp,
        }
    }
}

/// Reads a ConfigMap.
pub(super) fn config(json: &[u8]) -> Result<ConfigRecord, serde_json::Error> {
    serde_json::from_slice::<ConfigJson>(json).map(ConfigJson::record)
}

/// Reads a list of ConfigMaps.
pub(super) fn configs(json: &[u8]) -> Result<Vec<ConfigRecord>, serde_json::Error> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        items: Option<Vec<ConfigJson>>,
    }
    let list: List = serde_json::from_slice(json)?;
    Ok(list.items.unwrap_or_default().into_iter().map(ConfigJson::record).collect())
}

/// Writes a ConfigMap.
pub(super) fn config_json(namespace: &str, rotation: &str, config: &ConfigRecord) -> Value {
    let mut json = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": config.name, "namespace": namespace, "labels": { ROTATION: rotation } },
        "data": config.data,
    });
    if let Some(version) = &config.version {
        json["metadata"]["resourceVersion"] = json!(version);
    }
    json
}
