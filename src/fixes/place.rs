//! Places in an object: where a fix writes, what was there, and what it puts there.
//!
//! A place is a path as server-side apply sees it: fields, and items of lists that are keyed by name. The same
//! places make the manifest that is applied, the JSON patch, and the patch that takes either back.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// The item of a list whose `name` is this.
    Item(String),
}

/// A path from the object's root; as text `spec.template.spec.containers[kube-proxy].command`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Path(pub Vec<Step>);

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.to_string()
    }
}

/// As [`Path`] writes itself. Names in brackets may hold dots; fields of what we write do not.
impl From<String> for Path {
    fn from(text: String) -> Self {
        let mut steps = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if let Some((name, tail)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                steps.push(Step::Item(name.to_owned()));
                rest = tail;
            } else {
                rest = rest.strip_prefix('.').unwrap_or(rest);
                let (name, tail) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
                if name.is_empty() {
                    break;
                }
                steps.push(Step::Field(name.to_owned()));
                rest = tail;
            }
        }
        Self(steps)
    }
}

impl Path {
    /// `field` of the pod template's spec.
    pub fn in_template(field: &str) -> Self {
        Self::fields(&["spec", "template", "spec"]).field(field)
    }

    /// Fields one below the other.
    pub fn fields(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Step::Field((*name).to_owned())).collect())
    }

    /// The field of this name below.
    pub fn field(mut self, name: &str) -> Self {
        self.0.push(Step::Field(name.to_owned()));
        self
    }

    /// The item of this name below.
    pub fn item(mut self, name: &str) -> Self {
        self.0.push(Step::Item(name.to_owned()));
        self
    }
}

/// `spec.template.spec.containers[kube-proxy].command`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(name) => write!(f, "[{name}]")?,
            }
        }
        Ok(())
    }
}

/// What a fix does at one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub path: Path,
    /// What is there; `None` where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is to be there; in a record it is nothing, for the object itself holds it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub after: Value,
}

fn index(list: &[Value], name: &str) -> Option<usize> {
    list.iter().position(|item| item["name"] == name)
}

fn below<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Field(name) => value.get(name),
        Step::Item(name) => {
            let list = value.as_array()?;
            list.get(index(list, name)?)
        }
    }
    .filter(|found| !found.is_null())
}

/// What is at a path.
pub fn get<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    path.0.iter().try_fold(object, below)
}

/// The object with all places as they are to be.
pub fn put(object: &Value, places: &[Place]) -> Value {
    let mut changed = object.clone();
    for place in places {
        set(&mut changed, &place.path.0, &place.after);
    }
    changed
}

fn set(object: &mut Value, path: &[Step], value: &Value) {
    let Some((step, rest)) = path.split_first() else {
        *object = value.clone();
        return;
    };
    match step {
        Step::Field(name) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            if let Some(fields) = object.as_object_mut() {
                set(fields.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::Item(name) => {
            if !object.is_array() {
                *object = Value::Array(Vec::new());
            }
            if let Some(list) = object.as_array_mut() {
                let at = index(list, name).unwrap_or_else(|| {
                    list.push(json!({ "name": name }));
                    list.len() - 1
                });
                if let Some(item) = list.get_mut(at) {
                    set(item, rest, value);
                    // The key of a list is part of its item.
                    if let Some(fields) = item.as_object_mut() {
                        fields.insert("name".to_owned(), json!(name));
                    }
                }
            }
        }
    }
}

/// A manifest that holds these places and nothing else: what server-side apply is given.
pub fn fragment<'a>(places: impl IntoIterator<Item = &'a Place>) -> Value {
    let mut manifest = json!({});
    for place in places {
        set(&mut manifest, &place.path.0, &place.after);
    }
    manifest
}

/// Makes a JSON patch: operations against an object that changes with each of them.
pub struct Patch {
    object: Value,
    operations: Vec<Value>,
}

impl Patch {
    /// A patch of exactly this version of the object.
    pub fn of(object: &Value) -> Self {
        let version = &object["metadata"]["resourceVersion"];
        let test = json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version });
        Self { object: object.clone(), operations: vec![test] }
    }

    /// Puts a value at a path, with whatever is missing on the way to it.
    pub fn put(&mut self, path: &Path, value: &Value) {
        for depth in 1..path.0.len() {
            let (way, next) = (Path(path.0.iter().take(depth).cloned().collect()), path.0.get(depth));
            if get(&self.object, &way).is_some() {
                continue;
            }
            let empty = match (way.0.last(), next) {
                (_, Some(Step::Item(_))) => json!([]),
                (Some(Step::Item(name)), _) => json!({ "name": name }),
                _ => json!({}),
            };
            self.write(&way, &empty);
        }
        self.write(path, value);
    }

    fn write(&mut self, path: &Path, value: &Value) {
        let op = if get(&self.object, path).is_some() { "replace" } else { "add" };
        if let Some(pointer) = self.pointer(path) {
            self.operations.push(json!({ "op": op, "path": pointer, "value": value }));
            set(&mut self.object, &path.0, value);
        }
    }

    /// Removes what is at a path, and the list or object that is empty after it where `prune` allows it.
    pub fn remove(&mut self, path: &Path, prune: impl Fn(&Path) -> bool) {
        if get(&self.object, path).is_none() {
            return;
        }
        let Some(pointer) = self.pointer(path) else { return };
        self.operations.push(json!({ "op": "remove", "path": pointer }));
        let Some((last, way)) = path.0.split_last() else { return };
        let parent = Path(way.to_vec());
        if let Some(found) = get_mut(&mut self.object, way) {
            match last {
                Step::Field(name) => drop(found.as_object_mut().map(|fields| fields.remove(name))),
                Step::Item(name) => {
                    if let Some(list) = found.as_array_mut() {
                        list.retain(|item| item["name"] != name.as_str());
                    }
                }
            }
            let empty = found.as_array().is_some_and(Vec::is_empty) || found.as_object().is_some_and(Map::is_empty);
            if empty && prune(&parent) {
                self.remove(&parent, prune);
            }
        }
    }

    /// The operations, the test of the version first.
    pub fn operations(self) -> Value {
        Value::Array(self.operations)
    }

    /// RFC 6901; `-` for an item that is not there yet.
    fn pointer(&self, path: &Path) -> Option<String> {
        let mut pointer = String::new();
        let mut at = Some(&self.object);
        for step in &path.0 {
            pointer.push('/');
            match step {
                Step::Field(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Item(name) => match index(at?.as_array()?, name) {
                    Some(index) => pointer.push_str(&index.to_string()),
                    None => pointer.push('-'),
                },
            }
            at = at.and_then(|value| below(value, step));
        }
        Some(pointer)
    }
}

