//! Settings in layers, each value with its source.
//!
//! ```text
//! config/default.toml  <  (scenario)  <  file  <  environment  <  flag
//! ```
//!
//! `config/default.toml` is embedded and is the list of keys: a key is a flag of the same name and a variable
//! `FASTNODE_<KEY>`. Reading a value checks its type and range, and an error names where it came from.

mod error;
mod policy;
mod selector;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::{Spanned, Table, Value};

pub use error::ConfigError;
pub use policy::{ASK, PastBudgets, Speed};

/// The defaults, as shipped: every key with its comment.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// The variable that names the file, as `--config` does. It is no key: a file cannot name itself.
pub const CONFIG_VARIABLE: &str = "FASTNODE_CONFIG";

/// The variable that names the node fastnode runs on (downward API); set by the deployment, not a key.
pub const NODE_VARIABLE: &str = "FASTNODE_NODE_NAME";
/// The variable that names the pod fastnode runs in (downward API); without it, the host's name.
pub const POD_VARIABLE: &str = "FASTNODE_POD_NAME";
/// The variable that names that pod's namespace; without it, [`NAMESPACE_FILE`].
pub const NAMESPACE_VARIABLE: &str = "FASTNODE_POD_NAMESPACE";
/// Where the kubelet puts the namespace of a pod's service account.
pub const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `config/default.toml`.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The simulated scenario; anything a person sets goes before it.
    Scenario(String),
    /// This environment variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Scenario(name) => write!(f, "scenario {name}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value as given; flags and variables are text.
    pub value: Value,
    /// Its source.
    pub source: Source,
}

impl Setting {
    /// Flags and variables can only be text; files must use the right type.
    fn is_text_source(&self) -> bool {
        matches!(self.source, Source::Variable(_) | Source::Flag(_))
    }
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    settings: BTreeMap<String, Setting>,
    /// Variables that begin with `FASTNODE_` and name no key: most likely misspelt.
    pub unknown_variables: Vec<String>,
}

/// The variable of a key: `FASTNODE_DRAIN_TIMEOUT`.
pub fn variable(key: &str) -> String {
    format!("FASTNODE_{}", key.to_uppercase().replace('-', "_"))
}

/// The file read where none is named: `$XDG_CONFIG_HOME/fastnode/config.toml`, else under `~/.config`.
pub fn default_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("fastnode/config.toml"))
}

