//! What the types of a fix's file alone do not say: refused when it is read, not when its pods crash. Pure.

use super::catalogue::{Fix, Goal, Patch, Target};
use super::detect::version;

/// Modes that kube-proxy has, or had.
const MODES: [&str; 5] = ["iptables", "ipvs", "nftables", "userspace", "kernelspace"];

/// What is wrong with a fix: the key, its value, and what would be right.
///
/// # Errors
/// The first thing that is.
pub(super) fn check(fix: &Fix) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if fix.fix.is_empty() || fix.fix.len() > 40 || !fix.fix.chars().all(plain) {
        return Err(format!("fix: {:?} is not 1 to 40 lower-case letters, digits and dashes", fix.fix));
    }
    for (key, text) in [("summary", &fix.summary), ("reason", &fix.reason)] {
        if text.trim().is_empty() {
            return Err(format!("{key}: it is empty"));
        }
    }
    target(&fix.target)?;
    duration("verify.sooner-by", &fix.verify.sooner_by)?;
    let when = &fix.applies_when;
    if let Some(mode) = when.proxy_modes.iter().find(|mode| !MODES.contains(&mode.as_str())) {
        return Err(format!("applies-when.proxy-modes: {mode:?} is none of {}", MODES.join(", ")));
    }
    if let Some(least) = when.image_at_least.as_ref().filter(|least| version(least).is_none()) {
        return Err(format!("applies-when.image-at-least: {least:?} is no version such as v1.12.1"));
    }
    patch(&fix.patch)
}

fn target(target: &Target) -> Result<(), String> {
    if target.daemonset == "any" || is_name(&target.daemonset) {
        return Ok(());
    }
    Err(format!("target.daemonset: {:?} is neither NAMESPACE/NAME nor any", target.daemonset))
}

/// Whether a text names a DaemonSet: `NAME`, or `NAMESPACE/NAME`, as Kubernetes allows it.
pub(super) fn is_name(text: &str) -> bool {
    let ends = |part: &str| part.starts_with(is_plain) && part.ends_with(is_plain);
    let named = |part: &str| ends(part) && part.chars().all(|c| is_plain(c) || c == '-' || c == '.');
    match text.split_once('/') {
        Some((namespace, name)) => named(namespace) && named(name),
        None => named(text),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn duration(key: &str, text: &str) -> Result<(), String> {
    match humantime::parse_duration(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{key}: {text:?} is not a duration such as 5s")),
    }
}

fn patch(patch: &Patch) -> Result<(), String> {
    match patch {
        Patch::Wait { goals, .. } if goals.is_empty() => Err("patch.wait.for: it is empty".to_owned()),
        Patch::Wait { goals, timeout } => {
            duration("patch.wait.timeout", timeout)?;
            if humantime::parse_duration(timeout).is_ok_and(|timeout| timeout.is_zero()) {
                return Err(format!("patch.wait.timeout: {timeout:?} leaves it no time"));
            }
            goals.iter().try_for_each(goal)
        }
        Patch::StartupTaint { effect, .. } if !["NoExecute", "NoSchedule"].contains(&effect.as_str()) => {
            Err(format!("patch.startup-taint.effect: {effect:?} is neither NoExecute nor NoSchedule"))
        }
        Patch::Argument { name, .. } if !name.starts_with('-') => {
            Err(format!("patch.argument.name: {name:?} does not begin with a dash"))
        }
        Patch::Argument { env, .. } => variable("patch.argument.env", env),
        Patch::Env { name, value, .. } => {
            variable("patch.env.name", name)?;
            placeholders("patch.env.value", value)
        }
        Patch::StartupTaint { .. } | Patch::AddonUpdate {} => Ok(()),
    }
}

/// As `$(NAME)` can name it.
fn variable(key: &str, name: &str) -> Result<(), String> {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Ok(());
    }
    Err(format!("{key}: {name:?} is no name of a variable such as NODE_NAME"))
}

/// What `fastnode await` would not wait for crash-loops whoever waits for it.
fn goal(goal: &Goal) -> Result<(), String> {
    match goal {
        Goal::Tcp(address) => {
            placeholders("patch.wait.for.tcp", address)?;
            let filled = address.contains("$(") || address.contains("${");
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
            if !filled && port.is_none() {
                return Err(format!("patch.wait.for.tcp: {address:?} is not HOST:PORT"));
            }
        }
        Goal::File(path) if !path.starts_with('/') || path.ends_with('/') => {
            return Err(format!("patch.wait.for.file: {path:?} is no absolute path of a file"));
        }
        Goal::Iptables(rule) if rule.trim().is_empty() => return Err("patch.wait.for.iptables: it is empty".to_owned()),
        Goal::NodeCondition(condition) => {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            if kind.is_empty() || !["True", "False", "Unknown"].contains(&status) {
                let right = "TYPE, TYPE=True, TYPE=False or TYPE=Unknown";
                return Err(format!("patch.wait.for.node-condition: {condition:?} is not {right}"));
            }
        }
        Goal::File(_) | Goal::Iptables(_) => {}
    }
    Ok(())
}

fn placeholders(key: &str, text: &str) -> Result<(), String> {
    for rest in text.split("${").skip(1) {
        let name = rest.split_once('}').map(|(name, _)| name);
        let known = match name.map(|name| name.split_once(':').ok_or(name)) {
            Some(Ok(("service" | "address", service))) => service.contains('/') && is_name(service),
            Some(Err("endpoint")) => true,
            _ => false,
        };
        if !known {
            let right = "${endpoint}, ${service:NAMESPACE/NAME}, ${address:NAMESPACE/NAME}";
            return Err(format!("{key}: {text:?} has another placeholder than {right}"));
        }
    }
    Ok(())
}
