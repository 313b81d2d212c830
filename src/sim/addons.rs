//! EKS add-ons of the world: kube-proxy and the VPC CNI, where the scenario lets EKS manage them.

use serde_json::{Map, Value, json};

use crate::cloud::addons::{Addon, AddonChange, AddonUpdate, AddonVersion, Addons};
use crate::cloud::{ErrorKind, Result};
use crate::model::Text;

use super::SimCloud;
use super::behaviour::minor;
use super::cloud::error;
use super::template;
use super::world::{Event, World};

const DESCRIBE: &str = "eks:DescribeAddon";
const SCHEMA: &str = "eks:DescribeAddonConfiguration";
const VERSIONS: &str = "eks:DescribeAddonVersions";
const UPDATE: &str = "eks:UpdateAddon";
const DESCRIBE_UPDATE: &str = "eks:DescribeUpdate";

/// An update of an add-on.
#[derive(Debug)]
pub(super) struct UpdateState {
    daemon: usize,
    change: AddonChange,
    done: bool,
}

/// Add-ons, and their DaemonSets.
const ADDONS: [(&str, &str); 3] =
    [("kube-proxy", "kube-proxy"), ("vpc-cni", "aws-node"), ("aws-ebs-csi-driver", "ebs-csi-node")];

fn find(world: &World, cluster: &str, addon: &str) -> Option<usize> {
    let (_, name) = ADDONS.into_iter().find(|(known, _)| *known == addon && *world.cluster == *cluster)?;
    world.daemons.iter().position(|d| d.spec.name == name && d.spec.addon)
}

fn version_of(manifest: &Value) -> Option<&str> {
    let image = manifest["spec"]["template"]["spec"]["containers"][0]["image"].as_str()?;
    image.rsplit_once(':').map(|(_, tag)| tag)
}

/// Variables that the VPC CNI's schema knows.
const CNI_VARIABLES: [&str; 6] = [
    "AWS_VPC_K8S_CNI_LOGLEVEL",
    "CLUSTER_ENDPOINT",
    "ENABLE_POD_ENI",
    "ENABLE_PREFIX_DELEGATION",
    "WARM_ENI_TARGET",
    "WARM_IP_TARGET",
];

fn schema(addon: &str) -> Option<Value> {
    let top = |properties: Value| {
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                "additionalProperties": false, "properties": properties })
    };
    let any = || json!({ "type": "object" });
    match addon {
        "kube-proxy" => Some(top(json!({
            "ipvs": any(), "mode": { "type": "string", "enum": ["iptables", "ipvs", "nftables"] },
            "podAnnotations": any(), "podLabels": any(), "resources": any(),
        }))),
        "vpc-cni" => {
            let variables: Map<String, Value> =
                CNI_VARIABLES.iter().map(|v| ((*v).to_owned(), json!({ "type": "string" }))).collect();
            let env = json!({ "type": "object", "additionalProperties": false, "properties": variables });
            Some(top(json!({
                "env": env,
                "extraEnv": { "type": "array", "items": { "type": "object", "required": ["name"] } },
                "init": { "type": "object", "properties": { "env": any() } },
                "podAnnotations": any(), "podLabels": any(), "resources": any(), "tolerations": { "type": "array" },
            })))
        }
        "aws-ebs-csi-driver" => Some(top(json!({
            "node": { "type": "object", "properties": { "tolerateAllTaints": { "type": "boolean" },
                "tolerations": { "type": "array" } } },
            "controller": any(),
        }))),
        _ => None,
    }
}

/// What EKS says of values that its schema does not take.
fn check(addon: &str, values: &Value) -> std::result::Result<(), String> {
    let schema = schema(addon).unwrap_or_default();
    let refuse = |path: &str, key: &str| {
        Err(format!(
            "InvalidParameterException: ConfigurationValue provided in request is not supported: Json schema validation \
             failed with error: [$.{path}: property '{key}' is not defined in the schema and the schema does not allow \
             additional properties]"
        ))
    };
    if values["env"]["CLUSTER_ENDPOINT"].as_str().is_some_and(|url| !url.starts_with("https://")) {
        return Err(format!(
            "InvalidParameterException: ConfigurationValue provided in request is not supported: Json schema validation \
             failed with error: [$.env.CLUSTER_ENDPOINT: does not match the regex pattern ^https://] ({addon})"
        ));
    }
    for (key, value) in values.as_object().into_iter().flatten() {
        let Some(property) = schema["properties"].get(key) else { return refuse(key, key) };
        let closed = property["additionalProperties"] == json!(false);
        for inner in value.as_object().into_iter().flatten().filter(|_| closed).map(|(k, _)| k) {
            if property["properties"].get(inner).is_none() {
                return refuse(&format!("{key}.{inner}"), inner);
            }
        }
    }
    Ok(())
}

/// What an update to these values and version would have EKS apply: the image, the variables, and for kube-proxy since
/// 1.25 the hostname override.
fn rendered(current: &Value, addon: &str, version: &str, values: &Value) -> Value {
    let mut manifest = current.clone();
    let pod = &mut manifest["spec"]["template"]["spec"];
    for list in ["containers", "initContainers"] {
        for container in pod[list].as_array_mut().into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default().to_owned();
            if let Some((name, _)) = image.rsplit_once(':').filter(|_| image.contains(".dkr.ecr.")) {
                container["image"] = json!(format!("{name}:{version}"));
            }
        }
    }
    let Some(main) = pod["containers"].as_array_mut().and_then(|c| c.first_mut()) else { return manifest };
    let mut env: Vec<Value> = main["env"].as_array().cloned().unwrap_or_default();
    let mut put = |variable: Value| match env.iter_mut().find(|e| e["name"] == variable["name"]) {
        Some(there) => *there = variable,
        None => env.push(variable),
    };
    if addon == "kube-proxy" && minor(version).is_some_and(|v| v >= (1, 25)) {
        put(template::node_name_variable());
        main["command"] = template::kube_proxy_command(true);
    }
    for (name, value) in values["env"].as_object().into_iter().flatten() {
        put(json!({ "name": name, "value": value }));
    }
    for variable in values["extraEnv"].as_array().into_iter().flatten() {
        put(variable.clone());
    }
    if !env.is_empty() {
        main["env"] = Value::Array(env);
    }
    manifest
}

