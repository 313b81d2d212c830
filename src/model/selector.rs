//! Labels, selectors, node affinity terms and tolerations.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Text, node::Taint, node::TaintEffect};

/// Labels of an object.
pub type Labels = BTreeMap<Text, Text>;

/// The operator of a selector requirement; `Gt` and `Lt` exist for node affinity only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there with one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above the one value.
    Gt,
    /// The label is an integer below the one value.
    Lt,
}

/// One requirement on a label (`matchExpressions`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: Text,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub values: Vec<Text>,
}

impl Requirement {
    /// Whether `labels` meet it, by the rules of `k8s.io/apimachinery/pkg/labels/selector.go`.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value).is_some_and(|(have, want)| have > want),
            Operator::Lt => self.compare(value).is_some_and(|(have, want)| have < want),
        }
    }

    fn compare(&self, value: Option<&Text>) -> Option<(i64, i64)> {
        let [want] = self.values.as_slice() else { return None };
        Some((value?.parse().ok()?, want.parse().ok()?))
    }
}

/// As `kubectl -l` takes it.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        match (operator, values.as_slice()) {
            (Operator::In, [value]) => write!(f, "{key}={value}"),
            (Operator::NotIn, [value]) => write!(f, "{key}!={value}"),
            (Operator::In, values) => write!(f, "{key} in ({})", values.join(", ")),
            (Operator::NotIn, values) => write!(f, "{key} notin ({})", values.join(", ")),
            (Operator::Exists, _) => f.write_str(key),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::Gt, values) => write!(f, "{key}>{}", values.join(",")),
            (Operator::Lt, values) => write!(f, "{key}<{}", values.join(",")),
        }
    }
}

/// A label selector (`matchLabels` are kept as `In` requirements). An empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }
}

/// One term of a required node affinity; terms are ORed, the requirements of one are ANDed.
/// A term without requirements matches nothing (`k8s.io/component-helpers/scheduling/corev1/nodeaffinity`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSelectorTerm {
    /// On labels.
    pub labels: Vec<Requirement>,
    /// On fields; only `metadata.name` exists.
    pub fields: Vec<Requirement>,
}

/// A toleration of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toleration {
    /// The taint's key; `None` with `Exists` tolerates every key.
    pub key: Option<Text>,
    /// `Exists` (true) or `Equal` (false).
    pub exists: bool,
    /// The taint's value, for `Equal`.
    pub value: Option<Text>,
    /// The effect; `None` tolerates every effect.
    pub effect: Option<TaintEffect>,
}

impl Toleration {
    /// Whether it tolerates `taint`, by the rules of `k8s.io/api/core/v1/toleration.go`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|e| e != taint.effect) {
            return false;
        }
        match &self.key {
            Some(key) if !key.is_empty() && *key != taint.key => return false,
            Some(key) if !key.is_empty() => {}
            _ if !self.exists => return false,
            _ => {}
        }
        self.exists || self.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
    }
}
