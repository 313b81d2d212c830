//! Whether a target has a fix already, in whatever form, and whether the fix makes sense there. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::catalogue::{AppliesWhen, Form, Remedial};
use super::render;
use crate::cloud::addons::{Addon, AddonVersion};
use crate::cluster::manifests::ServiceRecord;
use crate::model::Text;

/// ConfigMaps in which kube-proxy's configuration is, and their keys: EKS's, kubeadm's.
pub const PROXY_CONFIGS: [(&str, &str); 2] =
    [("kube-system/kube-proxy-config", "config"), ("kube-system/kube-proxy", "config.conf")];

/// What is known of the cluster beside the DaemonSet itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The add-on, where EKS manages it.
    pub addon: Option<Addon>,
    /// The schema of its configuration values.
    pub schema: Option<Value>,
    /// Its versions for this cluster, newest first.
    pub versions: Vec<AddonVersion>,
    /// The cluster's endpoint.
    pub endpoint: Option<Text>,
    /// There is a kube-proxy.
    pub kube_proxy: bool,
    /// Data of the ConfigMaps that were asked for, by `namespace/name`.
    pub configs: BTreeMap<String, BTreeMap<String, String>>,
    /// The Services that were asked for, by `namespace/name`.
    pub services: BTreeMap<String, ServiceRecord>,
    /// The image of the waiter.
    pub waiter: Option<String>,
    /// What every node needs to be Ready at all, as far as it is there: DaemonSets and their tolerations.
    pub vital: Vec<(String, Value)>,
}

impl Context {
    /// kube-proxy's mode; iptables where its configuration says nothing.
    pub fn proxy_mode(&self) -> String {
        let mut modes = PROXY_CONFIGS.iter().filter_map(|(map, key)| top(self.configs.get(*map)?.get(*key)?, "mode"));
        modes.find(|mode| !mode.is_empty()).unwrap_or_else(|| "iptables".to_owned())
    }
}

/// A key at the top of a YAML file, as text.
fn top(file: &str, key: &str) -> Option<String> {
    let file: Value = serde_saphyr::from_str(file).ok()?;
    match &file[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The container a fix is about: the named one, else the first.
pub fn container<'a>(manifest: &'a Value, name: Option<&str>) -> Option<&'a Value> {
    let containers = manifest["spec"]["template"]["spec"]["containers"].as_array()?;
    match name {
        Some(name) => containers.iter().find(|container| container["name"] == name),
        None => containers.first(),
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Command and arguments, word by word: what a shell is given counts as its words.
pub fn words(container: &Value) -> Vec<String> {
    let all = texts(&container["command"]).chain(texts(&container["args"]));
    all.flat_map(|text| text.split_whitespace().map(|word| word.replace(['"', '\''], "")).collect::<Vec<_>>()).collect()
}

/// The value of `--name`: `--name=value`, or the word after it; also with one dash.
pub fn argument(container: &Value, name: &str) -> Option<String> {
    let bare = name.trim_start_matches('-');
    let words = words(container);
    words.iter().enumerate().find_map(|(i, word)| {
        let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?.strip_prefix(bare)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => Some(words.get(i + 1).cloned().unwrap_or_default()),
            None => None,
        }
    })
}

/// The name in `$(NAME)`, `${NAME}` or `$NAME`.
pub fn variable(value: &str) -> Option<&str> {
    let name = value.strip_prefix('$')?;
    let wrapped = name.strip_prefix('(').and_then(|n| n.strip_suffix(')'));
    let name = wrapped.or_else(|| name.strip_prefix('{').and_then(|n| n.strip_suffix('}'))).unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// The name of a variable that carries this field of the pod.
pub fn variable_of<'a>(container: &'a Value, field: &str) -> Option<&'a str> {
    let env = container["env"].as_array()?;
    let found = env.iter().find(|variable| variable["valueFrom"]["fieldRef"]["fieldPath"] == field)?;
    found["name"].as_str()
}

/// The value of a variable; empty where it comes from elsewhere.
pub fn env<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let found = container["env"].as_array()?.iter().find(|variable| variable["name"] == name)?;
    found["value"].as_str().or(Some(""))
}

/// The form in which the target has the fix already, in words.
pub fn present(remedial: &Remedial, manifest: &Value, context: &Context) -> Option<String> {
    let container = container(manifest, remedial.fix.target.container.as_deref())?;
    remedial.fix.detect.iter().find_map(|form| has(form, manifest, container, context))
}

