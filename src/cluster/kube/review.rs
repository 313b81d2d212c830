//! What we may do: SelfSubjectAccessReviews.

use serde::Deserialize;
use serde_json::{Value, json};

/// The API group of each resource fastnode uses; `""` is the core group.
fn group(resource: &str) -> &'static str {
    match resource {
        "daemonsets" | "controllerrevisions" | "deployments" | "replicasets" | "statefulsets" => "apps",
        "poddisruptionbudgets" => "policy",
        "csinodes" | "volumeattachments" => "storage.k8s.io",
        "leases" => "coordination.k8s.io",
        "events" => "events.k8s.io",
        _ => "",
    }
}

/// The review of one `(verb, resource, namespace)`; `pods/eviction` names a subresource.
pub(super) fn review(verb: &str, resource: &str, namespace: Option<&str>) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut attributes = json!({ "verb": verb, "group": group(resource), "resource": resource });
    if !subresource.is_empty() {
        attributes["subresource"] = json!(subresource);
    }
    if let Some(namespace) = namespace {
        attributes["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    })
}

/// Whether the answer allows it.
pub(super) fn allowed(json: &[u8]) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    struct Review {
        status: Answer,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        allowed: bool,
    }
    serde_json::from_slice::<Review>(json).map(|review| review.status.allowed)
}

/// A right as errors name it: `patch nodes`, `update leases in kube-system`.
pub(super) fn right(verb: &str, resource: &str, namespace: Option<&str>) -> String {
    match namespace {
        None => format!("{verb} {resource}"),
        Some(namespace) => format!("{verb} {resource} in {namespace}"),
    }
}
