//! Whole objects of the world, read and written as the API server does it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::manifests::{FIELD_MANAGER, Manifests, Sending, ServiceRecord};
use crate::cluster::{Error, ErrorKind, Result};
use crate::model::ObjectKey;

use super::cluster::{error, not_found};
use super::fields::{Fields, patch, sentence};
use super::world::World;
use super::{SimCluster, Simulation};

/// The address of Service `default/kubernetes`.
pub(super) const SERVICE_ADDRESS: &str = "172.20.0.1";

const GET: &str = "get daemonsets";
const PATCH: &str = "patch daemonsets";

fn find(world: &World, key: &ObjectKey) -> Option<usize> {
    world.daemons.iter().position(|d| d.record.key == *key)
}

fn found(world: &World, key: &ObjectKey) -> Result<usize> {
    find(world, key).ok_or_else(|| not_found(PATCH, "daemonsets.apps", &key.name))
}

/// What the schema of a DaemonSet asks for, as far as a patch is likely to miss it.
fn check(manifest: &Value, name: &str) -> Result<()> {
    let pod = &manifest["spec"]["template"]["spec"];
    let invalid =
        |what: String| Err(error(ErrorKind::Invalid, PATCH, format!("DaemonSet.apps {name:?} is invalid: {what}")));
    for list in ["containers", "initContainers"] {
        for (at, container) in pod[list].as_array().into_iter().flatten().enumerate() {
            let place = format!("spec.template.spec.{list}[{at}]");
            for field in ["name", "image"] {
                if container[field].as_str().is_none_or(str::is_empty) {
                    return invalid(format!("{place}.{field}: Required value"));
                }
            }
            for (n, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
                if variable["value"].is_string() && variable["valueFrom"].is_object() {
                    let why = "Invalid value: \"\": may not be specified when `value` is not empty";
                    return invalid(format!("{place}.env[{n}].valueFrom: {why}"));
                }
            }
        }
    }
    if pod["containers"].as_array().is_none_or(Vec::is_empty) {
        return invalid("spec.template.spec.containers: Required value".to_owned());
    }
    if manifest["spec"]["selector"]["matchLabels"] != manifest["spec"]["template"]["metadata"]["labels"] {
        return invalid("spec.template.metadata.labels: `selector` does not match template `labels`".to_owned());
    }
    Ok(())
}

impl World {
    /// A DaemonSet as GET answers.
    fn show_daemonset(&self, at: usize, manifest: &Value, fields: &Fields) -> Value {
        let mut object = manifest.clone();
        object["metadata"]["managedFields"] = fields.managed(&self.timestamp().to_string());
        object["metadata"]["resourceVersion"] = json!(self.daemons[at].resource_version.to_string());
        object["status"] = self.daemonset_status(at);
        object
    }

    /// Keeps a changed DaemonSet, unless it only was to be judged; the object after it.
    fn accept(&mut self, at: usize, manifest: Value, fields: Fields, sending: Sending) -> Result<Value> {
        check(&manifest, &self.daemons[at].record.key.name)?;
        if sending.dry_run {
            return Ok(self.show_daemonset(at, &manifest, &fields));
        }
        self.put_daemonset(at, manifest, fields);
        let set = &self.daemons[at];
        Ok(self.show_daemonset(at, &set.manifest, &set.fields))
    }

    fn apply_manifest(&mut self, key: &ObjectKey, manifest: &Value, sending: Sending) -> Result<Value> {
        let at = found(self, key)?;
        let set = &self.daemons[at];
        let version = manifest["metadata"]["resourceVersion"].as_str();
        if version.is_some_and(|v| *v != set.resource_version.to_string()) {
            let message = format!(
                "Operation cannot be fulfilled on daemonsets.apps \"{}\": the object has been modified; please apply \
                 your changes to the latest version and try again",
                key.name
            );
            return Err(error(ErrorKind::Conflict, PATCH, message));
        }
        let (mut object, mut fields) = (set.manifest.clone(), set.fields.clone());
        let applied = fields.apply(&mut object, manifest, FIELD_MANAGER, sending.force);
        applied.map_err(|conflicts| error(ErrorKind::Conflict, PATCH, sentence(&conflicts)))?;
        self.accept(at, object, fields, sending)
    }

