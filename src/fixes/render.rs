//! The places a fix writes at in its DaemonSet. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::catalogue::{Form, Goal, Patch, Remedial};
use super::detect::{Context, argument, container, env, variable, variable_of, words};
use super::place::{Path, Place, get};
use crate::model::{Taint, TaintEffect, Toleration};

/// Names of the init containers that a fix adds begin so; the gate lets their exit code 75 pass.
pub const WAITER_PREFIX: &str = "fastnode-wait";

/// The exit code with which a waiter asks to be started again.
pub const START_OVER: i32 = 75;

/// Whether an init container is a waiter of ours.
pub fn is_waiter(name: &str) -> bool {
    name.starts_with(WAITER_PREFIX)
}

/// The waiter's image where none is named: as the Containerfile's comment builds it.
pub fn default_waiter() -> String {
    format!("fastnode:{}", env!("CARGO_PKG_VERSION"))
}

/// What a fix writes at which places.
///
/// # Errors
/// In words, where it cannot be written here.
pub fn places(remedial: &Remedial, manifest: &Value, context: &Context) -> Result<Vec<Place>, String> {
    let named = remedial.fix.target.container.as_deref();
    let container = container(manifest, named).ok_or("the container is not there")?;
    let name = container["name"].as_str().unwrap_or_default();
    let at = Path::in_template("containers").item(name);
    let place = |path: Path, after: Value| Place { before: get(manifest, &path).cloned(), path, after };
    match &remedial.fix.patch {
        Patch::Argument { name, env, field } => flag(container, &at, (name, env, field), &place),
        Patch::Env { name, value, .. } => {
            let value = filled(value, context)?;
            Ok(vec![place(at.field("env").item(name), json!({ "name": name, "value": value }))])
        }
        Patch::Wait { goals, timeout } => waiters(remedial, manifest, goals, timeout, context),
        Patch::StartupTaint { effect, .. } => {
            let taint = startup_taint(remedial)?;
            if let Some((set, _)) = context.vital.iter().find(|(_, found)| !tolerates(found, &taint, effect)) {
                return Err(format!(
                    "{set} does not tolerate {taint}:{effect}: a node that registers with it would never be Ready, and \
                     nothing would take it off"
                ));
            }
            let path = Path::in_template("tolerations");
            let mut tolerations = get(manifest, &path).cloned().unwrap_or_else(|| json!([]));
            if tolerates(&tolerations, &taint, effect) {
                return Ok(Vec::new());
            }
            if let Some(list) = tolerations.as_array_mut() {
                list.push(json!({ "key": taint, "operator": "Exists", "effect": effect }));
            }
            Ok(vec![place(path, tolerations)])
        }
        Patch::AddonUpdate {} => Ok(Vec::new()),
    }
}

fn flag(
    container: &Value,
    at: &Path,
    (name, wanted, field): (&str, &str, &str),
    place: &impl Fn(Path, Value) -> Place,
) -> Result<Vec<Place>, String> {
    let from_field =
        |name: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": field } } });
    if let Some(value) = argument(container, name).filter(|value| !value.is_empty()) {
        // The flag is there, and its variable is not.
        let missing = variable(&value).filter(|variable| env(container, variable).is_none());
        let Some(variable) = missing else {
            return Err(format!("{name} is {value:?} by somebody's choice, and {field} would be another value"));
        };
        return Ok(vec![place(at.clone().field("env").item(variable), from_field(variable))]);
    }
    let has = |list: &str| container[list].as_array().is_some_and(|list| !list.is_empty());
    if words(container).iter().any(|word| word == "-c") {
        return Err(format!("its command is a script of a shell: add {name} there"));
    }
    // Arguments follow the command; where the command holds them all, there is where one more belongs.
    let list = if has("command") && !has("args") { "command" } else { "args" };
    let known = variable_of(container, field);
    let variable = known.unwrap_or(if env(container, wanted).is_none() { wanted } else { "FASTNODE_NODE_NAME" });
    let mut arguments: Vec<Value> = container[list].as_array().cloned().unwrap_or_default();
    // An empty `--flag=` would stand beside ours.
    arguments.retain(|argument| argument.as_str() != Some(&format!("{name}=")));
    arguments.push(json!(format!("{name}=$({variable})")));
    let mut places = vec![place(at.clone().field(list), Value::Array(arguments))];
    if known.is_none() {
        places.push(place(at.clone().field("env").item(variable), from_field(variable)));
    }
    Ok(places)
}

/// Placeholders filled in: `${endpoint}`; of a Service `${service:namespace/name}`, its address with its first port, or
/// `${address:namespace/name}`, without.
pub fn filled(text: &str, context: &Context) -> Result<String, String> {
    let Some((head, rest)) = text.split_once("${") else { return Ok(text.to_owned()) };
    let (name, tail) = rest.split_once('}').ok_or_else(|| format!("{text:?} has a ${{ without its }}"))?;
    let value = match name.split_once(':') {
        None if name == "endpoint" => context
            .endpoint
            .as_deref()
            .ok_or("the cluster's endpoint is not known: EKS does not know the cluster")?
            .to_owned(),
        Some(("service", service)) => address(service, context)?,
        Some(("address", service)) => {
            let found = context.services.get(service).and_then(|found| found.address.clone());
            found.ok_or_else(|| format!("there is no Service {service} with an address"))?.to_string()
        }
        _ => {
            return Err(format!(
                "${{{name}}} is none of ${{endpoint}}, ${{service:NAMESPACE/NAME}}, ${{address:NAMESPACE/NAME}}"
            ));
        }
    };
    Ok(format!("{head}{value}{}", filled(tail, context)?))
}

