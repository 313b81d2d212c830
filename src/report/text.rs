//! Small pieces of text: durations, counts, clipping, colour.

use jiff::{SignedDuration, Timestamp};

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// Whether escape sequences are written.
    pub color: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Headings and what matters most.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be overlooked.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Failures.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// What is done.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What wants a look.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// What is going on.
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// `0.4s`, `42s`, `2m05s`, `1h58m`, `3d04h`: two units, of which the second has two digits.
pub fn seconds(seconds: f64) -> String {
    if seconds > 0.0 && seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    whole(seconds.max(0.0).round() as u64)
}

/// The same in whole seconds, for what counts while one looks at it.
pub fn clock(duration: SignedDuration) -> String {
    whole(u64::try_from(duration.as_secs()).unwrap_or_default())
}

fn whole(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// `1 node`, `2 nodes`, `15,000 pods`.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(n)) }
}

/// `15,000`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `text` in at most `width` columns, `…` where something was cut.
pub fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        out.push('…');
    }
    out
}

/// Lines of at most `width` columns, broken at spaces; a longer word gets a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A Node's name up to its first dot: `ip-10-0-3-17`.
pub fn short(node: &str) -> &str {
    node.split('.').next().unwrap_or(node)
}

/// `12:04:31Z`.
pub fn time_of_day(time: Timestamp) -> String {
    time.strftime("%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (given, text) in [
            (0.0, "0s"),
            (0.42, "0.4s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.4, "59s"),
            (59.6, "1m00s"),
            (3599.0, "59m59s"),
            (7082.0, "1h58m"),
            (90_000.0, "1d01h"),
            (-3.0, "0s"),
        ] {
            assert_eq!(seconds(given), text, "{given}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(count(1, "node"), "1 node");
        assert_eq!(count(999, "pod"), "999 pods");
        assert_eq!(count(1_234_567, "pod"), "1,234,567 pods");
    }

    #[test]
    fn clipping_and_wrapping_keep_to_the_width() {
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdef", 5), "abcd…");
        assert_eq!(clip("abc", 0), "");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable x", 4), ["unbreakable", "x"]);
    }
}
