//! Label selectors as `kubectl -l` takes them (`k8s.io/apimachinery/pkg/labels/selector.go`).

use crate::model::{Operator, Requirement, Text};

/// Reads `a=b,c!=d,e in (x, y),f notin (z),g,!h`. Nothing at all selects everything.
pub fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let wrong = |part: &str| {
        format!(
            "{part:?} in {text:?} is not a label requirement such as pool=web, pool!=web, pool in (a, b), pool or !pool"
        )
    };
    split(text)
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| requirement(part).ok_or_else(|| wrong(part)))
        .collect()
}

/// The parts between commas that are not inside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let make = |key: &str, operator, values: Vec<&str>| {
        let fits = is_key(key.trim()) && values.iter().all(|v| is_value(v));
        let values = values.into_iter().map(Text::from).collect();
        fits.then(|| Requirement { key: key.trim().into(), operator, values })
    };
    if let Some((key, value)) = part.split_once("!=") {
        return make(key, Operator::NotIn, vec![value.trim()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return make(key, Operator::In, vec![value.trim()]);
    }
    if let Some((key, rest)) = part.split_once(char::is_whitespace) {
        let (word, list) = rest.trim().split_once('(')?;
        let values = list.trim().strip_suffix(')')?.split(',').map(str::trim).collect();
        let operator = match word.trim() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        return make(key, operator, values);
    }
    match part.strip_prefix('!') {
        Some(key) => make(key, Operator::DoesNotExist, Vec::new()),
        None => make(part, Operator::Exists, Vec::new()),
    }
}

/// A qualified name: an optional DNS prefix and a slash, then at most 63 of `[A-Za-z0-9._-]`.
fn is_key(key: &str) -> bool {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let chars = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    !name.is_empty() && name.len() <= 63 && chars(key)
}

fn is_value(value: &str) -> bool {
    value.len() <= 63 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_kubectl_takes_is_read() {
        let read = parse("pool=web, tier == a,zone!=b,arch in (arm64, amd64),os notin (windows),gpu,!example.com/spot");
        let got: Vec<_> = read.unwrap().into_iter().map(|r| (r.key.to_string(), r.operator, r.values.len())).collect();
        let want = [
            ("pool", Operator::In, 1),
            ("tier", Operator::In, 1),
            ("zone", Operator::NotIn, 1),
            ("arch", Operator::In, 2),
            ("os", Operator::NotIn, 1),
            ("gpu", Operator::Exists, 0),
            ("example.com/spot", Operator::DoesNotExist, 0),
        ];
        assert_eq!(got, want.map(|(k, o, n)| (k.to_owned(), o, n)));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_selector_is_refused_and_named() {
        for bad in ["=web", "pool in web", "pool near (a)", "a b", "!", "pool=we b", "pool in (a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("ok,pool in web").unwrap_err().contains("\"pool in web\""));
    }
}
