//! What a fix keeps on its object until it is reverted: the annotation `fastnode.dev/fix-<name>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::place::{Path, Place, get};
use super::verify::{Effect, Start};
use crate::model::marks::FIX_PREFIX;
use crate::model::{DaemonSet, Text};

/// How a fix was brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// Server-side apply of keys that nobody owned.
    Apply,
    /// A JSON patch: a whole list was taken over, or the update strategy changed with it.
    Patch,
    /// The add-on's configuration values.
    Configuration,
    /// The add-on's version.
    Version,
}

/// The record of a fix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The form of this record, 1.
    pub v: u32,
    /// How.
    pub means: Means,
    /// When it was applied.
    pub at: Timestamp,
    /// What was written, and what was there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Who owned what was taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// SHA-256 of what stood there afterwards, the server's defaults included, or of the add-on's configuration.
    pub hash: String,
    /// The add-on, where it was changed, and its configuration before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon: Option<AddonBefore>,
    /// How nodes started without the fix, where that is known: what the next new node is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Start>,
    /// The update strategy before, where new nodes alone take the fix up for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Value>,
    /// The rotation that applied it; `None` where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Text>,
    /// What it came to on the next new node, once that has been seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What of a record the watch keeps: enough to tell whether the fix has helped, not to take it back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Mark {
    v: u32,
    /// When it was applied.
    pub at: Timestamp,
    /// How nodes started without it.
    #[serde(default)]
    pub baseline: Option<Start>,
    /// The rotation that applied it.
    #[serde(default)]
    pub rotation: Option<Text>,
    /// What it came to.
    #[serde(default)]
    pub effect: Option<Effect>,
}

impl Mark {
    /// Of the whole record.
    pub fn of(record: &Record) -> Self {
        let Record { v, at, baseline, rotation, effect, .. } = record.clone();
        Self { v, at, baseline, rotation, effect }
    }

    /// The marks of the fixes on a DaemonSet, by the fix; those that this version does not know are left out.
    pub fn all(set: &DaemonSet) -> impl Iterator<Item = (&Text, Self)> {
        let read = |text: &Text| serde_json::from_str::<Self>(text).ok().filter(|mark| mark.v == 1);
        set.fixes.iter().filter_map(move |(fix, text)| Some((fix, read(text)?)))
    }
}

/// An add-on before it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonBefore {
    /// Its name.
    pub name: String,
    /// Its configuration values, `None` where there were none; or its version.
    pub before: Option<String>,
}

impl Record {
    /// The annotation of a fix.
    pub fn key(fix: &str) -> String {
        format!("{FIX_PREFIX}{fix}")
    }

    /// Where the annotation stands.
    pub fn path(fix: &str) -> Path {
        Path::fields(&["metadata", "annotations"]).field(&Self::key(fix))
    }

    /// The record of `fix` on an object; an unreadable one is an error in words.
    ///
    /// # Errors
    /// If the annotation is there and is no record that this version knows.
    pub fn read(object: &Value, fix: &str) -> Result<Option<Self>, String> {
        let key = Self::key(fix);
        let Some(text) = object["metadata"]["annotations"][&key].as_str() else { return Ok(None) };
        let record: Self =
            serde_json::from_str(text).map_err(|error| format!("the annotation {key} cannot be read: {error}"))?;
        if record.v != 1 {
            return Err(format!("the annotation {key} is of form {}, and this version knows 1", record.v));
        }
        Ok(Some(record))
    }

    /// The records of all other fixes of ours that were applied to the object, by the name of the fix.
    pub fn others(object: &Value, fix: &str) -> Vec<(String, Self)> {
        let annotations = object["metadata"]["annotations"].as_object();
        let names = annotations.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix(FIX_PREFIX));
        names
            .filter(|name| *name != fix)
            .filter_map(|name| Some((name.to_owned(), Self::read(object, name).ok()??)))
            .collect()
    }

    /// The annotation's value.
    pub fn text(&self) -> String {
        json!(self).to_string()
    }
}

/// SHA-256 of what stands at these places of an object.
pub fn hash(object: &Value, places: &[Place]) -> String {
    let found: Vec<Option<&Value>> = places.iter().map(|place| get(object, &place.path)).collect();
    digest(&json!(found).to_string())
}

/// SHA-256 of a text, in hexadecimal.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_others_are_refused() {
        let record = Record {
            v: 1,
            means: Means::Patch,
            at: "2026-11-23T10:00:00Z".parse().unwrap(),
            places: vec![Place {
                path: Path::in_template("containers").item("kube-proxy").field("command"),
                before: Some(json!(["kube-proxy"])),
                after: Value::Null,
            }],
            owners: vec!["eks".into()],
            hash: digest("x"),
            addon: None,
            baseline: None,
            strategy: None,
            rotation: None,
            effect: None,
        };
        let object = |text: &str| json!({ "metadata": { "annotations": { "fastnode.dev/fix-a": text } } });
        assert_eq!(Record::read(&object(&record.text()), "a").unwrap(), Some(record.clone()));
        assert_eq!(Record::read(&object(&record.text()), "b").unwrap(), None);
        assert_eq!(Record::others(&object(&record.text()), "b"), [("a".to_owned(), record.clone())]);
        assert!(Record::read(&object("{}"), "a").unwrap_err().contains("fastnode.dev/fix-a"));
        let later = Record { v: 2, ..record };
        assert!(Record::read(&object(&later.text()), "a").unwrap_err().contains("form 2"));
    }

    #[test]
    fn the_hash_changes_with_what_stands_there_and_with_nothing_else() {
        let places = [Place { path: Path::fields(&["spec", "a"]), before: None, after: json!(1) }];
        let hash = |object: &Value| hash(object, &places);
        let one = json!({ "spec": { "a": { "x": 1 } } });
        assert_eq!(hash(&one), hash(&json!({ "spec": { "a": { "x": 1 }, "b": 2 } })));
        assert_ne!(hash(&one), hash(&json!({ "spec": { "a": { "x": 2 } } })));
        assert_ne!(hash(&one), hash(&json!({ "spec": {} })));
    }
}