fn has(form: &Form, manifest: &Value, container: &Value, context: &Context) -> Option<String> {
    match form {
        Form::Argument { name, field } => {
            let value = argument(container, name)?;
            let env = container["env"].as_array()?;
            let named = variable(&value)?;
            let from = env.iter().find(|v| v["name"] == named)?;
            (from["valueFrom"]["fieldRef"]["fieldPath"] == field.as_str())
                .then(|| format!("{name}={value}, from {field}"))
        }
        Form::ConfigFile { config_map, key, field, per_node } => {
            let value = top(context.configs.get(config_map)?.get(key)?, field).filter(|value| !value.is_empty())?;
            if *per_node && !is_per_node(&value) {
                return None;
            }
            Some(format!("{field}: {value} in {key} of ConfigMap {config_map}"))
        }
        Form::EnvSince { name, image_at_least } => {
            let found = image_version(container)?;
            let read = version(image_at_least).is_some_and(|least| found >= least);
            read.then(|| has(&Form::Env(name.clone()), manifest, container, context)).flatten()
        }
        Form::Env(name) => {
            let own = container["env"].as_array().into_iter().flatten().find(|v| v["name"] == name.as_str());
            // Its own variable counts, whatever a map has of the same name.
            let Some(own) = own else { return from_map(container, name, manifest, context) };
            let set = own["value"].as_str().is_some_and(|value| !value.is_empty()) || own["valueFrom"].is_object();
            set.then(|| format!("{name} is set"))
        }
        Form::InitContainer(wanted) => {
            // What is not known cannot be waited for.
            let filled = |word: &String| Ok::<_, String>((render::filled(word, context)?, word.contains("${")));
            let wanted: Vec<(String, bool)> = wanted.iter().map(filled).collect::<Result<_, _>>().ok()?;
            let inits = manifest["spec"]["template"]["spec"]["initContainers"].as_array()?;
            let found = inits.iter().find(|init| {
                let said = words(init).join(" ");
                wanted.iter().all(|(word, whole)| if *whole { is_in(word, &said) } else { said.contains(word) })
            })?;
            Some(format!("init container {}", found["name"].as_str().unwrap_or("without a name")))
        }
    }
}

/// Whether a value in a file that all nodes share can be another on each: something fills it in there.
pub fn is_per_node(value: &str) -> bool {
    value.contains('$') || value.contains("{{")
}

/// Whether an address is in a text, and is not the beginning or the end of another.
fn is_in(address: &str, text: &str) -> bool {
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + address.len()..].chars();
        let goes_on = match after.next() {
            Some('.') => after.next().is_some_and(|c| c.is_ascii_alphanumeric()),
            next => next.is_some_and(|c| c.is_ascii_alphanumeric()),
        };
        !goes_on && !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.')
    })
}

/// The version that the tag of a container's image tells.
fn image_version(container: &Value) -> Option<[u32; 4]> {
    version(container["image"].as_str()?.rsplit_once(':')?.1)
}

/// A variable that a ConfigMap as a whole brings.
fn from_map(container: &Value, name: &str, manifest: &Value, context: &Context) -> Option<String> {
    env_maps(container, manifest).into_iter().find_map(|(map, prefix)| {
        let value = context.configs.get(&map)?.get(name.strip_prefix(prefix.as_str())?)?;
        (!value.is_empty()).then(|| format!("{name} is set by ConfigMap {map}"))
    })
}

/// The ConfigMaps whose keys are variables of a container, each with the prefix that it puts before them.
pub fn env_maps(container: &Value, manifest: &Value) -> Vec<(String, String)> {
    let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or_default();
    let sources = container["envFrom"].as_array().into_iter().flatten();
    let maps = sources.filter_map(|source| {
        let map = source["configMapRef"]["name"].as_str()?;
        Some((format!("{namespace}/{map}"), source["prefix"].as_str().unwrap_or_default().to_owned()))
    });
    maps.collect()
}

