//! The one place that prints, apart from what [`crate::report`] draws and streams.
//!
//! A reader that has left (`| head -1`) is no error: what it does not want is not written. What cannot be written for
//! another reason, a full disk say, is: whoever asked for it must not take what there is for the whole.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use crate::config::{Config, ConfigError};
use crate::report::text::Paint;

/// What could not be written so far.
static LOST: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bars in a terminal, lines elsewhere.
    Human,
    /// Lines.
    Plain,
    /// JSON.
    Json,
}

/// Where things are printed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// The format of standard output.
    pub format: Format,
    /// Colours on standard output.
    pub paint: Paint,
    /// Colours on standard error.
    pub error_paint: Paint,
    /// Both outputs are terminals that somebody looks at: bars can be drawn.
    pub terminal: bool,
    /// The width to print for.
    pub width: usize,
}

impl Printer {
    /// By settings and what the outputs are.
    ///
    /// # Errors
    /// If `output` or `color` is none of their words.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let format =
            config.choice("output", &[("human", Format::Human), ("plain", Format::Plain), ("json", Format::Json)])?;
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let color = config.choice("color", &[("auto", None), ("always", Some(true)), ("never", Some(false))])?;
        // https://no-color.org: set to anything but nothing.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        // A build server's terminal is read later, as a file.
        let watched = std::env::var_os("CI").is_none_or(|v| v.is_empty() || v == "false");
        let paint = |terminal: bool| Paint { color: color.unwrap_or(terminal && wanted && !dumb) };
        let width = if out { usize::from(console::Term::stdout().size().1) } else { 80 };
        Ok(Self {
            format,
            paint: paint(out),
            error_paint: paint(err),
            terminal: out && err && !dumb && watched,
            width: width.clamp(40, 120),
        })
    }

    /// Writes `text` to standard output.
    pub fn out(&self, text: &str) {
        data(text);
    }

    /// Writes `text` to standard error.
    pub fn err(&self, text: &str) {
        complain(text);
    }
}

/// Writes data to standard output, whatever the settings are.
pub fn data(text: &str) {
    if let Err(e) = write(&mut std::io::stdout().lock(), text) {
        lose(format!("failed to write to standard output: {e}"));
    }
}

/// Writes an error to standard error; where that cannot be done there is nobody to tell.
pub fn complain(text: &str) {
    let _ = write(&mut std::io::stderr().lock(), text);
}

/// Notes that something was not written.
pub(super) fn lose(what: String) {
    LOST.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

/// What was not written since this was last asked.
pub(super) fn lost() -> Vec<String> {
    std::mem::take(&mut LOST.lock().unwrap_or_else(PoisonError::into_inner))
}

fn write(stream: &mut impl Write, text: &str) -> std::io::Result<()> {
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.or_else(|e| if e.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}
