//! Decodes the API server's JSON straight into model records: fields nobody reads are skipped, not stored.
//!
//! A Pod is about 8 KB of JSON and a few hundred bytes of ours. Lists are cut into items as they arrive
//! ([`list::Splitter`]), so that neither a page nor a whole object tree is ever held; repeated strings and
//! label sets are shared ([`intern::Interner`]).

mod core;
pub(super) mod intern;
pub(super) mod list;
mod meta;
mod node;
mod pod;
mod storage;
mod workload;

use serde::Deserialize;

use self::core::null_default;
use self::intern::Interner;
use self::meta::Meta;
pub(super) use self::node::{NodeState, node_state};
use super::{Fact, Kind};
use crate::model::{NodeName, ObjectKey};

/// Why an object could not be read: it is not what the API promises, so nothing is concluded from it.
#[derive(Debug, thiserror::Error)]
#[error("failed to decode {what}: {cause}")]
pub(super) struct DecodeError {
    what: &'static str,
    cause: serde_json::Error,
}

/// An object of a list or a watch.
#[derive(Debug)]
pub(super) struct Object {
    /// Its `resourceVersion`, where a watch can be resumed.
    pub(super) version: Option<String>,
    /// What it says; `None` for objects outside our interest (a StatefulSet's ControllerRevision).
    pub(super) fact: Option<Fact>,
    /// What a later change of a Node's taints must know.
    pub(super) node: Option<(NodeName, NodeState)>,
}

/// One line of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// Added or changed.
    Change(Object),
    /// Gone.
    Gone(Object),
    /// Nothing changed up to this `resourceVersion`.
    Bookmark(String),
    /// The server ends the watch: code and message of its Status.
    Error(u16, String),
}

/// An object of the API that becomes a fact.
trait Record<'a>: Deserialize<'a> {
    fn meta(&self) -> &Meta<'a>;
    /// What a change of a Node must know of it.
    fn state(&self) -> Option<NodeState> {
        None
    }
    /// The record, or `None` where the object is none of our business.
    fn fact(self, strings: &mut Interner) -> Option<Fact>;
}

#[derive(Deserialize)]
struct Wrapped<T> {
    object: T,
}

/// Decodes one item of a list of `kind`.
pub(super) fn item(kind: Kind, json: &[u8], strings: &mut Interner) -> Result<Object, DecodeError> {
    decode(kind, json, false, strings)
}

/// Decodes one line of a watch on `kind`.
pub(super) fn event(kind: Kind, line: &[u8], strings: &mut Interner) -> Result<Event, DecodeError> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type")]
        word: &'a str,
    }
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: Version,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        code: u16,
        #[serde(default, deserialize_with = "null_default")]
        message: String,
    }
    let fail = |cause| DecodeError { what: "a watch event", cause };
    let head: Head<'_> = serde_json::from_slice(line).map_err(fail)?;
    match head.word {
        "BOOKMARK" => {
            let wrapped: Wrapped<Bookmark> = serde_json::from_slice(line).map_err(fail)?;
            Ok(Event::Bookmark(wrapped.object.metadata.resource_version))
        }
        "ERROR" => {
            let wrapped: Wrapped<Status> = serde_json::from_slice(line).map_err(fail)?;
            Ok(Event::Error(wrapped.object.code, wrapped.object.message))
        }
        "DELETED" => gone(kind, line).map(Event::Gone),
        _ => decode(kind, line, true, strings).map(Event::Change),
    }
}

/// Decodes a single Node, as a PATCH or GET answers it.
pub(super) fn one_node(json: &[u8], strings: &mut Interner) -> Result<Object, DecodeError> {
    decode(Kind::Node, json, false, strings)
}

fn decode(kind: Kind, json: &[u8], wrapped: bool, strings: &mut Interner) -> Result<Object, DecodeError> {
    match kind {
        Kind::Node => read::<node::NodeJson<'_>>(json, wrapped, "a Node", strings),
        Kind::Pod => read::<pod::PodJson<'_>>(json, wrapped, "a Pod", strings),
        Kind::DaemonSet => read::<workload::DaemonSetJson<'_>>(json, wrapped, "a DaemonSet", strings),
        Kind::Revision => read::<workload::RevisionJson<'_>>(json, wrapped, "a ControllerRevision", strings),
        Kind::Budget => read::<workload::BudgetJson<'_>>(json, wrapped, "a PodDisruptionBudget", strings),
        Kind::CsiNode => read::<storage::CsiNodeJson<'_>>(json, wrapped, "a CSINode", strings),
        Kind::VolumeAttachment => read::<storage::AttachmentJson<'_>>(json, wrapped, "a VolumeAttachment", strings),
    }
}

fn read<'a, R: Record<'a>>(
    json: &'a [u8],
    wrapped: bool,
    what: &'static str,
    strings: &mut Interner,
) -> Result<Object, DecodeError> {
    let record = if wrapped {
        serde_json::from_slice::<Wrapped<R>>(json).map(|w| w.object)
    } else {
        serde_json::from_slice::<R>(json)
    }
    .map_err(|cause| DecodeError { what, cause })?;
    let version = record.meta().resource_version.as_ref().map(|v| v.to_string());
    let node = record.state().map(|state| (NodeName::from(strings.text(&record.meta().name)), state));
    Ok(Object { version, fact: record.fact(strings), node })
}

/// A deletion carries the whole last state; its identity is enough.
fn gone(kind: Kind, line: &[u8]) -> Result<Object, DecodeError> {
    #[derive(Deserialize)]
    struct Bare<'a> {
        #[serde(borrow)]
        metadata: Meta<'a>,
    }
    let wrapped: Wrapped<Bare<'_>> =
        serde_json::from_slice(line).map_err(|cause| DecodeError { what: "a deleted object", cause })?;
    let meta = wrapped.object.metadata;
    let fact = match kind {
        Kind::Node => Fact::NodeGone(NodeName::from(&*meta.name.0)),
        Kind::Pod => Fact::PodGone(meta.owned_uid()),
        Kind::DaemonSet => Fact::DaemonSetGone(meta.owned_uid()),
        // A StatefulSet's too: whoever never heard of it loses nothing.
        Kind::Revision => Fact::RevisionGone(meta.owned_uid()),
        Kind::Budget => {
            Fact::BudgetGone(ObjectKey::new(meta.namespace.as_ref().map_or("", |n| n.as_str()), meta.name.as_str()))
        }
        Kind::CsiNode => Fact::CsiNodeGone(NodeName::from(meta.name.as_str())),
        Kind::VolumeAttachment => Fact::VolumeAttachmentGone(meta.name.as_str().into()),
    };
    Ok(Object { version: meta.resource_version.map(|v| v.to_string()), fact: Some(fact), node: None })
}

#[cfg(test)]
mod tests;