    fn patch_manifest(&mut self, key: &ObjectKey, operations: &Value, sending: Sending) -> Result<Value> {
        let at = found(self, key)?;
        let set = &self.daemons[at];
        let shown = self.show_daemonset(at, &set.manifest, &set.fields);
        let refused = |(precondition, why): (bool, String)| -> Error {
            let kind = if precondition { ErrorKind::Conflict } else { ErrorKind::Invalid };
            error(kind, PATCH, why)
        };
        let mut object = patch(&shown, operations).map_err(refused)?;
        let kept = object["metadata"]["managedFields"].take();
        // What the server alone writes is not taken from a patch.
        for (map, field) in [("metadata", "managedFields"), ("metadata", "resourceVersion"), ("", "status")] {
            let map = if map.is_empty() { Some(&mut object) } else { object.get_mut(map) };
            if let Some(map) = map.and_then(Value::as_object_mut) {
                map.remove(field);
            }
        }
        let mut fields = set.fields.clone();
        fields.keep_those_in(&kept);
        fields.updated(&set.manifest, &object, FIELD_MANAGER);
        self.accept(at, object, fields, sending)
    }
}

impl Simulation {
    /// Somebody puts a ConfigMap there.
    pub fn put_config_map<'a>(&self, key: &ObjectKey, data: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.handle.with(|world| world.config_maps.insert(key.clone(), data));
    }

    /// Somebody else applies a manifest by force (server-side, under a manager's name of their own): what is in it is
    /// theirs from then on.
    ///
    /// # Errors
    /// If there is no such DaemonSet, or it would not be valid.
    pub fn apply_as(&self, manager: &str, key: &ObjectKey, manifest: &Value) -> Result<()> {
        self.handle.with(|world| {
            let at = found(world, key)?;
            let (mut object, mut fields) = (world.daemons[at].manifest.clone(), world.daemons[at].fields.clone());
            let applied = fields.apply(&mut object, manifest, manager, true);
            applied.map_err(|conflicts| error(ErrorKind::Conflict, PATCH, sentence(&conflicts)))?;
            world.accept(at, object, fields, Sending::default()).map(drop)
        })
    }
}

impl Manifests for SimCluster {
    async fn daemonset(&self, key: &ObjectKey) -> Result<Option<Value>> {
        let act = |world: &mut World| {
            let shown = find(world, key).map(|at| {
                let set = &world.daemons[at];
                world.show_daemonset(at, &set.manifest, &set.fields)
            });
            Ok(shown)
        };
        self.read(GET, act).await
    }

    async fn apply_daemonset(&self, key: &ObjectKey, manifest: &Value, sending: Sending) -> Result<Value> {
        self.change(PATCH, |world| world.apply_manifest(key, manifest, sending)).await
    }

    async fn patch_daemonset(&self, key: &ObjectKey, patch: &Value, sending: Sending) -> Result<Value> {
        self.change(PATCH, |world| world.patch_manifest(key, patch, sending)).await
    }

    async fn service(&self, key: &ObjectKey) -> Result<Option<ServiceRecord>> {
        let act = |_: &mut World| {
            let (address, ports) = match (&*key.namespace, &*key.name) {
                ("default", "kubernetes") => (SERVICE_ADDRESS, vec![443]),
                ("kube-system", "kube-dns") => ("172.20.0.10", vec![53, 53, 9153]),
                _ => return Ok(None),
            };
            Ok(Some(ServiceRecord { address: Some(address.into()), ports }))
        };
        self.read("get services", act).await
    }

    async fn config_map(&self, key: &ObjectKey) -> Result<Option<BTreeMap<String, String>>> {
        let act = |world: &mut World| {
            if let Some(data) = world.config_maps.get(key) {
                return Ok(Some(data.clone()));
            }
            let proxied = world.daemons.iter().any(|d| d.spec.name == "kube-proxy");
            if !proxied || (&*key.namespace, &*key.name) != ("kube-system", "kube-proxy-config") {
                return Ok(None);
            }
            let set = |key: &str, usual: &str| {
                let value = world.proxy_config.get(key).map_or(usual, String::as_str);
                format!("{key}: {value:?}\n")
            };
            let config = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nbindAddress: 0.0.0.0\nclientConnection:\n  \
                          kubeconfig: /var/lib/kube-proxy/kubeconfig\nclusterCIDR: \"\"\nkind: \
                          KubeProxyConfiguration\nmetricsBindAddress: 127.0.0.1:10249\n";
            let config = format!("{config}{}{}", set("hostnameOverride", ""), set("mode", "iptables"));
            Ok(Some(BTreeMap::from([("config".to_owned(), config)])))
        };
        self.read("get configmaps", act).await
    }
}
