//! Draws [`super::view::View`] on the terminal.
//!
//! A thread of its own draws at most `FRAMES` times a second by the wall clock, whatever the speed of the
//! events; a terminal that has stopped (Ctrl-S) stops that thread and nothing else.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use console::Term;

use super::canvas::{CLEAR_BELOW, Canvas};
use super::plain::{Detail, PlainLines};
use super::text::Paint;
use super::view::View;
use crate::event::Event;

/// Redraws a second at most.
const FRAMES: u64 = 12;

#[derive(Debug)]
struct State {
    view: View,
    above: PlainLines,
    lines: Vec<String>,
    dirty: bool,
}

/// The bars, while they are on the screen.
#[derive(Debug)]
pub struct Progress {
    state: Arc<Mutex<State>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// A way to print whole lines above the bars.
#[derive(Clone, Debug)]
pub struct Screen(Arc<Mutex<State>>);

impl Screen {
    /// Takes the bars away without the drawing thread, for an end that waits for nothing.
    pub fn leave() {
        let term = Term::stderr();
        // Nobody is left to be told.
        let _ = term.write_str(&format!("\r{CLEAR_BELOW}"));
    }

    /// Prints a line with the next frame. Never blocks.
    pub fn print(&self, line: &str) {
        let mut state = lock(&self.0);
        state.lines.push(line.to_owned());
        state.dirty = true;
    }
}

impl Progress {
    /// Starts drawing on standard error, which has to be a terminal.
    ///
    /// # Errors
    /// If the drawing thread cannot be started.
    pub fn start(paint: Paint, detail: Detail) -> io::Result<Self> {
        let state =
            State { view: View::default(), above: PlainLines::new(detail, paint), lines: Vec::new(), dirty: false };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let term = Term::buffered_stderr();
            let mut size = term.size();
            let mut canvas = Canvas::default();
            loop {
                let goes_on =
                    stopped.recv_timeout(Duration::from_millis(1000 / FRAMES)) == Err(RecvTimeoutError::Timeout);
                let resized = std::mem::replace(&mut size, term.size()) != size;
                draw(&shared, &mut canvas, &term, (size, resized, goes_on), paint);
                if !goes_on {
                    return;
                }
            }
        })?;
        Ok(Self { state, stop, thread: Some(thread) })
    }

    /// Takes in one event; drawn with the next frame.
    pub fn event(&self, event: &Event) {
        let mut state = lock(&self.state);
        let lines = state.above.lines(event);
        state.lines.extend(lines);
        state.view.fold(event);
        state.dirty = true;
    }

    /// A way to print above the bars.
    pub fn screen(&self) -> Screen {
        Screen(Arc::clone(&self.state))
    }

    /// Draws what is left to print, and takes the bars away.
    pub fn finish(mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic while drawing leaves the fold whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws one frame; the last one (not `goes_on`) takes the bars away.
fn draw(
    state: &Mutex<State>,
    canvas: &mut Canvas,
    term: &Term,
    (size, resized, goes_on): ((u16, u16), bool, bool),
    paint: Paint,
) {
    let (above, lines) = {
        let mut state = lock(state);
        if !std::mem::take(&mut state.dirty) && !resized && goes_on {
            return;
        }
        let above = std::mem::take(&mut state.lines);
        let (height, width) = (usize::from(size.0), usize::from(size.1));
        // The last column is left alone: some terminals wrap on it.
        let lines = if goes_on { state.view.lines(width.saturating_sub(1), height, paint) } else { Vec::new() };
        (above, lines)
    };
    // A terminal that has gone away shows nothing more, and the rotation does not need it.
    let _ = term.write_str(&canvas.frame(&above, &lines, size)).and_then(|()| term.flush());
}
