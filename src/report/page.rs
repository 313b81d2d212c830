//! A page for people: what `plan`, `measure` and `doctor` print. Each adds to it the parts it is made of.

use std::fmt::Write;

use super::text::{Paint, clip};

/// Lines for a terminal of a width.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) width: usize,
    pub(super) paint: Paint,
}

impl Page {
    /// A page that begins with a headline.
    pub(super) fn new(headline: &str, width: usize, paint: Paint) -> Self {
        let mut page = Self { text: String::new(), width, paint };
        page.line(&paint.bold(&clip(headline, width)));
        page
    }

    /// Adds a line.
    pub(super) fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", line.trim_end());
    }
}
