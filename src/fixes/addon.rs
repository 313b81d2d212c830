//! An add-on's configuration values: where its schema takes a variable, and the values with that in them. Pure.

use serde_json::{Map, Value, json};

/// The configuration values with a variable set at the first of `places` that the schema allows; `None` where it
/// allows none.
///
/// A place is `env.NAME`, an object's key, or `extraEnv[]`, a list of names and values.
///
/// # Errors
/// In words, if the present values are neither JSON nor YAML.
pub fn configured(
    schema: &Value,
    present: Option<&str>,
    places: &[String],
    (name, value): (&str, &str),
) -> Result<Option<Value>, String> {
    let present = read(present)?;
    for place in places {
        let (path, listed) = match place.strip_suffix("[]") {
            Some(path) => (path, true),
            None => (place.as_str(), false),
        };
        let steps: Vec<&str> = path.split('.').collect();
        let Some(leaf) = allowed(schema, schema, &steps) else { continue };
        let kind = if listed { "array" } else { "string" };
        if !is_of(schema, leaf, kind) {
            continue;
        }
        let mut values = present.clone();
        let at = steps.iter().fold(&mut values, |at, step| {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            &mut at[*step]
        });
        if listed {
            let mut list = at.as_array().cloned().unwrap_or_default();
            list.retain(|item| item["name"] != name);
            list.push(json!({ "name": name, "value": value }));
            *at = Value::Array(list);
        } else {
            *at = json!(value);
        }
        return Ok(Some(values));
    }
    Ok(None)
}

/// Configuration values as they were given: JSON or YAML; nothing is an empty object.
///
/// # Errors
/// In words, if they are neither, or no object.
pub fn read(values: Option<&str>) -> Result<Value, String> {
    let Some(text) = values.filter(|text| !text.trim().is_empty()) else { return Ok(json!({})) };
    let read: Value = serde_saphyr::from_str(text)
        .map_err(|error| format!("the add-on's configuration values are neither JSON nor YAML: {error}"))?;
    if read.is_object() { Ok(read) } else { Err("the add-on's configuration values are no object".to_owned()) }
}

/// The schema at a path; `None` where a closed object does not have it. `Null` is "anything".
fn allowed<'a>(root: &'a Value, schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let schema = resolved(root, schema);
    let Some((step, rest)) = path.split_first() else { return Some(schema) };
    if let Some(found) = schema["properties"].get(*step) {
        return allowed(root, found, rest);
    }
    match &schema["additionalProperties"] {
        Value::Bool(false) => None,
        open @ Value::Object(_) => allowed(root, open, rest),
        // A schema that lists what there is means it, whatever it forgets to forbid.
        _ if schema["properties"].is_object() => None,
        _ => Some(&Value::Null),
    }
}

/// `$ref` followed, as far as it leads inside the document.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut at = schema;
    // A circle of references is no type.
    for _ in 0..16 {
        let Some(pointer) = at["$ref"].as_str().and_then(|link| link.strip_prefix('#')) else { return at };
        match root.pointer(pointer) {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

fn is_of(root: &Value, schema: &Value, kind: &str) -> bool {
    let schema = resolved(root, schema);
    if let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        return choices.iter().any(|choice| is_of(root, choice, kind));
    }
    // Among a few words an address is none.
    if schema["enum"].is_array() {
        return false;
    }
    match &schema["type"] {
        Value::String(found) => found == kind,
        Value::Array(found) => found.iter().any(|found| found == kind),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [&str; 2] = ["env.CLUSTER_ENDPOINT", "extraEnv[]"];

    fn set(schema: &Value, present: Option<&str>) -> Result<Option<Value>, String> {
        let places = PLACES.map(str::to_owned);
        configured(schema, present, &places, ("CLUSTER_ENDPOINT", "https://a.test"))
    }

    /// As vpc-cni has it: a closed `Env` by reference, and a list beside it.
    fn closed(variables: &Value) -> Value {
        json!({ "type": "object", "additionalProperties": false,
            "properties": { "env": { "$ref": "#/definitions/Env" },
                "extraEnv": { "type": "array", "items": { "type": "object" } } },
            "definitions": { "Env": { "type": "object", "additionalProperties": false, "properties": variables } } })
    }

    #[test]
    fn present_values_are_merged_whether_json_or_yaml() {
        let schema = closed(&json!({ "CLUSTER_ENDPOINT": { "type": "string" }, "A": { "type": "string" } }));
        let expected = json!({ "env": { "A": "1", "CLUSTER_ENDPOINT": "https://a.test" }, "resources": {} });
        for present in [r#"{"env":{"A":"1"},"resources":{}}"#, "env:\n  A: \"1\"\nresources: {}\n"] {
            assert_eq!(set(&schema, Some(present)).unwrap().unwrap(), expected);
        }
        assert_eq!(set(&schema, None).unwrap().unwrap(), json!({ "env": { "CLUSTER_ENDPOINT": "https://a.test" } }));
    }

    #[test]
    fn a_closed_object_sends_the_variable_to_the_list() {
        let schema = closed(&json!({ "A": { "type": "string" } }));
        let present = r#"{"extraEnv":[{"name":"X","value":"1"},{"name":"CLUSTER_ENDPOINT","value":"old"}]}"#;
        let expected = json!({ "extraEnv": [{ "name": "X", "value": "1" },
            { "name": "CLUSTER_ENDPOINT", "value": "https://a.test" }] });
        assert_eq!(set(&schema, Some(present)).unwrap().unwrap(), expected);
    }

    #[test]
    fn a_schema_that_takes_it_nowhere_says_none() {
        let kube_proxy = json!({ "type": "object", "additionalProperties": false, "properties": {
            "mode": { "type": "string" }, "resources": { "type": "object" } } });
        assert_eq!(set(&kube_proxy, None), Ok(None));
        let words = closed(&json!({ "CLUSTER_ENDPOINT": { "enum": ["true", "false"] } }));
        assert!(set(&words, None).unwrap().unwrap()["env"].is_null(), "an address is not among the words");
        let circle = json!({ "$ref": "#" });
        assert!(set(&circle, None).is_ok());
    }

    #[test]
    fn values_that_cannot_be_read_are_named() {
        let schema = closed(&json!({}));
        assert!(set(&schema, Some("{")).unwrap_err().contains("neither JSON nor YAML"));
        assert!(set(&schema, Some("- a")).unwrap_err().contains("no object"));
    }
}
