//! A diagnosis for people and for programs.

use jiff::Timestamp;
use serde::Serialize;

use super::page::Page;
use super::text::{Paint, clip, count, seconds, short, wrap};
use crate::model::Text;
use crate::readiness::diagnosis::{Clue, Confidence, Finding, Sick};

/// Nodes and instances named in one line.
const NAMED: usize = 4;
/// Lines of evidence for a person; a program gets all.
const LINES: usize = 4;
/// Rows that one line of evidence may take.
const ROWS: usize = 6;
/// Width of the labels at the left.
const LABEL: usize = 8;

/// What `fastnode doctor` came to.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The cluster's name.
    pub cluster: Text,
    /// When it was made.
    pub time: Timestamp,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Nodes that lack something.
    pub sick: Vec<Sick>,
    /// Nodes judged.
    pub nodes: usize,
    /// Pods whose logs were read.
    pub pods_read: usize,
    /// What limits the diagnosis.
    pub notes: Vec<Text>,
}

/// The command that shows a finding's fix.
fn command(cluster: &str, finding: &Finding) -> Option<String> {
    finding.fix.as_ref().map(|fix| format!("fastnode fix --cluster {cluster} {fix}"))
}

/// The diagnosis as one JSON object.
///
/// # Errors
/// If it cannot be written as JSON, which it always can be.
pub fn json(diagnosis: &Diagnosis) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Prescribed<'a> {
        #[serde(flatten)]
        finding: &'a Finding,
        #[serde(skip_serializing_if = "Option::is_none")]
        command: Option<String>,
    }
    #[derive(Serialize)]
    struct Lacking<'a> {
        node: &'a str,
        lacks: &'a [Text],
    }
    #[derive(Serialize)]
    struct Page<'a> {
        v: u32,
        cluster: &'a str,
        time: Timestamp,
        healthy: bool,
        nodes: usize,
        pods_read: usize,
        findings: Vec<Prescribed<'a>>,
        not_functional: Vec<Lacking<'a>>,
        notes: &'a [Text],
    }
    let prescribed = |finding| Prescribed { finding, command: command(&diagnosis.cluster, finding) };
    let page = Page {
        v: crate::event::VERSION,
        cluster: &diagnosis.cluster,
        time: diagnosis.time,
        healthy: diagnosis.findings.is_empty(),
        nodes: diagnosis.nodes,
        pods_read: diagnosis.pods_read,
        findings: diagnosis.findings.iter().map(prescribed).collect(),
        not_functional: diagnosis.sick.iter().map(|s| Lacking { node: s.node.as_str(), lacks: &s.lacks }).collect(),
        notes: &diagnosis.notes,
    };
    Ok(serde_json::to_string_pretty(&page)? + "\n")
}

/// The diagnosis for a terminal of this width.
pub fn text(diagnosis: &Diagnosis, width: usize, paint: Paint) -> String {
    let nodes = count(diagnosis.nodes as u64, "node");
    let head = match diagnosis.findings.len() {
        0 => format!("{}: nothing wrong with {nodes}", diagnosis.cluster),
        n => format!("{}: {} on {nodes}", diagnosis.cluster, count(n as u64, "finding")),
    };
    let mut page = Page::new(&head, width, paint);
    for (n, finding) in diagnosis.findings.iter().enumerate() {
        page.line("");
        page.finding(n + 1, finding, command(&diagnosis.cluster, finding));
    }
    if !diagnosis.notes.is_empty() {
        page.line("");
        page.labels("note", diagnosis.notes.iter().map(|note| note.to_string()));
    }
    page.text
}

