//! Who owns which field of an object, as server-side apply keeps it: by leaf, items of keyed lists by their key.
//!
//! Enough of it for DaemonSets: maps are merged, lists of containers, variables, volumes and ports by their keys, every
//! other list is one leaf. See <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

/// A step from a value to one in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A field of a map.
    Field(String),
    /// The item of a keyed list, by its key fields as JSON text.
    Item(String),
}

/// Where a leaf is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Step>);

impl fmt::Display for Path {
    /// As the API server writes it: `.spec.template.spec.containers[name="kube-proxy"].command`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(keys) => {
                    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                    let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    write!(f, "[{}]", keys.join(","))?;
                }
            }
        }
        Ok(())
    }
}

/// Who wrote a field, and by which operation (`Apply` or `Update`).
pub(super) type Manager = (String, &'static str);

/// The owners of every leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(BTreeMap<Path, BTreeSet<Manager>>);

/// A field that another manager owns, with another value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) manager: Manager,
    pub(super) path: Path,
}

/// The key fields of a list's items; `None` where the list is one leaf.
fn keys_of(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => Some(&["name"]),
        "volumeMounts" => Some(&["mountPath"]),
        "ports" => Some(&["containerPort", "protocol"]),
        _ => None,
    }
}

/// Maps that are one leaf.
const WHOLE: [&str; 4] = ["selector", "fieldRef", "requiredDuringSchedulingIgnoredDuringExecution", "resources"];

/// What the server alone writes.
const SERVERS: [&str; 7] =
    ["name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"];

fn item_key(item: &Value, keys: &[&str]) -> String {
    let taken = keys.iter().filter_map(|k| item.get(*k).map(|v| ((*k).to_owned(), v.clone())));
    Value::Object(taken.collect()).to_string()
}

fn flatten(value: &Value, path: &mut Vec<Step>, into: &mut BTreeMap<Path, Value>) {
    let name = match path.last() {
        Some(Step::Field(name)) => name.clone(),
        _ => String::new(),
    };
    match value {
        Value::Object(map) if !map.is_empty() && !WHOLE.contains(&name.as_str()) => {
            for (key, value) in map {
                let top = path.is_empty() && ["apiVersion", "kind", "status"].contains(&key.as_str());
                let servers = *path == [Step::Field("metadata".to_owned())] && SERVERS.contains(&key.as_str());
                if top || servers {
                    continue;
                }
                path.push(Step::Field(key.clone()));
                flatten(value, path, into);
                path.pop();
            }
        }
        Value::Array(items) if keys_of(&name).is_some() => {
            let keys = keys_of(&name).unwrap_or_default();
            for item in items {
                path.push(Step::Item(item_key(item, keys)));
                into.insert(Path(path.clone()), Value::Null);
                flatten(item, path, into);
                path.pop();
            }
        }
        leaf if !path.is_empty() => {
            into.insert(Path(path.clone()), leaf.clone());
        }
        _ => {}
    }
}

/// The leaves of an object, keyed items among them (as null).
fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut into = BTreeMap::new();
    flatten(object, &mut Vec::new(), &mut into);
    into
}

