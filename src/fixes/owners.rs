//! Who owns what of an object: `managedFields`, and Helm's marks.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>: an entry's `fieldsV1` is a tree of
//! `f:<field>` and `k:<keys of a list's item as JSON>`; a list without keys (`command`) is one leaf.

use serde_json::Value;

use super::place::{Path, Step};
use crate::cluster::manifests::FIELD_MANAGER;

/// A manager of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `eks`, `helm`, `kubectl-client-side-apply`, `argocd-controller`, …
    pub manager: String,
    /// It applies (server-side): what it owns it will set again.
    pub applies: bool,
}

/// Everybody but us who owns the path or something below it.
pub fn owners(object: &Value, path: &Path) -> Vec<Owner> {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let others = entries.iter().filter(|entry| entry["manager"] != FIELD_MANAGER && entry["subresource"].is_null());
    let owning = others.filter(|entry| path.0.iter().try_fold(&entry["fieldsV1"], below).is_some());
    owning
        .map(|entry| Owner {
            manager: entry["manager"].as_str().unwrap_or("unknown").to_owned(),
            applies: entry["operation"] == "Apply",
        })
        .collect()
}

fn below<'a>(tree: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Field(name) => tree.get(format!("f:{name}")),
        Step::Item(name) => tree.as_object()?.iter().find_map(|(key, tree)| {
            let keys: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            (keys["name"] == name.as_str()).then_some(tree)
        }),
    }
}

/// The place of our own entry of `managedFields` for what was not applied, and whether it is all that we have.
pub fn own_update(object: &Value) -> Option<usize> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    entries.iter().position(|entry| {
        entry["manager"] == FIELD_MANAGER && entry["operation"] == "Update" && entry["subresource"].is_null()
    })
}

/// The Helm release (`namespace/name`) that the object belongs to.
pub fn helm_release(object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    let annotation = |name: &str| metadata["annotations"][name].as_str();
    let release = annotation("meta.helm.sh/release-name");
    let managed = metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm";
    match (release, managed) {
        (Some(name), true) => {
            let namespace = annotation("meta.helm.sh/release-namespace").or_else(|| metadata["namespace"].as_str());
            Some(format!("{}/{name}", namespace.unwrap_or("default")))
        }
        // EKS renders its add-ons from charts and leaves their labels on: the annotation alone tells a release.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command() -> Path {
        Path::in_template("containers").item("kube-proxy").field("command")
    }

    fn object() -> Value {
        let fields = |field: &str| {
            json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": {
                "k:{\"name\":\"kube-proxy\"}": { ".": {}, field: {} } } } } } })
        };
        json!({ "metadata": { "managedFields": [
            { "manager": "eks", "operation": "Apply", "fieldsV1": fields("f:command") },
            { "manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields("f:image") },
            { "manager": "fastnode", "operation": "Update", "fieldsV1": fields("f:command") },
            { "manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
              "fieldsV1": fields("f:command") },
        ] } })
    }

    #[test]
    fn the_owner_of_a_list_is_found_and_we_are_not_among_the_others() {
        assert_eq!(owners(&object(), &command()), [Owner { manager: "eks".into(), applies: true }]);
        assert_eq!(own_update(&object()), Some(2));
    }

    #[test]
    fn whoever_owns_something_below_owns_it_too() {
        let container = Path::in_template("containers").item("kube-proxy");
        assert_eq!(owners(&object(), &container).len(), 2);
        assert!(owners(&object(), &container.field("env")).is_empty());
    }

    #[test]
    fn a_release_needs_both_of_helms_marks() {
        let mut object = json!({ "metadata": { "namespace": "kube-system",
            "labels": { "app.kubernetes.io/managed-by": "Helm" } } });
        assert_eq!(helm_release(&object), None, "an EKS add-on, rendered from a chart");
        object["metadata"]["annotations"] = json!({ "meta.helm.sh/release-name": "cni" });
        assert_eq!(helm_release(&object).as_deref(), Some("kube-system/cni"));
    }
}