impl Page {
    fn finding(&mut self, n: usize, finding: &Finding, command: Option<String>) {
        let sure = match finding.confidence {
            Confidence::Certain => String::new(),
            other => format!(" ({})", other.as_str()),
        };
        let title = format!("{finding}{sure}");
        for (at, part) in wrap(&title, self.width.saturating_sub(4)).iter().enumerate() {
            let lead = if at == 0 { format!("{n:>2}. ") } else { "    ".to_owned() };
            self.line(&format!("{lead}{}", self.paint.yellow(part)));
        }
        self.labels("where", place(finding));
        if let Some(cost) = finding.cost_s {
            self.labels("costs", [format!("{} a node", seconds(cost))]);
        }
        self.labels("why", [finding.cause.to_string()]);
        self.proof(&finding.evidence);
        self.labels("helps", [finding.help.to_string()]);
        // Never broken: it is to be copied.
        if let Some(command) = command {
            self.line(&format!("    {} {}", self.paint.dim(&format!("{:<LABEL$}", "fix")), self.paint.cyan(&command)));
        }
    }

    /// The very lines, in the order of their times, clipped; each after where it was found.
    fn proof(&mut self, clues: &[Clue]) {
        let mut name = "proof";
        let more = clues.len().saturating_sub(LINES);
        let mut source = None;
        for clue in clues.iter().take(LINES) {
            if source != Some(&clue.source) {
                self.labelled(&mut name, &format!("{}:", clue.source));
                source = Some(&clue.source);
            }
            let time = clue.time.map_or(String::new(), |time| time.strftime("%m-%d %H:%M:%SZ ").to_string());
            self.quoted(&mut name, &format!("{time}{}", clue.text));
        }
        if more > 0 {
            self.labelled(&mut name, &format!("  and {}", count(more as u64, "further line")));
        }
    }

    /// A line of evidence over as many rows as it needs, within reason.
    fn quoted(&mut self, name: &mut &str, text: &str) {
        let room = self.width.saturating_sub(LABEL + 7).max(1);
        let rows = rows(text, room);
        let more = rows.len() > ROWS;
        for (n, row) in rows.into_iter().take(ROWS).enumerate() {
            let row = if more && n + 1 == ROWS { clip(&(row + " …"), room) } else { row };
            self.labelled(name, &format!("  {row}"));
        }
    }

    fn labelled(&mut self, name: &mut &str, text: &str) {
        let room = self.width.saturating_sub(LABEL + 5);
        let label = self.paint.dim(&format!("{name:<LABEL$}"));
        self.line(&format!("    {label} {}", clip(text, room)));
        *name = "";
    }

    fn labels(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        let mut name = name;
        for text in lines {
            for part in wrap(&text, self.width.saturating_sub(LABEL + 5)) {
                self.labelled(&mut name, &part);
            }
        }
    }
}

/// A text cut into rows, behind a space or a comma where one is near the end of a row: logs are often JSON.
fn rows(text: &str, room: usize) -> Vec<String> {
    let all: Vec<char> = text.trim().chars().collect();
    let mut rest = all.as_slice();
    let mut rows = Vec::new();
    while rest.len() > room {
        let row = &rest[..room];
        let end = row.iter().rposition(|c| matches!(c, ' ' | ',')).map_or(room, |at| at + 1);
        let (row, after) = rest.split_at(if end > room / 2 { end } else { room });
        rows.push(row.iter().collect::<String>().trim_end().to_owned());
        rest = after;
    }
    rows.push(rest.iter().collect());
    rows
}

fn place(finding: &Finding) -> Option<String> {
    let nodes: Vec<&str> = finding.nodes.iter().map(|node| short(node.as_str())).collect();
    let instances: Vec<&str> = finding.instances.iter().map(|id| id.as_str()).collect();
    let groups: Vec<&str> = finding.groups.iter().map(|group| group.as_str()).collect();
    let parts = [("node", nodes), ("instance", instances), ("group", groups)];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| {
            let more = names.len().saturating_sub(NAMED);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = names.get(..NAMED.min(names.len())).unwrap_or_default().join(", ");
            format!("{}: {named}{rest}", count(names.len() as u64, what))
        })
        .collect();
    let alike = (!finding.alike.is_empty())
        .then(|| format!("the same signs on {} whose logs were not read", count(finding.alike.len() as u64, "node")));
    let said: Vec<String> = said.into_iter().chain(alike).collect();
    (!said.is_empty()).then(|| said.join("; "))
}
