//! The signatures, read from `config/diagnostics.toml`, which says what each key means.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::model::Text;

/// The signatures that are built in.
pub const DIAGNOSTICS: &str = include_str!("../../../config/diagnostics.toml");

/// What stands in a pattern for the address of Service `default/kubernetes`.
const SERVICE: &str = "{service}";
/// Any address that such a Service has where it could not be read: the first of its range.
const ANY_SERVICE: &str = r"(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.1|[0-9a-fA-F:]+::1)";

/// Why signatures cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not TOML, or has a key that there is not.
    #[error("failed to read the signatures: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A pattern is no regular expression.
    #[error("failed to read signature {signature}: {pattern:?} is no regular expression: {cause}")]
    Pattern {
        /// The signature.
        signature: Text,
        /// The pattern.
        pattern: String,
        /// Why not.
        cause: Box<regex::Error>,
    },
    /// Two have one name.
    #[error("failed to read the signatures: {0} is there twice; each needs a name of its own")]
    Twice(Text),
    /// One is named that there is not.
    #[error("failed to read signature {signature}: {key} names {named}, which there is not")]
    Unknown {
        /// The signature.
        signature: Text,
        /// `symptom-of` or `explained-by`.
        key: &'static str,
        /// What it names.
        named: Text,
    },
    /// One without a rule can never be found.
    #[error("failed to read signature {0}: it has no rule; expected logs, events, restart, taint or another")]
    Empty(Text),
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// One of several causes.
    Possible,
    /// The usual cause of what was seen.
    Likely,
    /// Nothing else looks like this.
    Certain,
}

impl Confidence {
    /// The next lower one.
    pub(super) fn lower(self) -> Self {
        match self {
            Self::Certain => Self::Likely,
            Self::Likely | Self::Possible => Self::Possible,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// How the cost of a finding is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cost {
    /// From the first to the last line found.
    Span,
    /// From the pod's first start to its readiness.
    Delay,
}

/// A signature.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Signature {
    /// Its name.
    pub name: Text,
    /// What is found, one clause.
    pub what: Text,
    /// Why that happens.
    pub cause: Text,
    /// What helps.
    pub help: Text,
    /// The fix in the catalogue, for every DaemonSet that `fixes` does not name.
    pub fix: Option<Text>,
    /// The fix by DaemonSet.
    #[serde(default)]
    pub fixes: BTreeMap<Text, Text>,
    /// How sure it is.
    pub confidence: Confidence,
    /// How its cost is measured.
    pub(super) cost: Option<Cost>,
    /// Causes of which this is a symptom.
    #[serde(default)]
    pub(super) symptom_of: BTreeSet<Text>,
    /// What explains it for the same DaemonSet, or instance.
    #[serde(default)]
    pub(super) explained_by: BTreeSet<Text>,
    pub(super) spec: Option<SpecRule>,
    #[serde(default)]
    pub(super) logs: Vec<LogRule>,
    #[serde(default)]
    pub(super) events: Vec<EventRule>,
    #[serde(default)]
    pub(super) condition: Vec<ConditionRule>,
    pub(super) restart: Option<RestartRule>,
    pub(super) taint: Option<TaintRule>,
    pub(super) activity: Option<ActivityRule>,
    pub(super) unjoined: Option<UnjoinedRule>,
    pub(super) warmed: Option<WarmedRule>,
    pub(super) eviction: Option<EvictionRule>,
    pub(super) unmet: Option<UnmetRule>,
}

/// A pattern as it is written; made a [`Regex`] when the catalogue is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self { text, regex: None }
    }
}

impl Pattern {
    fn compile(&mut self, signature: &Text, service: Option<&str>) -> Result<(), CatalogueError> {
        let service = service.map_or_else(|| ANY_SERVICE.to_owned(), regex::escape);
        let pattern = self.text.replace(SERVICE, &service);
        self.regex = Some(Regex::new(&pattern).map_err(|cause| CatalogueError::Pattern {
            signature: signature.clone(),
            pattern: self.text.clone(),
            cause: Box::new(cause),
        })?);
        Ok(())
    }

