//! Whole objects, as a fix reads and writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::wire::Call;
use super::{KubeCluster, MANAGER, config_path, unreadable};
use crate::cluster::manifests::{Manifests, Sending, ServiceRecord};
use crate::cluster::{ErrorKind, Result};
use crate::model::{ObjectKey, Text};

/// Server-side apply. The body is JSON, which is YAML too.
const APPLY: &str = "application/apply-patch+yaml";
/// RFC 6902.
const PATCH: &str = "application/json-patch+json";

fn daemonset_path(key: &ObjectKey) -> String {
    format!("/apis/apps/v1/namespaces/{}/daemonsets/{}", key.namespace, key.name)
}

#[derive(Deserialize)]
struct ServiceJson {
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Text>,
    #[serde(default)]
    ports: Vec<ServicePort>,
}

#[derive(Deserialize)]
struct ServicePort {
    port: u16,
}

#[derive(Deserialize)]
struct ConfigMapJson {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl KubeCluster {
    /// The object at `path`; `None` where there is none.
    async fn read<T: serde::de::DeserializeOwned>(&self, verb: &'static str, path: String) -> Result<Option<T>> {
        match self.call(Call::get(verb, path)).await {
            Ok(body) => serde_json::from_slice(&body).map(Some).map_err(|error| unreadable(verb, &error)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, media: &'static str, key: &ObjectKey, body: &Value, sending: Sending) -> Result<Value> {
        const VERB: &str = "patch daemonsets";
        let mut path = format!("{}?{MANAGER}", daemonset_path(key));
        for (wanted, word) in [(sending.dry_run, "&dryRun=All"), (sending.force && media == APPLY, "&force=true")] {
            if wanted {
                path.push_str(word);
            }
        }
        // What the server only judges may be asked again.
        let call = Call::patch(VERB, path, media, body, sending.dry_run);
        let body = self.call(call).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(VERB, &error))
    }
}

impl Manifests for KubeCluster {
    async fn daemonset(&self, key: &ObjectKey) -> Result<Option<Value>> {
        self.read("get daemonsets", daemonset_path(key)).await
    }

    async fn apply_daemonset(&self, key: &ObjectKey, manifest: &Value, sending: Sending) -> Result<Value> {
        self.write(APPLY, key, manifest, sending).await
    }

    async fn patch_daemonset(&self, key: &ObjectKey, patch: &Value, sending: Sending) -> Result<Value> {
        self.write(PATCH, key, patch, sending).await
    }

    async fn service(&self, key: &ObjectKey) -> Result<Option<ServiceRecord>> {
        let path = format!("/api/v1/namespaces/{}/services/{}", key.namespace, key.name);
        let service: Option<ServiceJson> = self.read("get services", path).await?;
        Ok(service.map(|service| ServiceRecord {
            address: service.spec.cluster_ip.filter(|ip| !ip.is_empty() && &**ip != "None"),
            ports: service.spec.ports.into_iter().map(|port| port.port).collect(),
        }))
    }

    async fn config_map(&self, key: &ObjectKey) -> Result<Option<BTreeMap<String, String>>> {
        let path = format!("{}/{}", config_path(&key.namespace), key.name);
        let found: Option<ConfigMapJson> = self.read("get configmaps", path).await?;
        Ok(found.map(|config| config.data))
    }
}
