//! What can be wrong with settings; each error names the place, the key, the value and what would be right.

use std::path::{Path, PathBuf};

use super::Source;

/// A setting, or a file of them, that cannot be used. All of them are exit 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration file {path}", path = path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("failed to read the configuration file {path}, line {line}: {problem}", path = path.display())]
    Syntax {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The file has a key that does not exist.
    #[error("failed to read the configuration file {path}, line {line}: there is no key {key:?}{hint}", path = path.display())]
    UnknownKey {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The nearest key there is.
        hint: String,
    },
    /// A value of the wrong type or out of range.
    #[error("failed to read {}: {problem}", name(key, source_of_it))]
    Value {
        /// The key.
        key: String,
        /// Where the value came from.
        source_of_it: Source,
        /// The value, and what would be right.
        problem: String,
    },
    /// The program asked for a key that `config/default.toml` does not have.
    #[error("failed to find the setting {key:?}")]
    NoSuchKey {
        /// The key.
        key: String,
    },
}

fn name(key: &str, source: &Source) -> String {
    match source {
        Source::Flag(flag) => flag.clone(),
        Source::Variable(variable) => variable.clone(),
        Source::File { .. } | Source::Scenario(_) => format!("{key} ({source})"),
        Source::Default => format!("the default of {key}"),
    }
}

impl ConfigError {
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        Self::Syntax { path: path.to_owned(), line, problem: error.message().to_owned() }
    }

    pub(super) fn unknown<'a>(path: &Path, line: usize, key: &str, keys: impl Iterator<Item = &'a String>) -> Self {
        let nearest = keys.map(|k| (distance(key, k), k)).min().filter(|(d, _)| *d <= key.len() / 3);
        let hint = match nearest {
            Some((_, nearest)) => format!("; {nearest:?} is the nearest one"),
            None => "; fastnode config list shows all keys".to_owned(),
        };
        Self::UnknownKey { path: path.to_owned(), line, key: key.to_owned(), hint }
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// Edits (Levenshtein) between two short words; `_` and `-` count as the same.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.replace('_', "-").chars().collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, cb) in b.chars().enumerate() {
        let mut diagonal = row.first().copied().unwrap_or_default();
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (ca, cell) in a.iter().zip(row.iter_mut().skip(1)) {
            let substitute = diagonal + usize::from(*ca != cb);
            diagonal = *cell;
            *cell = substitute.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}
