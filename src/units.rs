//! Durations and counts as people read them, wherever a sentence holds one.

use jiff::SignedDuration;

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
}
