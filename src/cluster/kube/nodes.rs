//! The PATCH that changes a Node.
//!
//! A JSON merge patch under our field manager, not a server-side apply: an apply states every field we own,
//! so a run that resumes, knowing only its next step, would take back labels that an earlier one set; and
//! `spec.unschedulable` would conflict with whoever else cordons. A merge patch names exactly the keys that
//! change and leaves everybody else's alone. `metadata.uid` in it is the precondition: the server refuses
//! another object of that name.
//!
//! `spec.taints` is the exception: an atomic list (`+listType=atomic` in k8s.io/api/core/v1), replaced as a
//! whole by every kind of patch. It is written back under the `resourceVersion` it was read at, with every
//! field of the others' taints, and read again if somebody was faster.

use serde_json::{Map, Value, json};

use crate::cluster::NodeChange;
use crate::cluster::slim::NodeState;
use crate::model::{Taint, TaintEffect, Text, Uid};

/// Whether `change` touches taints.
pub(super) fn touches_taints(change: &NodeChange) -> bool {
    change.add_taint.is_some() || change.remove_taint.is_some()
}

/// The body of the PATCH; `seen` is needed, and used, only where taints change.
pub(super) fn patch(uid: &Uid, change: &NodeChange, seen: Option<&NodeState>) -> Value {
    let mut metadata = Map::from_iter([("uid".to_owned(), json!(uid.as_str()))]);
    for (field, entries) in [("labels", &change.labels), ("annotations", &change.annotations)] {
        if !entries.is_empty() {
            // `null` removes a key.
            let entries = entries.iter().map(|(key, value): (&Text, &Option<Text>)| (key.to_string(), json!(value)));
            metadata.insert(field.to_owned(), Value::Object(entries.collect()));
        }
    }
    let mut spec = Map::new();
    if let Some(unschedulable) = change.unschedulable {
        // The taint that goes with it is the node lifecycle controller's to add and remove.
        spec.insert("unschedulable".to_owned(), json!(unschedulable));
    }
    if let Some(seen) = seen.filter(|_| touches_taints(change)) {
        metadata.insert("resourceVersion".to_owned(), json!(seen.version));
        spec.insert("taints".to_owned(), Value::Array(taints(&seen.taints, change)));
    }
    let mut body = Map::from_iter([("metadata".to_owned(), Value::Object(metadata))]);
    if !spec.is_empty() {
        body.insert("spec".to_owned(), Value::Object(spec));
    }
    Value::Object(body)
}

/// The list after the change, everybody else's taints as they were.
fn taints(before: &[Value], change: &NodeChange) -> Vec<Value> {
    let has_key = |taint: &Value, key: &str| taint.get("key").and_then(Value::as_str) == Some(key);
    let mut after = before.to_vec();
    if let Some(key) = &change.remove_taint {
        after.retain(|taint| !has_key(taint, key));
    }
    if let Some(add) = &change.add_taint {
        let new = taint_json(add);
        match after.iter_mut().find(|t| has_key(t, &add.key) && t.get("effect") == new.get("effect")) {
            Some(same) => *same = new,
            None => after.push(new),
        }
    }
    after
}

fn taint_json(taint: &Taint) -> Value {
    let effect = match taint.effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    };
    let mut json = json!({ "key": taint.key, "effect": effect });
    if let Some(value) = &taint.value {
        json["value"] = json!(value);
    }
    json
}
