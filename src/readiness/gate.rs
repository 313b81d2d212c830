//! Which DaemonSets are gated: those without which a node only looks usable.

use crate::model::{DaemonSet, Labels};
use crate::policy::{Gate, Policy};

/// The priority class of what a node cannot do without.
const NODE_CRITICAL: &str = "system-node-critical";

/// Agents that make a node a node, as whole words of a DaemonSet's name: proxy, network, DNS, volumes,
/// identity, mesh, devices.
const AGENTS: [&str; 20] = [
    "kube-proxy",
    "aws-node",
    "node-local-dns",
    "nodelocaldns",
    "csi-node",
    "csi-driver",
    "pod-identity-agent",
    "kiam-agent",
    "calico-node",
    "cilium",
    "antrea-agent",
    "kube-router",
    "kube-flannel",
    "weave-net",
    "istio-cni",
    "istio-cni-node",
    "linkerd-cni",
    "ztunnel",
    "device-plugin",
    "gpu-feature-discovery",
];

/// What only ships logs or metrics, as whole words: never gated by `auto`, however critical it says it is.
const SHIPPERS: [&str; 14] = [
    "fluent-bit",
    "fluentbit",
    "fluentd",
    "filebeat",
    "promtail",
    "logstash",
    "vector",
    "alloy",
    "loki",
    "splunk",
    "cloudwatch-agent",
    "node-exporter",
    "otel-collector",
    "datadog",
];

/// Labels in which charts and manifests name what they install.
const NAME_LABELS: [&str; 3] = ["app.kubernetes.io/name", "k8s-app", "app"];

/// Whether a node waits for `set`'s pod, where the set should run there.
pub fn gated(policy: &Policy, set: &DaemonSet) -> bool {
    match &policy.gate {
        Gate::None => false,
        Gate::Named(names) => names.iter().any(|name| match name.split_once('/') {
            Some((namespace, name)) => *namespace == *set.key.namespace && *name == *set.key.name,
            None => **name == *set.key.name,
        }),
        Gate::Auto => {
            !called(set, &SHIPPERS) && (set.priority_class.as_deref() == Some(NODE_CRITICAL) || called(set, &AGENTS))
        }
    }
}

/// Whether the set's name, or what its labels call it, has one of `words` in it.
fn called(set: &DaemonSet, words: &[&str]) -> bool {
    has_any(&set.key.name, words) || labelled(&set.labels, words)
}

fn labelled(labels: &Labels, words: &[&str]) -> bool {
    NAME_LABELS.iter().filter_map(|key| labels.get(*key)).any(|value| has_any(value, words))
}

fn has_any(name: &str, words: &[&str]) -> bool {
    // Asked for every set whenever a node is judged.
    starts(name).any(|rest| words.iter().any(|word| begins_with(rest, word)))
}

/// Whether `word` is in `name` with dashes or the ends around it, so that `vector` is not found in `vectorized`.
pub(super) fn has_word(name: &str, word: &str) -> bool {
    starts(name).any(|rest| begins_with(rest, word))
}

/// What is left of `name` from each beginning of a word on.
fn starts(name: &str) -> impl Iterator<Item = &[u8]> {
    let name = name.as_bytes();
    let begins = |at: &usize| at.checked_sub(1).is_none_or(|before| !name[before].is_ascii_alphanumeric());
    (0..name.len()).filter(begins).map(|at| &name[at..])
}

fn begins_with(rest: &[u8], word: &str) -> bool {
    rest.strip_prefix(word.as_bytes()).is_some_and(|after| after.first().is_none_or(|b| !b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(has_word("logs-fluent-bit", "fluent-bit"));
        assert!(has_word("vector", "vector"));
        assert!(!has_word("vectorized-kernel", "vector"));
        assert!(has_word("nvidia-device-plugin-daemonset", "device-plugin"));
    }
}