impl World {
    /// An add-on's update takes effect: EKS applies what it renders, and leaves what others have taken over.
    pub(super) fn addon_updated(&mut self, update: usize) {
        let state = &mut self.addon_updates[update];
        state.done = true;
        let (daemon, change) = (state.daemon, state.change.clone());
        let set = &mut self.daemons[daemon];
        if let Some(configuration) = &change.configuration {
            set.configuration = Some(configuration.clone());
        }
        let values = set.configuration.as_deref().and_then(|c| serde_json::from_str(c).ok()).unwrap_or(Value::Null);
        let version = change.version.as_deref().or_else(|| version_of(&set.manifest)).unwrap_or_default().to_owned();
        let Some((addon, _)) = ADDONS.into_iter().find(|(_, name)| *name == set.spec.name) else { return };
        let wanted = rendered(&set.manifest, addon, &version, &values);
        let (mut object, mut fields) = (set.manifest.clone(), set.fields.clone());
        let wanted = fields.preserve(&wanted, "eks");
        // Forced, but nothing in it is another's: there is nothing left to conflict with.
        if fields.apply(&mut object, &wanted, "eks", true).is_ok() {
            self.put_daemonset(daemon, object, fields);
        }
    }
}

impl Addons for SimCloud {
    async fn addon(&self, cluster: &str, name: &str) -> Result<Option<Addon>> {
        self.send(DESCRIBE, false).await?;
        Ok(self.handle.with(|world| {
            let at = find(world, cluster, name)?;
            let set = &world.daemons[at];
            let updating = world.addon_updates.iter().any(|u| u.daemon == at && !u.done);
            Some(Addon {
                name: name.into(),
                version: version_of(&set.manifest).unwrap_or_default().into(),
                status: if updating { "UPDATING" } else { "ACTIVE" }.into(),
                configuration: set.configuration.clone(),
                issues: Vec::new(),
            })
        }))
    }

    async fn addon_schema(&self, name: &str, _version: &str) -> Result<Option<Value>> {
        self.send(SCHEMA, false).await?;
        Ok(schema(name))
    }

    async fn addon_versions(&self, name: &str, kubernetes: &str) -> Result<Vec<AddonVersion>> {
        self.send(VERSIONS, false).await?;
        let version = |version: String, default| AddonVersion { version: version.into(), default };
        Ok(match name {
            "kube-proxy" => vec![
                version(format!("v{kubernetes}.3-eksbuild.2"), false),
                version(format!("v{kubernetes}.0-eksbuild.2"), true),
            ],
            "vpc-cni" => [("v1.20.4-eksbuild.2", true), ("v1.19.6-eksbuild.1", false), ("v1.12.6-eksbuild.2", false)]
                .map(|(v, default)| version(v.to_owned(), default))
                .into(),
            "aws-ebs-csi-driver" => vec![version("v1.35.0-eksbuild.1".to_owned(), true)],
            _ => Vec::new(),
        })
    }

    async fn update_addon(&self, cluster: &str, name: &str, change: &AddonChange) -> Result<Text> {
        let act = |world: &mut World| {
            let Some(at) = find(world, cluster, name) else {
                let message = format!("ResourceNotFoundException: No addon: {name} found in cluster: {cluster}");
                return Err(error(ErrorKind::NotFound, UPDATE, message));
            };
            if world.addon_updates.iter().any(|u| u.daemon == at && !u.done) {
                let message = format!("ResourceInUseException: Addon {name} cannot be updated as it is being updated");
                return Err(error(ErrorKind::Busy, UPDATE, message));
            }
            if let Some(text) = &change.configuration {
                let values = serde_json::from_str(text).map_err(|e| format!("InvalidParameterException: {e}"));
                let checked = values.and_then(|values: Value| check(name, &values));
                checked.map_err(|message| error(ErrorKind::Refused, UPDATE, message))?;
            }
            let id = world.addon_updates.len();
            world.addon_updates.push(UpdateState { daemon: at, change: change.clone(), done: false });
            let delay = world.random.control.spread(world.times.addon_s);
            world.after(delay, Event::AddonUpdated(id));
            Ok(update_id(id))
        };
        self.change(UPDATE, true, act).await
    }

    async fn addon_update(&self, _cluster: &str, _name: &str, update: &str) -> Result<AddonUpdate> {
        self.send(DESCRIBE_UPDATE, false).await?;
        self.handle.with(|world| {
            let found = (0..world.addon_updates.len()).find(|id| *update_id(*id) == *update);
            match found.map(|id| world.addon_updates[id].done) {
                Some(true) => Ok(AddonUpdate::Successful),
                Some(false) => Ok(AddonUpdate::InProgress),
                None => {
                    let message = format!("ResourceNotFoundException: No update found for ID: {update}");
                    Err(error(ErrorKind::NotFound, DESCRIBE_UPDATE, message))
                }
            }
        })
    }
}

fn update_id(id: usize) -> Text {
    format!("{id:08x}-add0-4000-8000-000000000000").into()
}
