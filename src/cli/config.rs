//! `fastnode config list`: every setting, its value and its source.

use std::fmt::Write;

use serde_json::json;

use super::printer::{Format, Printer};
use crate::config::{Config, Source};

/// Prints every setting.
pub fn list(config: &Config, printer: &Printer) {
    printer.out(&match printer.format {
        Format::Json => as_json(config),
        Format::Human | Format::Plain => as_text(config, printer),
    });
}

fn as_json(config: &Config) -> String {
    let all: Vec<_> =
        config.iter().map(|(key, s)| json!({"key": key, "value": s.value, "source": s.source.to_string()})).collect();
    format!("{:#}\n", serde_json::Value::from(all))
}

fn as_text(config: &Config, printer: &Printer) -> String {
    let values: Vec<_> = config.iter().map(|(key, s)| (key, s.value.to_string(), &s.source)).collect();
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let keys = widest(&mut values.iter().map(|(key, ..)| key.len()));
    let texts = widest(&mut values.iter().map(|(_, text, _)| text.chars().count())).min(30);
    let mut out = String::new();
    for (key, text, source) in &values {
        let line = format!("{key:<keys$}  {text:<texts$}  {source}");
        let set = **source != Source::Default;
        let _ = writeln!(out, "{}", if set { line } else { printer.paint.dim(&line) });
    }
    out
}