fn get_mut<'a>(object: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(name) => {
            let list = value.as_array_mut()?;
            let index = index(list, name)?;
            list.get_mut(index)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemonset() -> Value {
        json!({
            "metadata": { "resourceVersion": "7" },
            "spec": { "template": { "spec": { "containers": [
                { "name": "other" }, { "name": "kube-proxy", "command": ["kube-proxy"] }] } } },
        })
    }

    fn command() -> Path {
        Path::in_template("containers").item("kube-proxy").field("command")
    }

    #[test]
    fn a_path_reads_as_people_write_it() {
        let text = "spec.template.spec.containers[kube-proxy].command";
        assert_eq!(command().to_string(), text);
        assert_eq!(Path::from(text.to_owned()), command());
        let item = Path::in_template("containers").item("a.b").field("env").item("C");
        assert_eq!(Path::from(item.to_string()), item);
    }

    #[test]
    fn a_fragment_holds_the_keys_of_lists_and_nothing_else() {
        let place = Place { path: command(), before: None, after: json!(["a"]) };
        let expected = json!({ "spec": { "template": { "spec": {
            "containers": [{ "name": "kube-proxy", "command": ["a"] }] } } } });
        assert_eq!(fragment([&place]), expected);
    }

    #[test]
    fn a_patch_makes_what_is_missing_on_its_way_and_takes_it_away_again() {
        let before = daemonset();
        let variable = Path::in_template("containers").item("kube-proxy").field("env").item("NODE_NAME");
        let mut patch = Patch::of(&before);
        patch.put(&command(), &json!(["kube-proxy", "--x"]));
        patch.put(&variable, &json!({ "name": "NODE_NAME", "value": "n" }));
        let base = "/spec/template/spec/containers/1";
        let after = patch.object.clone();
        assert_eq!(
            patch.operations(),
            json!([
                { "op": "test", "path": "/metadata/resourceVersion", "value": "7" },
                { "op": "replace", "path": format!("{base}/command"), "value": ["kube-proxy", "--x"] },
                { "op": "add", "path": format!("{base}/env"), "value": [] },
                { "op": "add", "path": format!("{base}/env/-"), "value": { "name": "NODE_NAME", "value": "n" } },
            ])
        );
        let mut back = Patch::of(&after);
        back.put(&command(), &json!(["kube-proxy"]));
        back.remove(&variable, |_| true);
        assert_eq!(back.object, before);
    }

    #[test]
    fn keys_with_slashes_are_escaped() {
        let mut patch = Patch::of(&daemonset());
        patch.put(&Path::fields(&["metadata", "annotations", "fastnode.dev/fix-x"]), &json!("1"));
        assert_eq!(patch.operations()[2]["path"], "/metadata/annotations/fastnode.dev~1fix-x");
    }
}
