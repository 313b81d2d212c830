//! What a fix has to know of a cluster beside its DaemonSet: asked for, and where it may not be known, done without.

use serde_json::Value;

use super::catalogue::{AppliesWhen, Form, Patch, Remedial, key};
use super::detect::{Context, PROXY_CONFIGS};
use super::owners::helm_release;
use super::remedy::Remedy;
use super::{Error, detect, render};
use crate::cloud::addons::Addons;
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::Manifests;
use crate::cluster::{self, ErrorKind};

/// No node is Ready without these, and no driver starts on one that is not.
const VITAL: [&str; 2] = ["aws-node", "kube-proxy"];

impl<C: Cloud + Addons, K: Manifests> Remedy<C, K> {
    /// What the fix has to know of the cluster, and what could not be learnt.
    pub(super) async fn context(&self, remedial: &Remedial, manifest: &Value) -> Result<(Context, Vec<String>), Error> {
        let mut context = Context { waiter: self.waiter.clone(), ..Context::default() };
        let mut missing = Vec::new();
        let fix = &remedial.fix;
        if let Some(name) = &remedial.addon {
            let asked = self.cloud.addon(&self.name, name).await;
            context.addon = known(asked, &mut missing)?.flatten();
        }
        let by_configuration = matches!(&fix.patch, Patch::Env { addon_values, .. } if !addon_values.is_empty());
        if let (Some(addon), true) = (&context.addon, by_configuration) {
            let asked = self.cloud.addon_schema(&addon.name, &addon.version).await;
            context.schema = known(asked, &mut missing)?.flatten();
        }
        let updates = matches!(fix.patch, Patch::AddonUpdate {}) && context.addon.is_some();
        let values = fix.helm.as_deref().filter(|_| helm_release(manifest).is_some());
        let wants_endpoint = matches!(&fix.patch, Patch::Env { value, .. } if value.contains("${endpoint}"))
            || values.is_some_and(|values| values.contains("${endpoint}"));
        if updates || wants_endpoint {
            let found = known(self.cloud.cluster(&self.name).await, &mut missing)?;
            context.endpoint = found.as_ref().map(|cluster| cluster.endpoint.clone());
            if let (Some(addon), Some(cluster), true) = (&context.addon, &found, updates) {
                let asked = self.cloud.addon_versions(&addon.name, &cluster.version).await;
                context.versions = known(asked, &mut missing)?.unwrap_or_default();
            }
        }
        let AppliesWhen { kube_proxy, proxy_modes, .. } = &fix.applies_when;
        if kube_proxy.is_some() {
            context.kube_proxy = self.cluster.daemonset(&key("kube-proxy")).await?.is_some();
        }
        if matches!(fix.patch, Patch::StartupTaint { .. }) {
            for name in VITAL.map(key) {
                if let Some(found) = self.cluster.daemonset(&name).await? {
                    context.vital.push((name.to_string(), found["spec"]["template"]["spec"]["tolerations"].clone()));
                }
            }
        }
        let mut maps: Vec<String> = fix.detect.iter().filter_map(config_map).map(str::to_owned).collect();
        let container = detect::container(manifest, fix.target.container.as_deref());
        if let Some(container) =
            container.filter(|_| fix.detect.iter().any(|form| matches!(form, Form::Env(_) | Form::EnvSince { .. })))
        {
            maps.extend(detect::env_maps(container, manifest).into_iter().map(|(map, _)| map));
        }
        if !proxy_modes.is_empty() {
            maps.extend(PROXY_CONFIGS.map(|(map, _)| map.to_owned()));
        }
        for map in maps {
            let asked = self.cluster.config_map(&key(&map)).await;
            if let Some(data) = allowed(asked, &mut missing)?.flatten() {
                context.configs.insert(map, data);
            }
        }
        for service in render::services(remedial) {
            let asked = self.cluster.service(&key(&service)).await;
            if let Some(found) = allowed(asked, &mut missing)?.flatten() {
                context.services.insert(service, found);
            }
        }
        Ok((context, missing))
    }
}

fn config_map(form: &Form) -> Option<&str> {
    match form {
        Form::ConfigFile { config_map, .. } => Some(config_map),
        _ => None,
    }
}

/// What AWS will not tell is done without, and said.
fn known<T>(asked: cloud::Result<T>, missing: &mut Vec<String>) -> Result<Option<T>, Error> {
    use cloud::ErrorKind::{Credentials, Denied, NotFound};
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind, Credentials | Denied | NotFound) => {
            missing.push(format!("looked without {}: {}", error.operation, error.message));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The same for Kubernetes.
fn allowed<T>(asked: cluster::Result<T>, missing: &mut Vec<String>) -> Result<Option<T>, Error> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::Forbidden => {
            missing.push(format!("looked without {}: it is not allowed", error.verb));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
