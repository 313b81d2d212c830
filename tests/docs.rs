//! The pages say what is: each rule, test, story, file, flag and link that they name exists.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fastnode::invariants::rule;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The files below a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What is between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of the table under a heading of docs/safety.md, by their cells.
fn table(safety: &str, heading: &str) -> Vec<Vec<String>> {
    let section = safety.split("\n## ").find(|s| s.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in ["src", "tests"].iter().flat_map(|folder| files(&root().join(folder), ".rs")) {
        let text = fs::read_to_string(path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let function = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "));
            match function.and_then(|rest| rest.split('(').next()) {
                Some(name) if is_test => {
                    names.insert(name.to_owned());
                    is_test = false;
                }
                _ => is_test = line == "#[test]" || (is_test && line.starts_with("#[")),
            }
        }
    }
    names
}

/// Whether a test has this name, of which `…` may stand for the beginning or the end.
fn is_test(tests: &BTreeSet<String>, name: &str) -> bool {
    let (end, begin) = (name.strip_prefix('…'), name.strip_suffix('…'));
    tests.iter().any(|test| match (end, begin) {
        (Some(end), _) => test.ends_with(end),
        (None, Some(begin)) => test.starts_with(begin),
        (None, None) => test == name,
    })
}

/// The source that a table names, from `src/` or one of these folders of it.
fn source(name: &str, folders: &[&str]) -> String {
    let mut places = folders.iter().map(|folder| root().join("src").join(folder).join(name));
    let path = places.find(|path| path.is_file());
    fs::read_to_string(path.unwrap_or_else(|| panic!("docs/safety.md names {name}, which is not there"))).unwrap()
}

/// Files that a cell names exist, and what stands in brackets after one is in it.
fn check_sources(cell: &str, folders: &[&str]) {
    let mut text = String::new();
    for word in quoted(cell) {
        if word.ends_with(".rs") {
            text = source(word, folders);
        } else {
            assert!(text.contains(word), "{word} is not in the file named before it: {cell}");
        }
    }
}

#[test]
fn every_rule_of_the_checker_is_told_with_its_test() {
    let (rows, tests) = (table(&read("docs/safety.md"), "The rules"), tests());
    let told: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(BTreeSet::from(rule::ALL), told.iter().copied().collect());
    assert_eq!(rule::ALL.len(), told.len(), "one is told twice");
    for row in &rows {
        check_sources(&row[2], &["", "invariants"]);
        let named = quoted(&row[3]);
        assert!(!named.is_empty(), "{}", row[0]);
        assert!(named.iter().all(|name| is_test(&tests, name)), "{}: {named:?}", row[0]);
    }
}

#[test]
fn every_rule_of_the_rotation_names_what_breaks_without_it() {
    let (rows, tests) = (table(&read("docs/safety.md"), "The rotation's rules"), tests());
    let scenarios = read("tests/stack/fnstack/scenarios/runner.py");
    for row in &rows {
        check_sources(&row[1], &["plan", ""]);
        for name in quoted(&row[2]) {
            assert!(rule::ALL.contains(&name), "{name} is no rule of the checker: {}", row[0]);
        }
        for name in quoted(&row[3]) {
            let story = || root().join(format!("tests/goldens/{name}.md")).is_file();
            let there = match name.strip_prefix("stack ") {
                Some(scenario) => scenarios.contains(&format!("\"{scenario}\": ")),
                None if name.contains('_') => is_test(&tests, name),
                None => story(),
            };
            assert!(there, "{name} is neither a test nor a story: {}", row[0]);
        }
        assert!(!row[3].is_empty(), "nothing breaks without it: {}", row[0]);
    }
}

#[test]
fn every_fault_of_others_has_its_test_and_what_prevents_it() {
    let (rows, tests) = (table(&read("docs/safety.md"), "What other rotators"), tests());
    let peers = tests.iter().filter(|name| name.starts_with("peer_")).count();
    assert_eq!(rows.len(), peers);
    for (n, row) in (1..).zip(&rows) {
        assert_eq!(row[3], format!("`peer_{n:02}_…`"));
        assert!(is_test(&tests, quoted(&row[3])[0]), "{}", row[3]);
        check_sources(&row[2], &[""]);
        for bracket in row[1].split('(').skip(1).filter_map(|rest| rest.split(')').next()) {
            for name in quoted(bracket) {
                assert!(rule::ALL.contains(&name), "{name} is no rule of the checker: {}", row[0]);
            }
        }
    }
}

/// The pages for people.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), ".md");
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/stack/README.md"].map(|p| root().join(p)));
    pages
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let there = link.contains("://") || page.parent().unwrap().join(link).exists();
            assert!(there, "{} leads to {link}", page.display());
        }
    }
}

#[test]
fn every_flag_that_is_told_exists() {
    let known = read("docs/cli.md");
    let known: BTreeSet<_> = known.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    for page in ["README.md", "docs/operations.md", "docs/exit-codes.md", "docs/readiness.md", "docs/simulation.md"] {
        // Lines that tell of other programs' flags.
        let text = read(page);
        let lines =
            text.lines().filter(|line| !["aws eks", "cargo ", "just "].iter().any(|other| line.contains(other)));
        for word in lines.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))) {
            assert!(!word.starts_with("--") || word.len() < 4 || known.contains(word), "{page} tells of {word}");
        }
    }
}

#[test]
fn the_pod_is_told_where_it_is() {
    let (job, page, read_by) = (read("config/deploy/cronjob.yaml"), read("docs/operations.md"), read("src/config.rs"));
    for (name, field) in [
        ("FASTNODE_NODE_NAME", "spec.nodeName"),
        ("FASTNODE_POD_NAME", "metadata.name"),
        ("FASTNODE_POD_NAMESPACE", "metadata.namespace"),
    ] {
        assert!(read_by.contains(&format!("\"{name}\"")), "{name} is not read any more");
        assert!(page.contains(&format!("| `{name}` | `{field}` |")), "docs/operations.md does not tell of {name}");
        let lines = job.lines().map(str::trim).skip_while(|line| *line != format!("- name: {name}"));
        assert!(lines.take(4).any(|line| line == format!("fieldPath: {field}")), "the CronJob does not set {name}");
    }
}
