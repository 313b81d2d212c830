//! Lines to a stream that may be slow or gone, on a thread of its own: a full pipe or a stopped terminal
//! must never stop a rotation, which has a lock to renew.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

/// Bytes that may wait for a slow reader; lines beyond are dropped and counted.
const BACKLOG: usize = 64 << 20;

/// What became of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines dropped because the reader was too slow.
    pub dropped: usize,
    /// Why writing ended early; a reader that closed its end is not an error.
    pub error: Option<String>,
}

/// A stream of lines.
#[derive(Debug)]
pub struct Output {
    lines: Sender<String>,
    waiting: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    dropped: usize,
    done: oneshot::Receiver<Option<String>>,
}

impl Output {
    /// Writes to `target` from a thread of its own.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(target: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let (lines, queue) = channel();
        let (report, done) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let (count, gone) = (Arc::clone(&waiting), Arc::clone(&closed));
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let error = write_all(&queue, &count, target).err();
            gone.store(true, Ordering::Relaxed);
            let broken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            // The receiver may have left without waiting; then nobody asks.
            let _ = report.send(error.filter(|e| !broken(e)).map(|e| e.to_string()));
        })?;
        Ok(Self { lines, waiting, closed, dropped: 0, done })
    }

    /// Hands over a line (its newline is added). Never blocks.
    pub fn line(&mut self, line: String) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let size = line.len();
        if self.waiting.fetch_add(size, Ordering::Relaxed) > BACKLOG {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            self.dropped += 1;
        } else if self.lines.send(line).is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Hands over several lines.
    pub fn text(&mut self, text: &str) {
        for line in text.lines() {
            self.line(line.to_owned());
        }
    }

    /// The same outside a runtime; what could not be written is not told.
    pub fn close(self) {
        drop(self.lines);
        // The thread has ended either way.
        let _ = self.done.blocking_recv();
    }

    /// Waits until everything is written or the reader is gone.
    pub async fn finish(self) -> Written {
        drop(self.lines);
        Written { dropped: self.dropped, error: self.done.await.ok().flatten() }
    }
}

fn write_all(queue: &Receiver<String>, waiting: &AtomicUsize, target: Box<dyn Write + Send>) -> std::io::Result<()> {
    let mut target = BufWriter::new(target);
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            waiting.fetch_sub(line.len(), Ordering::Relaxed);
            target.write_all(line.as_bytes())?;
            target.write_all(b"\n")?;
            next = queue.try_recv().ok();
        }
        target.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Failing(std::io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_line_is_written_in_order() {
        let shared = Shared::default();
        let mut output = Output::new(Box::new(shared.clone())).unwrap();
        output.text("one\ntwo");
        output.line("three".to_owned());
        assert_eq!(output.finish().await, Written::default());
        assert_eq!(*shared.0.lock().unwrap(), b"one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
        for (kind, told) in [(std::io::ErrorKind::BrokenPipe, false), (std::io::ErrorKind::StorageFull, true)] {
            let mut output = Output::new(Box::new(Failing(kind))).unwrap();
            output.line("x".to_owned());
            assert_eq!(output.finish().await.error.is_some(), told, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_stuck_reader_costs_lines_and_never_time() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, gate) = channel();
        let mut output = Output::new(Box::new(Stuck(gate))).unwrap();
        let line = "x".repeat(BACKLOG / 4);
        for _ in 0..10 {
            output.line(line.clone());
        }
        drop(release);
        assert!(output.finish().await.dropped >= 4);
    }
}
