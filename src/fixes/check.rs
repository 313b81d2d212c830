//! What the types of a fix's file alone do not say: refused when it is read, not when its pods crash. Pure.

use super::catalogue::{Fix, Form, Goal, Patch, Target};
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
    fix.detect.iter().try_for_each(form)?;
    patch(&fix.patch)
}

/// What is found in everything, or in nothing, tells nothing.
fn form(form: &Form) -> Result<(), String> {
    let filled = |key: &str, text: &str| match text.trim().is_empty() {
        true => Err(format!("detect.{key}: it is empty")),
        false => Ok(()),
    };
    match form {
        Form::Argument { name, field } => {
            filled("argument.field", field)?;
            match name.starts_with('-') {
                true => Ok(()),
                false => Err(format!("detect.argument.name: {name:?} does not begin with a dash")),
            }
        }
        Form::ConfigFile { config_map, key, field, .. } => {
            filled("config-file.key", key)?;
            filled("config-file.field", field)?;
            match config_map.contains('/') && is_name(config_map) {
                true => Ok(()),
                false => Err(format!("detect.config-file.config-map: {config_map:?} is not NAMESPACE/NAME")),
            }
        }
        Form::Env(name) => variable("detect.env", name),
        Form::EnvSince { name, image_at_least } => {
            variable("detect.env-since.name", name)?;
            match version(image_at_least) {
                Some(_) => Ok(()),
                None => {
                    Err(format!("detect.env-since.image-at-least: {image_at_least:?} is no version such as v1.12.1"))
                }
            }
        }
        Form::InitContainer(words) if words.is_empty() => Err("detect.init-container: it is empty".to_owned()),
        Form::InitContainer(words) => words.iter().try_for_each(|word| {
            filled("init-container", word)?;
            placeholders("detect.init-container", word)
        }),
    }
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
        Goal::Tcp(address) => tcp(address)?,
        Goal::File(path) => file(path)?,
        Goal::Iptables(rule) if rule.trim().is_empty() => return Err("patch.wait.for.iptables: it is empty".to_owned()),
        Goal::NodeCondition(condition) => {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            let bad = kind.is_empty() || kind.contains(char::is_whitespace);
            if bad || !["True", "False", "Unknown"].contains(&status) {
                let right = "TYPE, TYPE=True, TYPE=False or TYPE=Unknown";
                return Err(format!("patch.wait.for.node-condition: {condition:?} is not {right}"));
            }
        }
        Goal::Iptables(_) => {}
    }
    Ok(())
}

/// `HOST:PORT`, either of them a variable, the host a Service's address; or a Service with its own port.
fn tcp(address: &str) -> Result<(), String> {
    const KEY: &str = "patch.wait.for.tcp";
    placeholders(KEY, address)?;
    let wrong = |right: &str| Err(format!("{KEY}: {address:?} is not {right}"));
    if address.contains("${endpoint}") {
        return wrong("HOST:PORT: the endpoint is a URL");
    }
    if address.contains("${service:") {
        let alone = address.starts_with("${service:") && address.find('}') == Some(address.len() - 1);
        return if alone {
            Ok(())
        } else {
            wrong("${service:NAMESPACE/NAME}, which brings its port, and nothing more")
        };
    }
    let Some((host, port)) = address.rsplit_once(':') else { return wrong("HOST:PORT") };
    let named = |text: &str| {
        let name = text.strip_prefix("$(").and_then(|name| name.strip_suffix(')'));
        name.is_some_and(|name| variable(KEY, name).is_ok())
    };
    if !named(port) && port.parse::<u16>().ok().filter(|port| *port > 0).is_none() {
        return wrong("HOST:PORT with a PORT from 1 to 65535");
    }
    // Placeholders have been looked at.
    let service = host.starts_with("${address:") && host.find('}') == Some(host.len() - 1);
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    if service || named(host) || plain { Ok(()) } else { wrong("HOST:PORT: HOST is a name or an address") }
}

/// The file's folder on the node is mounted where it is: not the root of all, and nothing that a mount cannot name.
fn file(path: &str) -> Result<(), String> {
    let wrong = |right: &str| Err(format!("patch.wait.for.file: {path:?} {right}"));
    let Some(parts) = path.strip_prefix('/').filter(|rest| !rest.is_empty() && !rest.ends_with('/')) else {
        return wrong("is no absolute path of a file");
    };
    let parts: Vec<&str> = parts.split('/').collect();
    if parts.iter().any(|part| part.trim().is_empty() || [".", ".."].contains(part)) {
        return wrong("has a step that is empty, . or ..: write the path as it is");
    }
    if path.contains('$') || path.contains(':') || path.contains(char::is_control) {
        return wrong("cannot be mounted: no $, no colon, nothing is filled in");
    }
    if parts.len() < 2 {
        return wrong(
            "lies in the root of the node, all of which would be mounted: a file in a folder can be waited for",
        );
    }
    Ok(())
}

/// The places of a fix's file where one of several is to be named, and more are: in words that name the keys.
pub(super) fn several(file: &serde_json::Value) -> Option<String> {
    let lists = [("patch.wait.for", &file["patch"]["wait"]["for"]), ("detect", &file["detect"])];
    let items =
        lists.into_iter().flat_map(|(key, list)| list.as_array().into_iter().flatten().map(move |one| (key, one)));
    std::iter::once(("patch", &file["patch"])).chain(items).find_map(|(key, one)| {
        let keys: Vec<&str> = one.as_object()?.keys().map(String::as_str).collect();
        let right =
            if key == "patch" { "a fix makes one change" } else { "each is an item of its own, with its own dash" };
        (keys.len() > 1).then(|| format!("{key}: it has {} at once: {right}", keys.join(" and ")))
    })
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