impl Config {
    /// The defaults alone.
    ///
    /// # Errors
    /// If the embedded defaults are not valid TOML.
    pub fn defaults() -> Result<Self, ConfigError> {
        let table: Table = DEFAULTS
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::syntax(Path::new("config/default.toml"), DEFAULTS, &e))?;
        let default = |(key, value)| (key, Setting { value, source: Source::Default });
        Ok(Self { settings: table.into_iter().map(default).collect(), unknown_variables: Vec::new() })
    }

    /// Lays a file over what there is.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has a key that does not exist.
    pub fn with_file(mut self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table: BTreeMap<Spanned<String>, Spanned<Value>> =
            toml::from_str(&text).map_err(|e| ConfigError::syntax(path, &text, &e))?;
        for (key, value) in table {
            let line = error::line_of(&text, key.span().start);
            let key = key.into_inner();
            if !self.settings.contains_key(&key) {
                return Err(ConfigError::unknown(path, line, &key, self.settings.keys()));
            }
            let source = Source::File { path: path.to_owned(), line };
            self.settings.insert(key, Setting { value: value.into_inner(), source });
        }
        Ok(self)
    }

    /// Lays `FASTNODE_…` variables over what there is. An empty one counts as not set.
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let keys: BTreeMap<String, String> = self.settings.keys().map(|k| (variable(k), k.clone())).collect();
        let mut unknown = BTreeSet::new();
        for (name, text) in variables {
            match keys.get(&name) {
                Some(_) if text.is_empty() => {}
                Some(key) => {
                    let setting = Setting { value: Value::String(text), source: Source::Variable(name) };
                    self.settings.insert(key.clone(), setting);
                }
                None if is_misspelt(&name) => drop(unknown.insert(name)),
                None => {}
            }
        }
        self.unknown_variables.extend(unknown);
        self
    }

    /// Lays flags over what there is: text by key.
    pub fn with_flags(mut self, flags: Table) -> Self {
        for (key, value) in flags {
            let source = Source::Flag(format!("--{key}"));
            self.settings.insert(key, Setting { value, source });
        }
        self
    }

    /// Puts what a scenario sets in the place of defaults.
    pub fn with_scenario(mut self, name: &str, choices: Table) -> Self {
        for (key, value) in choices {
            if let Some(setting) = self.settings.get_mut(&key).filter(|s| s.source == Source::Default) {
                *setting = Setting { value, source: Source::Scenario(name.to_owned()) };
            }
        }
        self
    }

    /// Every key with its value and source, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// Where a key's value came from.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.settings.get(key).map(|s| &s.source)
    }

    fn get(&self, key: &str) -> Result<&Setting, ConfigError> {
        self.settings.get(key).ok_or_else(|| ConfigError::NoSuchKey { key: key.to_owned() })
    }

    fn wrong(&self, key: &str, setting: &Setting, wanted: &str) -> ConfigError {
        self.invalid(key, setting, format!("{} is not {wanted}", setting.value))
    }

    fn invalid(&self, key: &str, setting: &Setting, problem: String) -> ConfigError {
        ConfigError::Value { key: key.to_owned(), source_of_it: setting.source.clone(), problem }
    }

    /// A text; `None` where empty.
    ///
    /// # Errors
    /// If it is not a text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        let setting = self.get(key)?;
        match &setting.value {
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(self.wrong(key, setting, "a text in quotes")),
        }
    }

    /// A yes or no.
    ///
    /// # Errors
    /// If it is neither.
    pub fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        let setting = self.get(key)?;
        match &setting.value {
            Value::Boolean(yes) => Ok(*yes),
            Value::String(text) if setting.is_text_source() => {
                text.parse().map_err(|_| self.wrong(key, setting, "true or false"))
            }
            _ => Err(self.wrong(key, setting, "true or false")),
        }
    }

    /// A whole number from `least`.
    ///
    /// # Errors
    /// If it is not one, or out of range.
    pub fn number<T>(&self, key: &str, least: T) -> Result<T, ConfigError>
    where
        T: TryFrom<i64> + FromStr + PartialOrd + fmt::Display + Copy,
    {
        let setting = self.get(key)?;
        let number = match &setting.value {
            Value::Integer(n) => T::try_from(*n).ok(),
            Value::String(text) if setting.is_text_source() => text.parse().ok(),
            _ => None,
        };
        number.filter(|n| *n >= least).ok_or_else(|| self.wrong(key, setting, &format!("a whole number from {least}")))
    }

    /// A list of texts; flags and variables may separate them by commas.
    ///
    /// # Errors
    /// If it is not a list of texts.
    pub fn words(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let setting = self.get(key)?;
        let split = |text: &str| text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
        match &setting.value {
            Value::String(text) if setting.is_text_source() => Ok(split(text)),
            Value::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let texts = texts.ok_or_else(|| self.wrong(key, setting, "a list of texts in quotes"))?;
                Ok(if setting.is_text_source() {
                    texts.into_iter().flat_map(|t| -> Vec<String> { split(t) }).collect()
                } else {
                    texts.into_iter().map(str::to_owned).collect()
                })
            }
            _ => Err(self.wrong(key, setting, "a list of texts in quotes, such as [\"a\", \"b\"]")),
        }
    }

    /// What `parse` makes of a text or whole number.
    ///
    /// # Errors
    /// If it is neither, or `parse` refuses it.
    pub fn parsed<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let setting = self.get(key)?;
        let text = match &setting.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        parse(&text).map_err(|problem| self.invalid(key, setting, problem))
    }

    /// One of a few words.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        self.parsed(key, |text| {
            let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                format!("{text:?} is not one of {}", words.join(", "))
            })
        })
    }
}

/// In a pod, Kubernetes sets `FASTNODE_SERVICE_HOST`, `FASTNODE_PORT_443_TCP` and the like for a Service named
/// fastnode; everything else that begins like our variables is meant for us.
fn is_misspelt(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("FASTNODE_") else { return false };
    let service = rest.split('_').any(|word| word == "SERVICE" || word == "PORT");
    !service && ![CONFIG_VARIABLE, NODE_VARIABLE, POD_VARIABLE, NAMESPACE_VARIABLE].contains(&name)
}

#[cfg(test)]
mod tests;
