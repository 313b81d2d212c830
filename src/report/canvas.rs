//! Lines at the bottom of the terminal that are drawn again and again, and whole lines above them.
//!
//! ```text
//!   what was printed above
//!  [c]compute ━━━━━━····      the cursor rests here, at the first cell of the first line
//!     general ━━········
//! ```
//!
//! A terminal that is resized wraps its lines anew before it tells, so where the drawn lines went cannot be
//! known; but the cursor keeps its place among them. Resting at their beginning, everything from the cursor on
//! is theirs, whatever the terminal has made of it. While they are drawn the terminal does not wrap: a line that
//! is too long for a terminal that has just become narrower is cut, and the rows written are those counted.
//!
//! What wrapping pushes out at the top is out of reach. So lines that were resized go to the bottom of the
//! terminal, where there is nothing below them that would push, and all of the screen above them to be pushed into.

use std::fmt::Write;

/// The terminal does not wrap.
const NO_WRAP: &str = "\x1b[?7l";
/// It does.
const WRAP: &str = "\x1b[?7h";
/// To the first cell of the terminal's last line, wherever that is.
const BOTTOM: &str = "\x1b[9999;1H";
/// Clears what is right of the cursor.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what is right of and below the cursor.
pub const CLEAR_BELOW: &str = "\x1b[J";

/// What is drawn.
#[derive(Debug, Default)]
pub struct Canvas {
    rows: usize,
    size: Option<(u16, u16)>,
}

impl Canvas {
    /// What to write so that a terminal of this size (height and width) shows `above`, for good, and `lines` below
    /// it until the next frame. No line may hold a line break; one that is wider than the terminal is cut.
    pub fn frame(&mut self, above: &[String], lines: &[String], size: (u16, u16)) -> String {
        let mut out = "\r".to_owned();
        let resized = self.size.is_some_and(|before| before != size);
        if resized || lines.len() < self.rows || !above.is_empty() {
            out.push_str(CLEAR_BELOW);
        }
        for line in above {
            let _ = write!(out, "{line}\r\n");
        }
        if resized && !lines.is_empty() {
            out.push_str(&"\n".repeat(lines.len() - 1));
            out.push_str(BOTTOM);
            up(&mut out, lines.len() - 1);
        }
        out.push_str(NO_WRAP);
        for (n, line) in lines.iter().enumerate() {
            let _ = write!(out, "{}{line}{CLEAR_LINE}", if n > 0 { "\r\n" } else { "" });
        }
        out.push_str(WRAP);
        up(&mut out, lines.len().saturating_sub(1));
        out.push('\r');
        (self.rows, self.size) = (lines.len(), Some(size));
        out
    }
}

