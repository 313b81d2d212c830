//! DaemonSets, their revisions, and disruption budgets.

use serde::Deserialize;

use super::Record;
use super::core::{SelectorJson, Str, TermJson, TextMap, TolerationJson, null_default};
use super::intern::Interner;
use super::meta::Meta;
use crate::cluster::Fact;
use crate::model::{Budget, DaemonSet, NodeName, Revision, UpdateStrategy, fix_marks};

#[derive(Deserialize)]
pub(super) struct DaemonSetJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: DaemonSetSpec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonSetSpec<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    update_strategy: Strategy<'a>,
    #[serde(borrow)]
    template: Template<'a>,
}

#[derive(Default, Deserialize)]
struct Strategy<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "null_default")]
    name: Str<'a>,
}

#[derive(Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    spec: TemplateSpec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec<'a> {
    #[serde(borrow)]
    node_name: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    node_selector: TextMap<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    affinity: Affinity<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    tolerations: Vec<TolerationJson<'a>>,
    #[serde(default)]
    host_network: bool,
    #[serde(borrow)]
    priority_class_name: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    node_affinity: NodeAffinity<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAffinity<'a> {
    #[serde(borrow)]
    required_during_scheduling_ignored_during_execution: Option<Terms<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terms<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    node_selector_terms: Vec<TermJson<'a>>,
}

impl<'a> Record<'a> for DaemonSetJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let Self { metadata, spec } = self;
        let template = spec.template.spec;
        let required = template.affinity.node_affinity.required_during_scheduling_ignored_during_execution;
        Some(Fact::DaemonSet(DaemonSet {
            uid: metadata.owned_uid(),
            key: metadata.key(strings),
            labels: metadata.labels.to_labels(strings),
            strategy: if spec.update_strategy.name.as_str() == "OnDelete" {
                UpdateStrategy::OnDelete
            } else {
                UpdateStrategy::RollingUpdate
            },
            node_name: template.node_name.as_ref().filter(|n| !n.is_empty()).map(|n| NodeName::from(strings.text(n))),
            node_selector: template.node_selector.to_labels(strings),
            has_affinity: required.is_some(),
            affinity: required.iter().flat_map(|r| &r.node_selector_terms).map(|t| t.model(strings)).collect(),
            tolerations: template.tolerations.iter().filter_map(|t| t.model(strings)).collect(),
            host_network: template.host_network,
            priority_class: template.priority_class_name.as_ref().map(|p| strings.text(p)),
            deleting: metadata.deletion_timestamp.is_some(),
            fixes: fix_marks(metadata.annotations.iter()),
        }))
    }
}

#[derive(Deserialize)]
pub(super) struct RevisionJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    revision: i64,
}

impl<'a> Record<'a> for RevisionJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let owner = self.metadata.controller(strings).filter(|o| &*o.kind == "DaemonSet")?;
        Some(Fact::Revision(Revision {
            owner: owner.uid.clone(),
            uid: self.metadata.owned_uid(),
            number: self.revision,
            hash: strings.text(self.metadata.label("controller-revision-hash").unwrap_or_default()),
        }))
    }
}

#[derive(Deserialize)]
pub(super) struct BudgetJson<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: BudgetSpec<'a>,
    #[serde(default)]
    status: BudgetStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BudgetSpec<'a> {
    #[serde(borrow)]
    selector: Option<SelectorJson<'a>>,
    #[serde(borrow)]
    unhealthy_pod_eviction_policy: Option<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    observed_generation: i64,
    disruptions_allowed: i32,
    current_healthy: i32,
    desired_healthy: i32,
    expected_pods: i32,
}

impl<'a> Record<'a> for BudgetJson<'a> {
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }

    fn fact(self, strings: &mut Interner) -> Option<Fact> {
        let Self { metadata, spec, status } = self;
        Some(Fact::Budget(Budget {
            key: metadata.key(strings),
            selector: spec.selector.as_ref().map(|s| s.model(strings)),
            allowed: status.disruptions_allowed,
            healthy: status.current_healthy,
            desired: status.desired_healthy,
            expected: status.expected_pods,
            observed: status.observed_generation >= metadata.generation.unwrap_or_default(),
            unhealthy_always: spec.unhealthy_pod_eviction_policy.as_ref().is_some_and(|p| p.as_str() == "AlwaysAllow"),
        }))
    }
}
