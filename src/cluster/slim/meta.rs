//! Metadata, as every object carries it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::core::{Str, TextMap, null_default};
use super::intern::Interner;
use crate::model::{ObjectKey, Owner, Text, Uid};

/// `metadata`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) namespace: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) uid: Str<'a>,
    #[serde(borrow)]
    pub(super) resource_version: Option<Str<'a>>,
    pub(super) generation: Option<i64>,
    pub(super) creation_timestamp: Option<Timestamp>,
    pub(super) deletion_timestamp: Option<Timestamp>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) labels: TextMap<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    pub(super) annotations: Annotations<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    owner_references: Vec<OwnerReference<'a>>,
}

#[derive(Deserialize)]
struct OwnerReference<'a> {
    #[serde(borrow)]
    kind: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
    controller: Option<bool>,
}

impl Meta<'_> {
    pub(super) fn owned_uid(&self) -> Uid {
        Uid::from(self.uid.as_str())
    }

    /// The key; names of namespaced objects repeat too little to be worth sharing, namespaces do.
    pub(super) fn key(&self, strings: &mut Interner) -> ObjectKey {
        ObjectKey {
            namespace: strings.text(self.namespace.as_ref().map_or("", |n| n.as_str())),
            name: self.name.as_str().into(),
        }
    }

    /// The owner with `controller: true`; the API allows one.
    pub(super) fn controller(&self, strings: &mut Interner) -> Option<Arc<Owner>> {
        let owner = self.owner_references.iter().find(|o| o.controller == Some(true))?;
        Some(strings.owner(&owner.kind, &owner.name, &owner.uid))
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.0.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v.as_str())
    }

    /// The creation time; the API sets it on every stored object.
    pub(super) fn created(&self) -> Timestamp {
        self.creation_timestamp.unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The annotations some rule reads; the others (last-applied configurations, mostly) are skipped unread.
#[derive(Default)]
pub(super) struct Annotations<'a>(Vec<(Str<'a>, Str<'a>)>);

impl Annotations<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k.as_str() == key).map(|(_, v)| v.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(super) fn to_map(&self, strings: &mut Interner) -> BTreeMap<Text, Text> {
        self.0.iter().map(|(k, v)| (strings.text(k), strings.text(v))).collect()
    }

    fn wanted(key: &str) -> bool {
        key.starts_with("fastnode.dev/")
            || key.starts_with("cluster-autoscaler.kubernetes.io/")
            || key == "karpenter.sh/do-not-disrupt"
            || key == "kubernetes.io/config.mirror"
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Annotations<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = Annotations<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while let Some(key) = map.next_key::<Str<'de>>()? {
                    if Annotations::wanted(&key) {
                        kept.push((key, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(kept))
            }
        }
        deserializer.deserialize_map(Wanted)
    }
}
