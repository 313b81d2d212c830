//! CSI drivers and attached volumes.

use serde::Deserialize;

use super::Record;
use super::core::{Str, null_default};
use super::intern::Interner;
use super::meta::Meta;
use crate::cluster::Fact;
use crate::model::{CsiNode, NodeName, VolumeAttachment};

#[derive(Deserialize)]
pub(super) struct CsiNodeJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: CsiNodeSpec<'a>,
}

#[derive(Deserialize)]
struct CsiNodeSpec<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    drivers: Vec<Driver<'a>>,
}

#[derive(Deserialize)]
struct Driver<'a> {
    #[serde(borrow)]
    name: Str<'a>,
}

impl<'a> Record<'a> for CsiNodeJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let mut drivers: Vec<_> = self.spec.drivers.iter().map(|d| strings.text(&d.name)).collect();
        drivers.sort();
        Some(Fact::CsiNode(CsiNode { node: NodeName::from(strings.text(&self.metadata.name)), drivers }))
    }
}

#[derive(Deserialize)]
pub(super) struct AttachmentJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: AttachmentSpec<'a>,
    #[serde(default, deserialize_with = "null_default")]
    status: AttachmentStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentSpec<'a> {
    #[serde(borrow)]
    node_name: Str<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    source: Source<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source<'a> {
    #[serde(borrow)]
    persistent_volume_name: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttachmentStatus {
    attached: bool,
}

impl<'a> Record<'a> for AttachmentJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        Some(Fact::VolumeAttachment(VolumeAttachment {
            name: self.metadata.name.as_str().into(),
            node: NodeName::from(strings.text(&self.spec.node_name)),
            volume: self.spec.source.persistent_volume_name.as_ref().map(|v| strings.text(v)),
            attached: self.status.attached,
        }))
    }
}
