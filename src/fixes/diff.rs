//! What a change is to a reader: the object as YAML, before and after.

use serde_json::{Map, Value, json};

/// Lines around a change.
const CONTEXT: usize = 3;

/// Annotations that the API server keeps for itself.
const KEPT_BY_THE_SERVER: [&str; 2] =
    ["deprecated.daemonset.template.generation", "kubectl.kubernetes.io/last-applied-configuration"];

/// A unified diff of two objects' labels, annotations and `spec`; empty where they are the same.
pub fn objects(name: &str, before: &Value, after: &Value) -> String {
    unified(name, &yaml(&essence(before)), &yaml(&essence(after)))
}

/// A unified diff of two values, as YAML.
pub fn values(name: &str, before: &Value, after: &Value) -> String {
    unified(name, &yaml(before), &yaml(after))
}

/// What somebody has written of an object, without what the server adds.
fn essence(object: &Value) -> Value {
    let mut annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| !KEPT_BY_THE_SERVER.contains(&key.as_str()));
    let mut metadata = Map::new();
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    if !object["metadata"]["labels"].is_null() {
        metadata.insert("labels".to_owned(), object["metadata"]["labels"].clone());
    }
    json!({ "metadata": metadata, "spec": object["spec"] })
}

fn yaml(value: &Value) -> String {
    if value.as_object().is_some_and(Map::is_empty) || value.is_null() {
        return String::new();
    }
    // A JSON value can always be written; its own text says the same otherwise.
    serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}\n"))
}

fn unified(name: &str, before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let diff = similar::TextDiff::from_lines(before, after);
    diff.unified_diff().context_radius(CONTEXT).header(name, name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_wrote_is_compared() {
        let before = json!({ "metadata": { "resourceVersion": "1", "managedFields": [1] }, "spec": { "a": ["x"] } });
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["status"] = json!({ "observedGeneration": 2 });
        assert_eq!(objects("d", &before, &after), "");
        after["spec"]["a"] = json!(["x", "--y=$(NODE_NAME)"]);
        assert_eq!(
            objects("d", &before, &after),
            "--- d\n+++ d\n@@ -2,3 +2,4 @@\n spec:\n   a:\n   - x\n+  - --y=$(NODE_NAME)\n"
        );
    }
}
