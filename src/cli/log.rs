//! fastnode's own log, on standard error: above the bars while there are some, and never in their way.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::exit::Exit;
use super::failure::Failure;
use crate::config::Config;
use crate::report::output::Output;
use crate::report::progress::Screen;
use crate::report::text::Paint;

struct Target {
    bars: Option<Screen>,
    /// On a thread of its own: a full pipe must not stop a rotation.
    stderr: Option<Output>,
}

static TARGET: Mutex<Target> = Mutex::new(Target { bars: None, stderr: None });

fn target() -> MutexGuard<'static, Target> {
    TARGET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts logging as the settings say.
///
/// # Errors
/// If `log-level` is no filter, or the thread cannot be started.
pub fn start(config: &Config, paint: Paint) -> Result<(), Failure> {
    let level = config.text("log-level")?.unwrap_or("warn");
    // What a library warns of ends in an error of ours, which says it once and with what helps.
    let level = match (config.flag("quiet")?, config.flag("verbose")?, level) {
        (true, _, _) | (_, false, "error") => "off,fastnode=error",
        (_, true, "warn") => "warn,fastnode=info",
        (_, false, "warn") => "off,fastnode=warn",
        (_, _, level) => level,
    };
    let filter = config.parsed("log-level", |_| {
        let wrong =
            || format!("{level:?} is not a level (error, warn, info, debug, trace) or a filter such as fastnode=debug");
        // A word that is no level would be taken for a module's name.
        let known = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            level.trim().parse::<LevelFilter>().is_ok()
        };
        let filter = level.split(',').all(known).then(|| EnvFilter::try_new(level).ok()).flatten();
        filter.ok_or_else(wrong)
    })?;
    target().stderr = Some(Output::new(Box::new(std::io::stderr()))?);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(paint.color)
        .with_target(false)
        .without_time()
        .with_writer(Lines)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    for name in &config.unknown_variables {
        tracing::warn!("the variable {name} names no setting; fastnode config list shows all");
    }
    Ok(())
}

/// Bars have come, or gone.
pub fn bars(screen: Option<Screen>) {
    target().bars = screen;
}

/// Takes the bars away, if there are any and nothing is being written: for an end at once.
pub fn leave() {
    if TARGET.try_lock().is_ok_and(|target| target.bars.is_some()) {
        Screen::leave();
    }
}

/// Waits until everything is written.
pub fn finish() {
    let stderr = target().stderr.take();
    if let Some(stderr) = stderr {
        stderr.close();
    }
}

struct Lines;

/// One event of the log, written when it is complete.
struct Entry(Vec<u8>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Entry;
    fn make_writer(&'a self) -> Entry {
        Entry(Vec::new())
    }
}

impl Write for Entry {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim_end();
        let mut target = target();
        if let Some(screen) = &target.bars {
            text.lines().for_each(|line| screen.print(line));
        } else if let Some(stderr) = &mut target.stderr {
            stderr.text(text);
        }
    }
}