/// Why a fix makes no sense here; `None` where it does.
pub fn unfit(remedial: &Remedial, manifest: &Value, context: &Context) -> Option<String> {
    let AppliesWhen { kube_proxy, proxy_modes, image_at_least, host_network } = &remedial.fix.applies_when;
    let named = remedial.fix.target.container.as_deref();
    let Some(container) = container(manifest, named) else {
        return Some(format!("{} has no container {}", remedial.daemonset, named.unwrap_or("at all")));
    };
    match kube_proxy {
        Some(true) if !context.kube_proxy => {
            return Some("there is no kube-proxy here: something else makes Services reachable".to_owned());
        }
        Some(false) if context.kube_proxy => return Some("it is for clusters without kube-proxy".to_owned()),
        _ => {}
    }
    let mode = context.proxy_mode();
    if !proxy_modes.is_empty() && !proxy_modes.contains(&mode) {
        return Some(format!("kube-proxy works in {mode} mode, and it is for {}", proxy_modes.join(", ")));
    }
    let on_host = manifest["spec"]["template"]["spec"]["hostNetwork"] == true;
    if host_network.is_some_and(|wanted| wanted != on_host) {
        let which = if on_host { "on the host's network" } else { "on a network of their own" };
        return Some(format!("its pods are {which}"));
    }
    if let Some(least) = image_at_least {
        let image = container["image"].as_str().unwrap_or_default();
        match image_version(container) {
            None => return Some(format!("the image {image} does not tell its version, and {least} is needed")),
            Some(found) if Some(found) < version(least) => {
                return Some(format!("the image {image} is older than {least}"));
            }
            Some(_) => {}
        }
    }
    None
}

