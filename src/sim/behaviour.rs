//! What the pod of a DaemonSet does, read from the manifest it was made from.
//!
//! This reading is the simulator's own, shared with nothing that diagnoses or mends: it knows what programs do, not
//! what fastnode looks for.

use serde_json::Value;

use crate::model::Text;

use super::scenario::DaemonSpec;

/// What a container of a pod does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Role {
    /// Its name.
    pub(super) name: Text,
    /// It is an init container.
    pub(super) init: bool,
    /// What it does.
    pub(super) act: Act,
}

/// What runs in a container.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// An init container that has done its work as soon as it runs.
    Prepares,
    /// An init container that waits.
    Waits(Wait),
    /// A program that the image does not hold: it never starts.
    Missing,
    /// The DaemonSet's work.
    Works(Work),
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The Services' rules, by connecting to the address in `KUBERNETES_SERVICE_HOST`.
    Variable,
    /// The Services' rules, by connecting to a fixed address.
    Address,
    /// The Services' rules, by looking at them.
    Rules,
    /// What the network's agent brings.
    Network,
    /// What the DaemonSet itself needs.
    Need,
}

impl Wait {
    /// From one look to the next, seconds: a connection into nothing takes its 3 s to fail, and a second goes by.
    pub(super) const fn every(self) -> f64 {
        match self {
            Self::Variable | Self::Address => 4.0,
            Self::Rules | Self::Network | Self::Need => 1.0,
        }
    }
}

/// The DaemonSet's work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// How it looks its Node up.
    pub(super) lookup: Lookup,
    /// What it does when it starts without what it needs.
    pub(super) without: Without,
}

/// How a program looks its Node up under its host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It does not, or under the Node's name.
    Right,
    /// kube-proxy up to 1.33: six tries with 1, 2, 4, 8 and 16 s between them, each up to a fifth longer.
    Sleeps,
    /// kube-proxy since 1.34: a try a second, 30 s long.
    Polls,
}

/// What a program does without what it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Without {
    /// It needs nothing.
    Works,
    /// It exits after its time-out; dialling anew so often meanwhile (seconds), or hanging on its first dial.
    Exits(Option<f64>),
    /// It tries again for ever, every so many seconds.
    Retries(f64),
    /// It tries again every so many seconds, and goes on without after the second number of them.
    GoesOn(f64, f64),
}

/// `(1, 21)` of `v1.21.2-eksbuild.2`.
pub(super) fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn texts<'a>(container: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    container[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn image(container: &Value) -> &str {
    container["image"].as_str().unwrap_or_default()
}

fn tag(container: &Value) -> Option<(u32, u32)> {
    minor(image(container).rsplit_once(':')?.1)
}

/// The containers' roles, init containers first, in the order in which they run.
pub(super) fn roles(manifest: &Value, spec: &DaemonSpec, other_host_names: bool) -> Vec<Role> {
    let pod = &manifest["spec"]["template"]["spec"];
    let listed = |key: &str| pod[key].as_array().into_iter().flatten();
    let role = |container: &Value, init, act| {
        let name = container["name"].as_str().unwrap_or_default().into();
        Role { name, init, act }
    };
    let inits = listed("initContainers").map(|c| role(c, true, preparation(c)));
    let works = listed("containers").map(|c| {
        let lookup = if other_host_names { lookup(c) } else { Lookup::Right };
        role(c, false, Act::Works(Work { lookup, without: without(c, spec) }))
    });
    inits.chain(works).collect()
}

fn preparation(container: &Value) -> Act {
    let words: Vec<&str> = texts(container, "command").chain(texts(container, "args")).collect();
    let program = texts(container, "command").next().unwrap_or_default();
    // The EKS images of kube-proxy and aws-node hold no shell.
    if ["amazon-k8s-cni", "/kube-proxy"].iter().any(|i| image(container).contains(i)) && program.ends_with("sh") {
        return Act::Missing;
    }
    let Some(at) = words.iter().position(|w| *w == "await") else { return Act::Prepares };
    let rest = || words[at + 1..].iter();
    let kind = rest().find(|w| ["tcp", "file", "iptables", "condition"].contains(w)).copied();
    let names = |text: &str| rest().any(|w| w.contains(text));
    Act::Waits(match kind {
        Some("tcp") if names("KUBERNETES_SERVICE_HOST") => Wait::Variable,
        Some("tcp") if names("127.0.0.1") || names("localhost") => Wait::Network,
        Some("tcp") => Wait::Address,
        Some("iptables") => Wait::Rules,
        Some("condition") => Wait::Network,
        Some("file") if names("/etc/cni/") || names("10-aws") => Wait::Network,
        _ => Wait::Need,
    })
}

fn lookup(container: &Value) -> Lookup {
    let words: Vec<&str> = texts(container, "command").chain(texts(container, "args")).collect();
    if !words.first().is_some_and(|w| w.ends_with("kube-proxy")) {
        return Lookup::Right;
    }
    let values = words.iter().zip(words.iter().skip(1).map(Some).chain([None])).filter_map(|(word, next)| {
        let rest = word.strip_prefix("--hostname-override")?;
        rest.strip_prefix('=').or_else(|| next.filter(|_| rest.is_empty()).copied())
    });
    let by_the_node = |variable: &&str| {
        let name = variable.strip_prefix("$(").and_then(|v| v.strip_suffix(')'));
        let all = container["env"].as_array();
        all.into_iter()
            .flatten()
            .filter(|e| e["name"].as_str() == name)
            .any(|e| e["valueFrom"]["fieldRef"]["fieldPath"].as_str() == Some("spec.nodeName"))
    };
    match (values.last().filter(by_the_node), tag(container)) {
        (Some(_), _) => Lookup::Right,
        (None, Some(version)) if version >= (1, 34) => Lookup::Polls,
        (None, _) => Lookup::Sleeps,
    }
}