fn item_at<'a>(list: &'a mut [Value], keys: &str) -> Option<(usize, &'a mut Value)> {
    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
    list.iter_mut().enumerate().find(|(_, item)| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

/// Writes a leaf; a keyed item that is not there is appended.
fn set(object: &mut Value, path: &[Step], leaf: &Value) {
    let Some((step, rest)) = path.split_first() else {
        if !leaf.is_null() {
            *object = leaf.clone();
        }
        return;
    };
    match step {
        Step::Field(name) => {
            if !object.is_object() {
                *object = json!({});
            }
            let empty = if matches!(rest.first(), Some(Step::Item(_))) { json!([]) } else { Value::Null };
            if let Some(map) = object.as_object_mut() {
                set(map.entry(name.clone()).or_insert(empty), rest, leaf);
            }
        }
        Step::Item(keys) => {
            let Some(list) = object.as_array_mut() else { return };
            if item_at(list, keys).is_none() {
                list.push(serde_json::from_str(keys).unwrap_or_default());
            }
            if let Some((_, item)) = item_at(list, keys) {
                set(item, rest, leaf);
            }
        }
    }
}

/// Takes a leaf or an item out, and what is left empty of the maps and lists around it.
fn remove(object: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step {
        Step::Field(name) => {
            let Some(map) = object.as_object_mut() else { return };
            if let Some(value) = map.get_mut(name) {
                remove(value, rest);
                let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
                if rest.is_empty() || empty {
                    map.remove(name);
                }
            }
        }
        Step::Item(keys) => {
            let Some(list) = object.as_array_mut() else { return };
            let Some((at, item)) = item_at(list, keys) else { return };
            if rest.is_empty() {
                list.remove(at);
            } else {
                remove(item, rest);
            }
        }
    }
}

/// Puts a leaf, or an item, into a tree as `fieldsV1` writes it.
fn plant(tree: &mut Value, path: &[Step]) {
    let Some(map) = tree.as_object_mut() else { return };
    let Some((step, rest)) = path.split_first() else { return };
    let key = match step {
        Step::Field(name) => format!("f:{name}"),
        Step::Item(keys) => format!("k:{keys}"),
    };
    let inner = map.entry(key).or_insert_with(|| json!({}));
    if let (Step::Item(_), [], Some(item)) = (step, rest, inner.as_object_mut()) {
        item.insert(".".to_owned(), json!({}));
    }
    plant(inner, rest);
}

impl Fields {
    /// Everything in an object belongs to one manager.
    pub(super) fn all_of(object: &Value, manager: &str, operation: &'static str) -> Self {
        let owner = BTreeSet::from([(manager.to_owned(), operation)]);
        Self(leaves(object).into_keys().map(|path| (path, owner.clone())).collect())
    }

    /// Server-side apply: the fields of `manifest` are `manager`'s from here on, those it owned and left out go.
    ///
    /// # Errors
    /// The fields of others that it would change, unless forced.
    pub(super) fn apply(
        &mut self,
        object: &mut Value,
        manifest: &Value,
        manager: &str,
        force: bool,
    ) -> Result<(), Vec<Conflict>> {
        let me: Manager = (manager.to_owned(), "Apply");
        let (wanted, there) = (leaves(manifest), leaves(object));
        let mut conflicts = Vec::new();
        for (path, _) in wanted.iter().filter(|(path, value)| there.get(path).is_some_and(|v| v != *value)) {
            let others = self.0.get(path).into_iter().flatten().filter(|owner| **owner != me);
            conflicts.extend(others.map(|owner| Conflict { manager: owner.clone(), path: path.clone() }));
        }
        if !conflicts.is_empty() && !force {
            return Err(conflicts);
        }
        for conflict in &conflicts {
            if let Some(owners) = self.0.get_mut(&conflict.path) {
                owners.remove(&conflict.manager);
            }
        }
        let left_out: Vec<Path> =
            self.0.iter().filter(|(p, o)| o.contains(&me) && !wanted.contains_key(p)).map(|(p, _)| p.clone()).collect();
        for path in left_out {
            let owners = self.0.entry(path.clone()).or_default();
            owners.remove(&me);
            if owners.is_empty() {
                self.0.remove(&path);
                remove(object, &path.0);
            }
        }
        for (path, value) in &wanted {
            set(object, &path.0, value);
            self.0.entry(path.clone()).or_default().insert(me.clone());
        }
        Ok(())
    }

    /// An object was written otherwise: what changed in it is `manager`'s alone.
    pub(super) fn updated(&mut self, before: &Value, after: &Value, manager: &str) {
        let (was, is) = (leaves(before), leaves(after));
        self.0.retain(|path, _| is.contains_key(path));
        for (path, _) in is.iter().filter(|(path, value)| was.get(path) != Some(value)) {
            self.0.insert(path.clone(), BTreeSet::from([(manager.to_owned(), "Update")]));
        }
    }

    /// Managers whose entry is not in `managedFields` any more own nothing.
    pub(super) fn keep_those_in(&mut self, managed: &Value) {
        let entries = managed.as_array().map(Vec::as_slice).unwrap_or_default();
        let named = |owner: &Manager| {
            entries.iter().any(|entry| entry["manager"] == owner.0.as_str() && entry["operation"] == owner.1)
        };
        self.0.values_mut().for_each(|owners| owners.retain(named));
        self.0.retain(|_, owners| !owners.is_empty());
    }

    /// Whether somebody else than `manager` owns the leaf.
    pub(super) fn is_others(&self, path: &Path, manager: &str) -> bool {
        self.0.get(path).is_some_and(|owners| !owners.is_empty() && !owners.iter().any(|(name, _)| name == manager))
    }

    /// What `manager` would have to leave out of a manifest so as to touch nobody else's fields.
    pub(super) fn preserve(&self, manifest: &Value, manager: &str) -> Value {
        let mut kept = manifest.clone();
        for path in leaves(manifest).into_keys().filter(|path| self.is_others(path, manager)) {
            remove(&mut kept, &path.0);
        }
        kept
    }

    /// `metadata.managedFields`.
    pub(super) fn managed(&self, time: &str) -> Value {
        let mut trees: BTreeMap<&Manager, Value> = BTreeMap::new();
        for (path, owners) in &self.0 {
            for owner in owners {
                plant(trees.entry(owner).or_insert_with(|| json!({})), &path.0);
            }
        }
        let entry = |((manager, operation), tree): (&Manager, Value)| {
            json!({ "manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": time,
                    "fieldsType": "FieldsV1", "fieldsV1": tree })
        };
        trees.into_iter().map(entry).collect()
    }
}

/// What the API server says of conflicts.
pub(super) fn sentence(conflicts: &[Conflict]) -> String {
    let with = |manager: &Manager| match manager.1 {
        "Update" => format!("{:?} using apps/v1", manager.0),
        _ => format!("{:?}", manager.0),
    };
    match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", with(&one.manager), one.path),
        several => {
            let mut by_manager: BTreeMap<&Manager, Vec<&Path>> = BTreeMap::new();
            several.iter().for_each(|c| by_manager.entry(&c.manager).or_default().push(&c.path));
            let said = by_manager.into_iter().map(|(manager, paths)| {
                let paths: Vec<String> = paths.into_iter().map(|p| format!("- {p}")).collect();
                format!("conflicts with {}:\n{}", with(manager), paths.join("\n"))
            });
            format!("Apply failed with {} conflicts: {}", several.len(), said.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// The operation that does not apply, and whether it was a `test` that did not hold.
pub(super) fn patch(object: &Value, operations: &Value) -> Result<Value, (bool, String)> {
    let mut object = object.clone();
    for operation in operations.as_array().into_iter().flatten() {
        let text = |key: &str| operation[key].as_str().unwrap_or_default();
        let path = text("path");
        let missing = || (false, format!("{} operation does not apply: doc is missing path: {path}", text("op")));
        if text("op") == "test" {
            let there = object.pointer(path).unwrap_or(&Value::Null);
            if *there != operation["value"] {
                return Err((true, format!("testing value {path} failed: test failed")));
            }
            continue;
        }
        let (parent, last) = path.rsplit_once('/').ok_or_else(missing)?;
        let last = last.replace("~1", "/").replace("~0", "~");
        let value = operation["value"].clone();
        match (object.pointer_mut(parent).ok_or_else(missing)?, text("op")) {
            (Value::Object(map), "add") => {
                map.insert(last, value);
            }
            (Value::Object(map), "replace") => *map.get_mut(&last).ok_or_else(missing)? = value,
            (Value::Object(map), "remove") => {
                map.remove(&last).ok_or_else(missing)?;
            }
            (Value::Array(list), op) => {
                let at = if last == "-" { list.len() } else { last.parse().map_err(|_| missing())? };
                match op {
                    "add" if at <= list.len() => list.insert(at, value),
                    "replace" if at < list.len() => list[at] = value,
                    "remove" if at < list.len() => {
                        list.remove(at);
                    }
                    _ => return Err(missing()),
                }
            }
            _ => return Err(missing()),
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Value {
        json!({ "metadata": { "name": "aws-node", "labels": { "a": "1" } }, "spec": { "template": { "spec": {
            "containers": [{ "name": "aws-node", "image": "i:1", "command": ["x"], "env": [
                { "name": "A", "value": "1" }] }],
        } } } })
    }

    fn spec(pod: Value) -> Value {
        json!({ "apiVersion": "apps/v1", "spec": { "template": { "spec": pod } } })
    }

    #[test]
    fn a_new_item_conflicts_with_nobody_and_goes_when_it_is_left_out() {
        let before = object();
        let (mut object, mut fields) = (object(), Fields::all_of(&object(), "eks", "Apply"));
        let waiter = spec(json!({ "initContainers": [{ "name": "w", "image": "f:1" }],
            "containers": [{ "name": "aws-node", "env": [{ "name": "B", "value": "2" }] }] }));
        fields.apply(&mut object, &waiter, "fastnode", false).unwrap();
        assert_eq!(object["spec"]["template"]["spec"]["initContainers"][0]["image"], "f:1");
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"], "2");
        let managed = fields.managed("t").to_string();
        assert!(managed.contains(r#""k:{\"name\":\"w\"}":{".":{},"f:image":{}"#), "{managed}");
        fields.apply(&mut object, &json!({}), "fastnode", false).unwrap();
        assert_eq!(object, before, "what it had added is gone, what it shared stays");
    }

    #[test]
    fn anothers_field_is_a_conflict_in_the_servers_words_until_forced() {
        let (mut object, mut fields) = (object(), Fields::all_of(&object(), "eks", "Apply"));
        let mine = spec(json!({ "containers": [{ "name": "aws-node", "command": ["x", "y"] }] }));
        let conflicts = fields.apply(&mut object, &mine, "fastnode", false).unwrap_err();
        let expected = "Apply failed with 1 conflict: conflict with \"eks\": \
                        .spec.template.spec.containers[name=\"aws-node\"].command";
        assert_eq!(sentence(&conflicts), expected);
        fields.apply(&mut object, &mine, "fastnode", true).unwrap();
        assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["command"], json!(["x", "y"]));
        let theirs = spec(json!({ "containers": [{ "name": "aws-node", "command": ["x"] }] }));
        assert_eq!(fields.apply(&mut object, &theirs, "eks", false).unwrap_err().len(), 1, "it is ours now");
        let same = spec(json!({ "containers": [{ "name": "aws-node", "image": "i:1" }] }));
        fields.apply(&mut object, &same, "fastnode", false).unwrap();
    }

    #[test]
    fn a_patch_whose_test_fails_changes_nothing() {
        let object = object();
        let command = "/spec/template/spec/containers/0/command";
        let change = json!([{ "op": "test", "path": command, "value": ["x"] },
            { "op": "add", "path": format!("{command}/-"), "value": "y" },
            { "op": "remove", "path": "/metadata/labels/a" }]);
        let after = patch(&object, &change).unwrap();
        assert_eq!(after.pointer(command), Some(&json!(["x", "y"])));
        let (precondition, why) = patch(&after, &change).unwrap_err();
        assert!(precondition && why.contains("testing value"), "{why}");
        let (precondition, why) =
            patch(&object, &json!([{ "op": "replace", "path": "/a/b", "value": 1 }])).unwrap_err();
        assert!(!precondition && why.contains("/a/b"), "{why}");
    }
}