/// `v1.20.4-eksbuild.2` as numbers to compare; the build is the fourth.
pub fn version(text: &str) -> Option<[u32; 4]> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (numbers, build) = text.split_once("-eksbuild.").unwrap_or((text.split('-').next()?, "0"));
    let mut found = [0; 4];
    let mut parts = numbers.split('.');
    for place in found.iter_mut().take(3) {
        *place = match parts.next() {
            Some(part) => part.parse().ok()?,
            None => 0,
        };
    }
    *found.last_mut()? = build.split('.').next()?.parse().ok()?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixes::Catalogue;

    fn proxy(container: Value) -> Value {
        let mut container = container;
        container["name"] = json!("kube-proxy");
        json!({ "spec": { "template": { "spec": { "containers": [container] } } } })
    }

    fn node_name(variable: &str) -> Value {
        json!([{ "name": variable, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } }])
    }

    fn override_in(manifest: &Value, context: &Context) -> Option<String> {
        present(&Catalogue::shipped().unwrap().find("kube-proxy-hostname-override").unwrap(), manifest, context)
    }

    #[test]
    fn an_override_is_seen_in_every_equivalent_form() {
        let forms = [
            json!({ "command": ["kube-proxy", "--hostname-override=$(NODE_NAME)"], "env": node_name("NODE_NAME") }),
            json!({ "command": ["kube-proxy", "--hostname-override", "$(NODE_NAME)"], "env": node_name("NODE_NAME") }),
            json!({ "command": ["kube-proxy"], "args": ["--hostname-override=$(MY_NODE)"], "env": node_name("MY_NODE") }),
            json!({ "args": ["--v=2", "--hostname-override", "$(MY_NODE)"], "env": node_name("MY_NODE") }),
            json!({ "command": ["/bin/sh", "-c", "exec kube-proxy --hostname-override=\"${NODE_NAME}\" --v=2"],
                "env": node_name("NODE_NAME") }),
        ];
        for form in forms {
            assert!(override_in(&proxy(form.clone()), &Context::default()).is_some(), "{form}");
        }
        let file =
            BTreeMap::from([("config".to_owned(), "mode: iptables\nhostnameOverride: $(NODE_NAME)\n".to_owned())]);
        let configs = BTreeMap::from([("kube-system/kube-proxy-config".to_owned(), file)]);
        let context = Context { configs, ..Context::default() };
        let told = override_in(&proxy(json!({ "command": ["kube-proxy"] })), &context).unwrap();
        assert!(told.contains("hostnameOverride: $(NODE_NAME)"), "{told}");
    }

    #[test]
    fn what_only_looks_like_an_override_is_none() {
        let lookalikes = [
            json!({ "command": ["kube-proxy", "--v=2"], "env": node_name("NODE_NAME") }),
            json!({ "command": ["kube-proxy", "--hostname-override=$(NODE_NAME)"] }),
            json!({ "command": ["kube-proxy", "--hostname-override=$(NODE_NAME)"],
                "env": [{ "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "status.hostIP" } } }] }),
            json!({ "command": ["kube-proxy", "--hostname-override-not=$(NODE_NAME)"], "env": node_name("NODE_NAME") }),
            json!({ "command": ["kube-proxy", "--hostname-override="], "env": node_name("NODE_NAME") }),
        ];
        for form in lookalikes {
            assert_eq!(override_in(&proxy(form.clone()), &Context::default()), None, "{form}");
        }
        // One name for all nodes is the name of none but one.
        for value in ["\"\"", "x", "ip-10-0-1-7.us-west-2.compute.internal"] {
            let file = BTreeMap::from([("config".to_owned(), format!("hostnameOverride: {value}\n"))]);
            let configs = BTreeMap::from([("kube-system/kube-proxy-config".to_owned(), file)]);
            let context = Context { configs, ..Context::default() };
            assert_eq!(override_in(&proxy(json!({ "command": ["kube-proxy"] })), &context), None, "{value}");
        }
    }

    fn aws_node(image: &str) -> Value {
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "aws-node", "image": image }] } } } })
    }

    #[test]
    fn a_waiter_of_another_hand_is_seen() {
        let wait = Catalogue::shipped().unwrap().find("aws-node-wait").unwrap();
        let mut manifest = aws_node("cni:v1.20.4");
        manifest["spec"]["template"]["spec"]["initContainers"] = json!([{ "name": "aws-vpc-cni-init" },
            { "name": "wait", "command": ["sh", "-c", "until nc -z $KUBERNETES_SERVICE_HOST 443; do sleep 1; done"] }]);
        assert_eq!(present(&wait, &manifest, &Context::default()).as_deref(), Some("init container wait"));
        manifest["spec"]["template"]["spec"]["initContainers"][1]["command"] = json!(["sh", "-c", "sleep 5"]);
        assert_eq!(present(&wait, &manifest, &Context::default()), None);
    }

    #[test]
    fn a_waiter_for_something_else_is_none() {
        let service = ServiceRecord { address: Some("172.20.0.1".into()), ports: vec![443] };
        let services = BTreeMap::from([("default/kubernetes".to_owned(), service)]);
        let context = Context { services, ..Context::default() };
        let seen = |fix: &str, what: &str| {
            let mut manifest = aws_node("cni:v1.20.4");
            manifest["spec"]["template"]["spec"]["initContainers"] =
                json!([{ "name": "wait", "command": ["fastnode", "await", "tcp", what] }]);
            present(&Catalogue::shipped().unwrap().find(fix).unwrap(), &manifest, &context).is_some()
        };
        for fix in ["aws-node-wait", "aws-node-wait-address", "wait-for:aws-node"] {
            for what in ["redis:6379", "172.20.0.10:53", "10.172.20.0.1:443", "172.20.0.1.5:443"] {
                assert!(!seen(fix, what), "{fix}, {what}");
            }
            for what in ["172.20.0.1:443", "[172.20.0.1]:443", "$(KUBERNETES_SERVICE_HOST):443"] {
                assert!(seen(fix, what), "{fix}, {what}");
            }
        }
    }

    #[test]
    fn a_variable_that_the_image_is_too_old_to_read_is_not_there() {
        let wait = Catalogue::shipped().unwrap().find("aws-node-wait").unwrap();
        let seen = |image: &str| {
            let mut manifest = aws_node(image);
            manifest["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{ "name": "CLUSTER_ENDPOINT", "value": "https://example.eks.amazonaws.com" }]);
            present(&wait, &manifest, &Context::default()).is_some()
        };
        assert!(seen("cni:v1.12.1-eksbuild.1") && seen("registry:5000/cni:v1.20.4"));
        assert!(!seen("cni:v1.7.10-eksbuild.1") && !seen("cni:v1.11.4") && !seen("cni@sha256:abc"));
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let all = Catalogue::shipped().unwrap();
        let (wait, endpoint) = (all.find("aws-node-wait").unwrap(), all.find("cluster-endpoint").unwrap());
        let why = |fix, image: &str, context: &Context| unfit(fix, &aws_node(image), context);
        assert!(why(&wait, "cni:v1.20.4", &Context::default()).unwrap().contains("no kube-proxy"));
        let with_proxy = Context { kube_proxy: true, ..Context::default() };
        assert_eq!(why(&wait, "cni:v1.20.4", &with_proxy), None);
        assert!(why(&endpoint, "cni:v1.11.4-eksbuild.1", &with_proxy).unwrap().contains("older than v1.12.1"));
        assert!(why(&endpoint, "cni@sha256:abc", &with_proxy).unwrap().contains("does not tell its version"));
        assert_eq!(why(&endpoint, "registry:5000/cni:v1.12.1-eksbuild.2", &with_proxy), None);
        let empty = json!({ "spec": { "template": { "spec": { "containers": [] } } } });
        assert!(unfit(&wait, &empty, &with_proxy).unwrap().contains("no container aws-node"));
    }

    #[test]
    fn versions_compare_by_number_and_build() {
        assert!(version("v1.9.0") < version("v1.20.0"));
        assert!(version("v1.20.0-eksbuild.2") > version("v1.20.0-eksbuild.1"));
        assert_eq!(version("latest"), None);
    }
}
