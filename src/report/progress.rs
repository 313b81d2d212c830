//! Draws [`super::view::View`] on the terminal: the only place that knows indicatif.
//!
//! indicatif composes the frames and decides when one is due; `Surface` is the terminal it draws on, and has
//! the `Canvas` write each frame so that no resizing tears it.
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

use super::canvas::{CLEAR_BELOW, Canvas};
use super::plain::{Detail, PlainLines};
use super::text::Paint;
use super::view::View;
use crate::event::Event;

/// Redraws a second at most.
const FRAMES: u64 = 12;

/// Redraws a second that indicatif lets pass: more than come, or its limit would swallow a last frame.
const PATIENCE: u8 = 100;

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
            let surface = Surface(Arc::new(Frame::new(Term::buffered_stderr())));
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(surface.clone()), PATIENCE);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            let mut size = surface.0.term.size();
            loop {
                let goes_on =
                    stopped.recv_timeout(Duration::from_millis(1000 / FRAMES)) == Err(RecvTimeoutError::Timeout);
                let resized = std::mem::replace(&mut size, surface.0.term.size()) != size;
                draw(&shared, &surface, &bar, (size, resized, goes_on), paint);
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

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while drawing leaves what is kept whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws one frame; the last one (not `goes_on`) takes the bars away.
fn draw(
    state: &Mutex<State>,
    surface: &Surface,
    bar: &ProgressBar,
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
    lock(&surface.0.drawn).above.extend(above);
    if goes_on {
        bar.set_message(lines.join("\n"));
    } else {
        bar.finish_and_clear();
    }
}

/// What indicatif draws on: it takes a frame's lines in, and the canvas writes them when the frame is whole.
/// Where the cursor goes is the canvas's to say.
#[derive(Clone, Debug)]
struct Surface(Arc<Frame>);

#[derive(Debug)]
struct Frame {
    term: Term,
    drawn: Mutex<Drawn>,
}

#[derive(Debug, Default)]
struct Drawn {
    canvas: Canvas,
    /// To be printed for good with the next frame.
    above: Vec<String>,
    /// The frame so far. indicatif writes each line at once and goes to the next by filling it with spaces.
    lines: Vec<String>,
}

impl Frame {
    fn new(term: Term) -> Self {
        Self { term, drawn: Mutex::default() }
    }
}

impl TermLike for Surface {
    fn width(&self) -> u16 {
        self.0.term.size().1
    }

    fn height(&self) -> u16 {
        self.0.term.size().0
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        // What goes back to a line's beginning or fills it up is the canvas's to say.
        if !text.trim_matches([' ', '\r']).is_empty() {
            lock(&self.0.drawn).lines.push(text.to_owned());
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawn = lock(&self.0.drawn);
        let lines = std::mem::take(&mut drawn.lines);
        let above = std::mem::take(&mut drawn.above);
        let frame = drawn.canvas.frame(&above, &lines, self.0.term.size());
        drop(drawn);
        // A terminal that has gone away shows nothing more, and the rotation does not need it.
        let _ = self.0.term.write_str(&frame).and_then(|()| self.0.term.flush());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_frame_gets_a_row_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let term = Term::read_write_pair(file.reopen().unwrap(), file.reopen().unwrap());
        let surface = Surface(Arc::new(Frame::new(term)));
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(surface), PATIENCE);
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap());
        bar.set_message("compute ━━··\ngeneral ━···\n0 of 9 nodes rotated");
        let drawn = std::fs::read_to_string(file.path()).unwrap();
        let rows = ["compute ━━··", "general ━···", "0 of 9 nodes rotated"].join("\x1b[K\r\n");
        assert!(drawn.contains(&format!("{rows}\x1b[K")), "{drawn:?}");
    }
}