fn without(container: &Value, spec: &DaemonSpec) -> Without {
    if spec.needs.is_none() {
        return Without::Works;
    }
    if !image(container).contains("amazon-k8s-cni") {
        return Without::Exits(spec.redial_s);
    }
    let endpoint =
        container["env"].as_array().into_iter().flatten().any(|e| {
            e["name"].as_str() == Some("CLUSTER_ENDPOINT") && e["value"].as_str().is_some_and(|v| !v.is_empty())
        });
    match tag(container) {
        // It speaks to the API server's own address, past the Services.
        Some(version) if endpoint && version >= (1, 12) => Without::Works,
        Some(version) if version >= (1, 20) => Without::GoesOn(2.0, 30.0),
        Some(version) if version >= (1, 11) => Without::Retries(2.0),
        _ => Without::Exits(spec.redial_s),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn roles_of(pod: Value, spec: &DaemonSpec) -> Vec<Act> {
        let manifest = json!({ "spec": { "template": { "spec": pod } } });
        roles(&manifest, spec, true).into_iter().map(|r| r.act).collect()
    }

    fn proxy(tag: &str, words: &[&str], path: &str) -> Lookup {
        let variable = json!({ "name": "HOST", "valueFrom": { "fieldRef": { "fieldPath": path } } });
        let pod = json!({ "containers": [
            { "name": "kube-proxy", "image": format!("eks/kube-proxy:{tag}"), "command": words, "env": [variable] },
        ] });
        match roles_of(pod, &DaemonSpec::named("kube-proxy"))[..] {
            [Act::Works(work)] => work.lookup,
            _ => unreachable!("one container works"),
        }
    }

    #[test]
    fn the_override_is_found_in_any_form_and_only_where_it_gives_the_nodes_name() {
        let name = "spec.nodeName";
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--v=2"], name), Lookup::Sleeps);
        assert_eq!(proxy("v1.34.0", &["kube-proxy", "--v=2"], name), Lookup::Polls);
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--hostname-override=$(HOST)"], name), Lookup::Right);
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--hostname-override", "$(HOST)"], name), Lookup::Right);
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--hostname-override=$(OTHER)"], name), Lookup::Sleeps);
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--hostname-override=$(HOST)"], "status.hostIP"), Lookup::Sleeps);
        assert_eq!(proxy("v1.21.2", &["kube-proxy", "--hostname-override=ip-10-0-0-1"], name), Lookup::Sleeps);
    }

    #[test]
    fn what_aws_node_does_without_the_api_server_is_its_versions() {
        let spec = DaemonSpec { needs: Some("kube-proxy".to_owned()), ..DaemonSpec::named("aws-node") };
        let act = |tag: &str, env: Value| {
            let container = json!({ "name": "aws-node", "image": format!("eks/amazon-k8s-cni:{tag}"), "env": env });
            match roles_of(json!({ "containers": [container] }), &spec)[..] {
                [Act::Works(work)] => work.without,
                _ => unreachable!("one container works"),
            }
        };
        assert_eq!(act("v1.7.10-eksbuild.1", json!([])), Without::Exits(None));
        assert_eq!(act("v1.11.0-eksbuild.1", json!([])), Without::Retries(2.0));
        assert_eq!(act("v1.20.4-eksbuild.2", json!([])), Without::GoesOn(2.0, 30.0));
        let endpoint = json!([{ "name": "CLUSTER_ENDPOINT", "value": "https://x.gr7.us-west-2.eks.amazonaws.com" }]);
        assert_eq!(act("v1.12.6-eksbuild.1", endpoint.clone()), Without::Works);
        assert_eq!(act("v1.7.10-eksbuild.1", endpoint), Without::Exits(None));
    }

    #[test]
    fn a_waiter_is_what_runs_await_and_a_shell_in_an_image_without_one_never_starts() {
        let act = |container: Value| {
            let pod = json!({ "initContainers": [container], "containers": [] });
            roles_of(pod, &DaemonSpec::named("aws-node")).remove(0)
        };
        let args = |args: &[&str]| json!({ "name": "w", "image": "fastnode:0.1.0", "args": args });
        let by_variable = ["await", "tcp", "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"];
        assert_eq!(act(args(&by_variable)), Act::Waits(Wait::Variable));
        assert_eq!(act(args(&["await", "tcp", "172.20.0.1:443"])), Act::Waits(Wait::Address));
        assert_eq!(act(args(&["await", "iptables", "KUBE-SERVICES"])), Act::Waits(Wait::Rules));
        assert_eq!(act(args(&["await", "file", "/etc/cni/net.d/10-aws.conflist"])), Act::Waits(Wait::Network));
        assert_eq!(act(json!({ "name": "i", "image": "eks/amazon-k8s-cni-init:v1.20.4" })), Act::Prepares);
        let shell = json!({ "name": "i", "image": "eks/amazon-k8s-cni:v1.20.4", "command": ["sh", "-c", "sleep 1"] });
        assert_eq!(act(shell), Act::Missing);
    }
}