    /// Whether it is in a text of no node's.
    pub(super) fn finds(&self, text: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    /// Whether it is in a text of this node's: what it captures as `own` is the Node's name, what it captures as
    /// `other` is not.
    pub(super) fn finds_at(&self, node: &str, text: &str) -> bool {
        let captures = self.regex.as_ref().filter(|regex| regex.is_match(text)).and_then(|regex| regex.captures(text));
        captures.is_some_and(|found| {
            let captured = |name| found.name(name).map(|part| part.as_str());
            captured("own").is_none_or(|name| name == node) && captured("other").is_none_or(|name| name != node)
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SpecRule {
    pub(super) set: Text,
    /// A flag (`--name`), a variable (`env:NAME`), or an init container (`init:PREFIX` of its name).
    pub(super) lacks: Text,
    /// Without it the finding is certain.
    #[serde(default)]
    pub(super) certain: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LogRule {
    #[serde(default)]
    pub(super) sets: Vec<Text>,
    #[serde(default)]
    pub(super) except: Vec<Text>,
    pub(super) lines: Vec<Pattern>,
    #[serde(default)]
    pub(super) unless: Vec<Pattern>,
    #[serde(default)]
    pub(super) with: Vec<Pattern>,
    #[serde(default)]
    pub(super) without: Vec<Pattern>,
    #[serde(default)]
    pub(super) overcome: Vec<Pattern>,
    #[serde(default)]
    pub(super) ended: bool,
    #[serde(default)]
    pub(super) unwell: bool,
    #[serde(default)]
    pub(super) for_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EventRule {
    #[serde(default)]
    pub(super) reasons: Vec<Text>,
    #[serde(default)]
    pub(super) messages: Vec<Pattern>,
    #[serde(default)]
    pub(super) for_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ConditionRule {
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) messages: Vec<Pattern>,
    pub(super) for_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RestartRule {
    pub(super) within_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TaintRule {
    keys: Vec<Text>,
    pub(super) for_s: u32,
}

impl TaintRule {
    pub(super) fn names(&self, key: &str) -> bool {
        self.keys.iter().any(|k| k.strip_prefix('*').map_or(**k == *key, |end| key.ends_with(end)))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ActivityRule {
    pub(super) messages: Vec<Pattern>,
    pub(super) within_s: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct UnjoinedRule {
    pub(super) after_s: u32,
    #[serde(default)]
    pub(super) console: Vec<Pattern>,
    #[serde(default)]
    pub(super) not_admitted: bool,
    #[serde(default)]
    pub(super) no_addresses: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WarmedRule {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct EvictionRule {
    pub(super) kind: Eviction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Eviction {
    Exhausted,
    Overlap,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct UnmetRule {
    pub(super) after_s: u32,
}

/// Signatures, ready to be looked for.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// In the order in which they are told.
    pub signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    signature: Vec<Signature>,
}

impl Catalogue {
    /// The signatures that are built in; `service` is the address of Service `default/kubernetes`.
    ///
    /// # Errors
    /// None: a test reads them.
    pub fn built_in(service: Option<&str>) -> Result<Self, CatalogueError> {
        Self::parse(DIAGNOSTICS, service)
    }

    /// Reads signatures.
    ///
    /// # Errors
    /// If they are not as `config/diagnostics.toml` describes them.
    pub fn parse(text: &str, service: Option<&str>) -> Result<Self, CatalogueError> {
        let File { signature: mut signatures } = toml::from_str(text)?;
        let mut names = BTreeSet::new();
        for signature in &signatures {
            if !names.insert(signature.name.clone()) {
                return Err(CatalogueError::Twice(signature.name.clone()));
            }
        }
        for signature in &mut signatures {
            if !signature.has_rule() {
                return Err(CatalogueError::Empty(signature.name.clone()));
            }
            for (key, named) in [("symptom-of", &signature.symptom_of), ("explained-by", &signature.explained_by)] {
                if let Some(unknown) = named.iter().find(|name| !names.contains(*name)) {
                    let (signature, named) = (signature.name.clone(), unknown.clone());
                    return Err(CatalogueError::Unknown { signature, key, named });
                }
            }
            let name = signature.name.clone();
            for pattern in signature.patterns() {
                pattern.compile(&name, service)?;
            }
        }
        Ok(Self { signatures })
    }
}

impl Signature {
    fn has_rule(&self) -> bool {
        let lists =
            self.spec.is_some() || !self.logs.is_empty() || !self.events.is_empty() || !self.condition.is_empty();
        let states = self.restart.is_some() || self.taint.is_some() || self.unmet.is_some() || self.warmed.is_some();
        lists || states || self.activity.is_some() || self.unjoined.is_some() || self.eviction.is_some()
    }

    /// Whether it is found by a spec, and not only weighed by it.
    pub(super) fn is_of_spec(&self) -> bool {
        self.spec.is_some() && self.logs.is_empty() && self.restart.is_none()
    }

    fn patterns(&mut self) -> impl Iterator<Item = &mut Pattern> {
        let logs = self.logs.iter_mut().flat_map(|rule| {
            let (lines, overcome) = (rule.lines.iter_mut(), &mut rule.overcome);
            lines.chain(&mut rule.unless).chain(&mut rule.with).chain(&mut rule.without).chain(overcome)
        });
        let events = self.events.iter_mut().flat_map(|rule| &mut rule.messages);
        let conditions = self.condition.iter_mut().flat_map(|rule| &mut rule.messages);
        let activity = self.activity.iter_mut().flat_map(|rule| &mut rule.messages);
        let consoles = self.unjoined.iter_mut().flat_map(|rule| &mut rule.console);
        logs.chain(events).chain(conditions).chain(activity).chain(consoles)
    }

    /// The fix for what was found in `set`.
    pub(super) fn fix_for(&self, set: Option<&str>) -> Option<&Text> {
        set.and_then(|set| self.fixes.get(set)).or(self.fix.as_ref())
    }
}
