//! The pieces that several kinds are made of: strings, maps, selectors, tolerations, pod templates.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::intern::Interner;
use crate::model::{Labels, NodeSelectorTerm, Operator, Requirement, Selector, TaintEffect, Toleration};

/// A string borrowed from the JSON unless it holds escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Str<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Str<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// Reads `null`, which Go writes for empty lists and maps, as the default.
pub(super) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A map of strings as a list of pairs: it is walked once.
#[derive(Debug, Default)]
pub(super) struct TextMap<'a>(pub(super) Vec<(Str<'a>, Str<'a>)>);

impl TextMap<'_> {
    pub(super) fn to_labels(&self, strings: &mut Interner) -> Labels {
        self.0.iter().map(|(k, v)| (strings.text(k), strings.text(v))).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TextMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = TextMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(TextMap(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A requirement of a label selector or of a node affinity.
#[derive(Deserialize)]
pub(super) struct RequirementJson<'a> {
    #[serde(borrow)]
    key: Str<'a>,
    operator: OperatorJson,
    #[serde(borrow, default, deserialize_with = "null_default")]
    values: Vec<Str<'a>>,
}

#[derive(Clone, Copy, Deserialize)]
enum OperatorJson {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl RequirementJson<'_> {
    fn model(&self, strings: &mut Interner) -> Requirement {
        Requirement {
            key: strings.text(&self.key),
            operator: match self.operator {
                OperatorJson::In => Operator::In,
                OperatorJson::NotIn => Operator::NotIn,
                OperatorJson::Exists => Operator::Exists,
                OperatorJson::DoesNotExist => Operator::DoesNotExist,
                OperatorJson::Gt => Operator::Gt,
                OperatorJson::Lt => Operator::Lt,
            },
            values: self.values.iter().map(|v| strings.text(v)).collect(),
        }
    }
}

/// A label selector.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SelectorJson<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    match_labels: TextMap<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    match_expressions: Vec<RequirementJson<'a>>,
}

impl SelectorJson<'_> {
    pub(super) fn model(&self, strings: &mut Interner) -> Selector {
        let mut requirements: Vec<Requirement> = self
            .match_labels
            .0
            .iter()
            .map(|(key, value)| Requirement {
                key: strings.text(key),
                operator: Operator::In,
                values: vec![strings.text(value)],
            })
            .collect();
        requirements.extend(self.match_expressions.iter().map(|r| r.model(strings)));
        Selector(requirements)
    }
}

/// A term of a node affinity.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TermJson<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    match_expressions: Vec<RequirementJson<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    match_fields: Vec<RequirementJson<'a>>,
}

impl TermJson<'_> {
    pub(super) fn model(&self, strings: &mut Interner) -> NodeSelectorTerm {
        NodeSelectorTerm {
            labels: self.match_expressions.iter().map(|r| r.model(strings)).collect(),
            fields: self.match_fields.iter().map(|r| r.model(strings)).collect(),
        }
    }
}

/// A toleration.
#[derive(Deserialize)]
pub(super) struct TolerationJson<'a> {
    #[serde(borrow, default, deserialize_with = "null_default")]
    key: Str<'a>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    operator: Str<'a>,
    #[serde(borrow)]
    value: Option<Str<'a>>,
    #[serde(borrow, default, deserialize_with = "null_default")]
    effect: Str<'a>,
}

impl TolerationJson<'_> {
    /// `None` for an operator (`Gt`, `Lt`) or an effect this version does not know: it then tolerates none
    /// of the taints it does know.
    pub(super) fn model(&self, strings: &mut Interner) -> Option<Toleration> {
        let exists = match self.operator.as_str() {
            "" | "Equal" => false,
            "Exists" => true,
            _ => return None,
        };
        let effect = match self.effect.as_str() {
            "" => None,
            word => Some(taint_effect(word)?),
        };
        Some(Toleration {
            key: (!self.key.is_empty()).then(|| strings.text(&self.key)),
            exists,
            value: self.value.as_ref().map(|v| strings.text(v)),
            effect,
        })
    }
}

/// Reads a taint's effect.
pub(super) fn taint_effect(word: &str) -> Option<TaintEffect> {
    match word {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}