fn address(service: &str, context: &Context) -> Result<String, String> {
    let found = context.services.get(service).ok_or_else(|| format!("there is no Service {service}"))?;
    let address = found.address.as_deref().ok_or_else(|| format!("Service {service} has no address"))?;
    let port = found.ports.first().ok_or_else(|| format!("Service {service} has no port"))?;
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    Ok(format!("{address}:{port}"))
}

/// The Services whose addresses a fix needs, to be told from what is there already, or to be written.
pub fn services(remedial: &Remedial) -> BTreeSet<String> {
    let goals = match &remedial.fix.patch {
        Patch::Wait { goals, .. } => goals.as_slice(),
        _ => &[],
    };
    let written = goals.iter().filter_map(|goal| match goal {
        Goal::Tcp(address) => Some(address.as_str()),
        _ => None,
    });
    let sought = remedial.fix.detect.iter().flat_map(|form| match form {
        Form::InitContainer(words) => words.as_slice(),
        _ => &[],
    });
    let named = |text: &str| {
        let (kind, rest) = text.split_once("${")?.1.split_once(':')?;
        let (service, _) = rest.split_once('}')?;
        ["service", "address"].contains(&kind).then(|| service.to_owned())
    };
    written.chain(sought.map(String::as_str)).filter_map(named).collect()
}

/// The taint that belongs to the DaemonSet of a startup taint.
pub fn startup_taint(remedial: &Remedial) -> Result<String, String> {
    let Patch::StartupTaint { keys, .. } = &remedial.fix.patch else {
        return Err("it has no startup taint".to_owned());
    };
    let known = || keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = keys.get(&*remedial.daemonset.name).cloned();
    found.ok_or_else(|| {
        format!("{} is not known to take a startup taint away; those that do: {}", remedial.daemonset, known())
    })
}

fn tolerates(tolerations: &Value, key: &str, effect: &str) -> bool {
    let effect_of = |text: &str| match text {
        "NoExecute" => Some(TaintEffect::NoExecute),
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        _ => None,
    };
    let Some(wanted) = effect_of(effect) else { return false };
    // As the bootstrap is to write it.
    let taint = Taint { key: key.into(), value: Some("true".into()), effect: wanted };
    tolerations.as_array().into_iter().flatten().any(|toleration| {
        let text = |field: &str| toleration[field].as_str();
        let read = Toleration {
            key: text("key").map(Into::into),
            exists: text("operator") == Some("Exists"),
            value: text("value").map(Into::into),
            effect: text("effect").and_then(effect_of),
        };
        read.tolerates(&taint)
    })
}

/// The name of a fix's waiter: `fastnode-wait-aws-node`, `fastnode-wait-for`.
fn waiter_name(fix: &str) -> String {
    let of = fix.strip_suffix("-wait").or_else(|| fix.strip_prefix("wait-")).unwrap_or(fix);
    format!("{WAITER_PREFIX}-{of}")
}

/// What a goal needs of the container that waits for it.
fn waiters(
    remedial: &Remedial,
    manifest: &Value,
    goals: &[Goal],
    timeout: &str,
    context: &Context,
) -> Result<Vec<Place>, String> {
    let image = context.waiter.clone().unwrap_or_else(default_waiter);
    let mut places = Vec::new();
    for (number, goal) in goals.iter().enumerate() {
        let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let name = waiter_name(&remedial.fix.fix) + &suffix;
        let mut init = json!({
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["fastnode", "await"],
            "resources": { "requests": { "cpu": "5m", "memory": "16Mi" } },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true, "runAsUser": 65532 },
            // Why it started over is then in the pod's status.
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
        let words: Vec<String> = match goal {
            Goal::Tcp(address) if address.contains("${") => {
                vec!["tcp".into(), "--fixed".into(), filled(address, context)?]
            }
            Goal::Tcp(address) => vec!["tcp".into(), address.clone()],
            Goal::File(path) => {
                let folder = std::path::Path::new(path).parent().filter(|_| path.starts_with('/'));
                let folder = folder.ok_or_else(|| format!("the file {path:?} is no absolute path"))?;
                let volume = json!({ "name": name, "hostPath": { "path": folder, "type": "" } });
                places.push(at(manifest, Path::in_template("volumes").item(&name), volume));
                // Where the node keeps it, root alone may look; without any capability.
                init["securityContext"]["runAsUser"] = json!(0);
                init["volumeMounts"] = json!([{ "name": name, "mountPath": folder, "readOnly": true }]);
                vec!["file".into(), path.clone()]
            }
            Goal::Iptables(rule) => {
                init["securityContext"] = json!({ "allowPrivilegeEscalation": false, "runAsUser": 0,
                    "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] } });
                vec!["iptables".into(), rule.clone()]
            }
            Goal::NodeCondition(condition) => {
                init["env"] = json!([{ "name": "NODE_NAME",
                    "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } }]);
                vec!["condition".into(), condition.clone(), "--node".into(), "$(NODE_NAME)".into()]
            }
        };
        if let Some(command) = init["command"].as_array_mut() {
            command.extend(words.into_iter().chain(["--timeout".to_owned(), timeout.to_owned()]).map(Value::String));
        }
        places.push(at(manifest, Path::in_template("initContainers").item(&name), init));
    }
    Ok(places)
}

fn at(manifest: &Value, path: Path, after: Value) -> Place {
    Place { before: get(manifest, &path).cloned(), path, after }
}
