//! Draws [`super::view::View`] on the terminal: the only place that knows indicatif.
//!
//! A thread of its own draws at most `FRAMES` times a second by the wall clock, whatever the speed of the
//! events; a terminal that has stopped (Ctrl-S) stops that thread and nothing else.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

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
    /// Prints a line with the next frame. Never blocks.
    pub fn print(&self, line: &str) {
        let mut state = lock(&self.0);
        state.lines.push(line.to_owned());
        state.dirty = true;
    }
}

/// The terminal, its cursor left at the beginning of the last line: indicatif leaves it at the end, where the
/// `^C` that a terminal echoes would break the line and leave a part of the bars behind.
#[derive(Debug)]
struct Corner(Term);

impl TermLike for Corner {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.write_str("\r")?;
        self.0.flush()
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
        let term = Term::buffered_stderr();
        // Throttled by the thread below; indicatif's own limit would swallow a last frame now and then.
        let bar = ProgressBar::with_draw_target(
            None,
            ProgressDrawTarget::term_like_with_hz(Box::new(Corner(term.clone())), 100),
        );
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let (stop, stopped) = channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let mut size = term.size();
            loop {
                let wait = stopped.recv_timeout(Duration::from_millis(1000 / FRAMES));
                let resized = std::mem::replace(&mut size, term.size()) != size;
                draw(&shared, &bar, &term, resized, paint);
                if !matches!(wait, Err(RecvTimeoutError::Timeout)) {
                    bar.finish_and_clear();
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

fn draw(state: &Mutex<State>, bar: &ProgressBar, term: &Term, resized: bool, paint: Paint) {
    let (above, lines) = {
        let mut state = lock(state);
        if !std::mem::take(&mut state.dirty) && !resized {
            return;
        }
        let above = std::mem::take(&mut state.lines);
        let (height, width) = term.size();
        let (height, width) = (usize::from(height), usize::from(width));
        // The last column is left alone: some terminals wrap on it.
        (above, state.view.lines(width.saturating_sub(1), height, paint))
    };
    if !above.is_empty() {
        // Not `println`: it loses count of a message of several lines.
        bar.suspend(|| {
            // A terminal that has gone away shows nothing more, and the rotation does not need it.
            let _ = term.write_line(&above.join("\n")).and_then(|()| term.flush());
        });
    }
    bar.set_message(lines.join("\n"));
}
