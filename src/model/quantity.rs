//! Kubernetes resource quantities, as integers.

/// Reads a CPU quantity into millicores, rounding up: `250m` is 250, `2` is 2000. `None` if malformed.
pub fn milli_cpu(text: &str) -> Option<u64> {
    scaled(text, 1000.0)
}

/// Reads a memory or count quantity into units, rounding up: `1Ki` is 1024. `None` if malformed.
pub fn units(text: &str) -> Option<u64> {
    scaled(text, 1.0)
}

fn scaled(text: &str, scale: f64) -> Option<u64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1048576.0,
        "Gi" => 1073741824.0,
        "Ti" => 1099511627776.0,
        "Pi" => 1125899906842624.0,
        "Ei" => 1152921504606846976.0,
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let value = (number.parse::<f64>().ok()? * factor * scale).ceil();
    (value.is_finite() && value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_writes_them() {
        assert_eq!(milli_cpu("250m"), Some(250));
        assert_eq!(milli_cpu("2"), Some(2000));
        assert_eq!(milli_cpu("1.5"), Some(1500));
        assert_eq!(units("1Ki"), Some(1024));
        assert_eq!(units("128974848"), Some(128974848));
        assert_eq!(units("1e3"), Some(1000));
        assert_eq!(units("12Qi"), None);
        assert_eq!(units("-1"), None);
    }
}
