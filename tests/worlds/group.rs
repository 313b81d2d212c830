//! A group in which nothing is out of the ordinary, for the tests to change.

use fastnode::model::{NodeGroup, Target, Zone};

/// A group of nobody else's that launches nothing, has no tags, and may shrink to nothing.
pub fn plain_group(name: &str, zones: &[&str], desired: u32, max: u32) -> NodeGroup {
    NodeGroup {
        name: name.into(),
        min: 0,
        max,
        desired,
        zones: zones.iter().map(|zone| Zone::from(*zone)).collect(),
        target: Target::None,
        suspended: Default::default(),
        tags: Default::default(),
        new_instances_protected: false,
        managed_by: None,
        operator: None,
        refreshing: false,
        warm_pool: false,
        reuses: false,
        attachments: Default::default(),
        subnets: Default::default(),
        weighted: false,
    }
}
