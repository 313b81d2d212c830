//! Hands events to whatever shows them: bars or lines or JSON on standard output, JSON in a file.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::json::JsonLines;
use super::output::Output;
use super::plain::{Detail, PlainLines};
use super::progress::{Progress, Screen};
use super::text::{Paint, count};
use crate::event::{Event, EventKind, Report};

/// How a rotation is shown on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Bars on the terminal; lines only for what is notable.
    Bars(Paint, Detail),
    /// Lines.
    Lines(Paint, Detail),
    /// JSON lines.
    Json,
}

/// Why there is no reporter.
#[derive(Debug, thiserror::Error)]
pub enum ReporterError {
    /// The events file cannot be made.
    #[error("failed to write events to {path}", path = path.display())]
    Events {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("failed to start a thread for the output")]
    Thread(#[from] std::io::Error),
}

#[derive(Debug)]
enum Face {
    /// Bars that are not on the screen yet: they come with the start of the rotation, below the plan.
    Waiting(Paint, Detail, Vec<Event>),
    Bars(Progress),
    Lines(PlainLines),
    Json(JsonLines),
}

/// Takes every event; never blocks.
#[derive(Debug)]
pub struct Reporter {
    face: Face,
    out: Output,
    file: Option<(PathBuf, JsonLines, Output)>,
    finished: Option<Report>,
    on_bars: fn(Option<Screen>),
}

impl Reporter {
    /// Shows events as `show` says, and writes them to the file `events` too. `on_bars` is told when bars come
    /// and go: whatever else prints on the terminal has to go through them.
    ///
    /// # Errors
    /// If the file or a thread cannot be made.
    pub fn new(show: Show, events: Option<&Path>, on_bars: fn(Option<Screen>)) -> Result<Self, ReporterError> {
        let face = match show {
            Show::Bars(paint, detail) => Face::Waiting(paint, detail, Vec::new()),
            Show::Lines(paint, detail) => Face::Lines(PlainLines::new(detail, paint)),
            Show::Json => Face::Json(JsonLines::default()),
        };
        let open = |path: &Path| {
            let file = File::create(path).map_err(|source| ReporterError::Events { path: path.to_owned(), source })?;
            Ok::<_, ReporterError>((path.to_owned(), JsonLines::default(), Output::new(Box::new(file))?))
        };
        let file = events.map(open).transpose()?;
        Ok(Self { face, out: Output::new(Box::new(std::io::stdout()))?, file, finished: None, on_bars })
    }

    /// Takes in one event.
    pub fn event(&mut self, event: &Event) {
        if let Some((_, json, file)) = &mut self.file
            && let Some(line) = json.line(event)
        {
            file.line(line);
        }
        if let EventKind::RotationFinished(report) = &event.kind {
            self.finished = Some((**report).clone());
        }
        match &mut self.face {
            Face::Waiting(paint, detail, before) => {
                before.push(event.clone());
                if matches!(event.kind, EventKind::RotationStarted { .. }) {
                    let (paint, detail, before) = (*paint, *detail, std::mem::take(before));
                    self.start_bars(paint, detail, before);
                }
            }
            Face::Bars(progress) => progress.event(event),
            Face::Lines(plain) => plain.lines(event).into_iter().for_each(|line| self.out.line(line)),
            Face::Json(json) => json.line(event).into_iter().for_each(|line| self.out.line(line)),
        }
    }

    /// The report, once the rotation has finished.
    pub fn report(&self) -> Option<&Report> {
        self.finished.as_ref()
    }

    fn start_bars(&mut self, paint: Paint, detail: Detail, before: Vec<Event>) {
        self.face = match Progress::start(paint, detail) {
            Ok(progress) => {
                (self.on_bars)(Some(progress.screen()));
                Face::Bars(progress)
            }
            // No thread for the bars: lines need none.
            Err(_) => Face::Lines(PlainLines::new(Detail::Nodes, paint)),
        };
        before.iter().for_each(|event| self.event_again(event));
    }

    /// Shows an event that the file has already.
    fn event_again(&mut self, event: &Event) {
        match &mut self.face {
            Face::Bars(progress) => progress.event(event),
            Face::Lines(plain) => plain.lines(event).into_iter().for_each(|line| self.out.line(line)),
            Face::Waiting(..) | Face::Json(_) => {}
        }
    }

    /// Takes the bars away, writes `ending` below, and waits until everything is written or nobody reads.
    /// Says what could not be written.
    pub async fn finish(mut self, ending: &str) -> Vec<String> {
        if let Face::Bars(progress) = self.face {
            progress.finish();
            (self.on_bars)(None);
        }
        self.out.text(ending);
        let mut lost = Vec::new();
        let written = self.out.finish().await;
        if let Some(error) = written.error {
            lost.push(format!("failed to write to standard output: {error}"));
        }
        if written.dropped > 0 {
            lost.push(format!(
                "{} of standard output dropped: it was read too slowly",
                count(written.dropped as u64, "line")
            ));
        }
        if let Some((path, _, file)) = self.file {
            let written = file.finish().await;
            if let Some(error) = written.error {
                lost.push(format!("failed to write events to {}: {error}", path.display()));
            }
            if written.dropped > 0 {
                lost.push(format!(
                    "{} dropped: {} took them too slowly",
                    count(written.dropped as u64, "event"),
                    path.display()
                ));
            }
        }
        lost
    }
}