fn up(out: &mut String, rows: usize) {
    if rows > 0 {
        let _ = write!(out, "\x1b[{rows}A");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that wraps its lines anew when it is resized and keeps its cursor at its character, as tmux does.
    struct Terminal {
        /// Scrolled-out ones first; a line that was wrapped goes on in the next.
        rows: Vec<(String, bool)>,
        cursor: (usize, usize),
        width: usize,
        height: usize,
        wraps: bool,
    }

    impl Terminal {
        fn new(width: usize, height: usize) -> Self {
            Self { rows: vec![(String::new(), false); height], cursor: (0, 0), width, height, wraps: true }
        }

        fn top(&self) -> usize {
            self.rows.len().saturating_sub(self.height)
        }

        fn write(&mut self, text: &str) {
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => self.cursor.1 = 0,
                    '\n' => self.down(),
                    '\x1b' => {
                        chars.next();
                        let mut code = String::new();
                        let letter = loop {
                            match chars.next().unwrap() {
                                c if c.is_alphabetic() => break c,
                                c => code.push(c),
                            }
                        };
                        self.escape(&code, letter);
                    }
                    c => self.put(c),
                }
            }
        }

        fn escape(&mut self, code: &str, letter: char) {
            let (row, column) = self.cursor;
            match (letter, code) {
                ('l', "?7") => self.wraps = false,
                ('h', "?7") => self.wraps = true,
                ('A', n) => self.cursor.0 = row.saturating_sub(n.parse().unwrap()).max(self.top()),
                ('H', _) => self.cursor = (self.rows.len() - 1, 0),
                ('K', _) => self.cut(row, column),
                ('J', _) => {
                    self.cut(row, column);
                    (row + 1..self.rows.len()).for_each(|row| self.cut(row, 0));
                }
                other => panic!("{other:?}"),
            }
        }

        fn cut(&mut self, row: usize, column: usize) {
            let (text, wrapped) = &mut self.rows[row];
            *text = text.chars().take(column).collect();
            *wrapped = false;
        }

        fn down(&mut self) {
            self.cursor.0 += 1;
            if self.cursor.0 == self.rows.len() {
                self.rows.push((String::new(), false));
            }
        }

        fn put(&mut self, c: char) {
            if self.cursor.1 == self.width {
                if !self.wraps {
                    self.cursor.1 -= 1;
                } else {
                    self.rows[self.cursor.0].1 = true;
                    self.down();
                    self.cursor.1 = 0;
                }
            }
            let (row, column) = self.cursor;
            let mut chars: Vec<char> = self.rows[row].0.chars().collect();
            chars.resize(chars.len().max(column + 1), ' ');
            chars[column] = c;
            self.rows[row].0 = chars.into_iter().collect();
            self.cursor.1 += 1;
        }

        fn resize(&mut self, width: usize, height: usize) {
            let mut rows = Vec::new();
            let (mut line, mut cursor, mut before) = (String::new(), None, 0);
            let was = self.cursor;
            for (n, (text, wrapped)) in self.rows.iter().enumerate() {
                if n == was.0 {
                    cursor = Some(before + was.1);
                }
                before += text.chars().count();
                line.push_str(text);
                if *wrapped {
                    continue;
                }
                let chars: Vec<char> = line.chars().collect();
                let first = rows.len();
                for part in chars.chunks(width) {
                    rows.push((part.iter().collect(), true));
                }
                if chars.is_empty() {
                    rows.push((String::new(), false));
                }
                rows.last_mut().unwrap().1 = false;
                if let Some(at) = cursor.take() {
                    self.cursor = (first + at / width, at % width);
                }
                (line, before) = (String::new(), 0);
            }
            // A lower terminal loses what is below its cursor before it scrolls; empty lines are lines.
            while height < self.height && rows.len() > height.max(self.cursor.0 + 1) {
                rows.pop();
            }
            rows.resize(rows.len().max(height), (String::new(), false));
            let top = rows.len() - height;
            if self.cursor.0 < top {
                self.cursor = (top, 0);
            }
            (self.rows, self.width, self.height) = (rows, width, height);
        }

        fn text(&self) -> Vec<String> {
            let mut text = Vec::new();
            let mut line = String::new();
            for (row, wrapped) in &self.rows {
                line.push_str(row);
                if !wrapped {
                    text.push(std::mem::take(&mut line));
                }
            }
            // Lines that went to the bottom leave empty ones above.
            text.retain(|line| !line.is_empty());
            text
        }
    }

    fn bars(frame: usize, width: usize, rows: usize) -> Vec<String> {
        (0..rows).map(|row| format!("{frame}:{row} ").chars().cycle().take(width - 1 - row).collect()).collect()
    }

    /// What stands above the bars when they come.
    fn plan(terminal: &mut Terminal) -> Vec<String> {
        let lines: Vec<String> = (0..12).map(|n| format!("plan {n}")).collect();
        lines.iter().for_each(|line| terminal.write(&format!("{line}\r\n")));
        lines
    }

    #[test]
    fn whatever_the_sizes_nothing_torn_is_left_behind() {
        let sizes = [(80, 24), (60, 24), (40, 24), (120, 24), (80, 12), (200, 40), (150, 40), (80, 24), (80, 12)];
        let mut terminal = Terminal::new(80, 24);
        let mut canvas = Canvas::default();
        let mut printed = plan(&mut terminal);
        for (frame, (width, height)) in sizes.into_iter().cycle().take(60).enumerate() {
            terminal.resize(width, height);
            let above = if frame % 3 == 0 { vec![format!("line {frame} {}", "x".repeat(frame * 5))] } else { vec![] };
            let lines = bars(frame, width, 3 + frame % 4);
            terminal.write(&canvas.frame(&above, &lines, (height as u16, width as u16)));
            printed.extend(above);
            let shown: Vec<String> = printed.iter().chain(&lines).cloned().collect();
            assert_eq!(terminal.text(), shown, "frame {frame} at {width} x {height}");
        }
        terminal.write(&canvas.frame(&[], &[], (8, 80)));
        assert_eq!(terminal.text(), printed);
    }

    #[test]
    fn a_terminal_that_became_narrower_in_the_middle_of_a_frame_cuts_and_is_mended_by_the_next() {
        let mut terminal = Terminal::new(80, 24);
        let mut canvas = Canvas::default();
        let printed = plan(&mut terminal).len();
        terminal.write(&canvas.frame(&[], &bars(1, 80, 4), (24, 80)));
        terminal.resize(50, 24);
        terminal.write(&canvas.frame(&[], &bars(2, 80, 4), (24, 80)));
        let lines = bars(3, 50, 4);
        terminal.write(&canvas.frame(&[], &lines, (24, 50)));
        assert_eq!(terminal.text()[printed..], lines);
    }
}
