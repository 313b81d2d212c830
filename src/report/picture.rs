//! A measurement as a picture: one row a node, its stages as coloured spans. Self-contained SVG, or a page of HTML
//! around it: no script, no font and no address but what is in the file.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use super::measure::step;
use super::text::{count, seconds, short};
use crate::model::ObjectKey;
use crate::readiness::stages::{Measurement, NodeStart, Stage};

/// Widths and heights in pixels.
const WIDTH: f64 = 1100.0;
const NAMES: f64 = 190.0;
const RIGHT: f64 = 104.0;
const ROW: f64 = 22.0;
const HEADING: f64 = 26.0;

const TEXT: &str = "#1b1f24";
const FAINT: &str = "#6a737d";
const GRID: &str = "#e3e6ea";
const FAILED: &str = "#c1121f";

/// The stages that are drawn, and their colours (after Okabe and Ito: told apart by everybody).
const SPANS: [(&str, &str); 5] = [
    ("#b8bec6", "requested to launched"),
    ("#56b4e9", "boot (and registration)"),
    ("#117733", "registration"),
    ("#e69f00", "registered to Ready"),
    ("#0072b2", "Ready to functional"),
];

/// Colours of DaemonSets on the critical path, in the order of their share.
const SETS: [&str; 6] = ["#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#5b4b8a", "#3d7d7d"];

/// What the rest of the path is drawn in.
const NODE: &str = "#9aa1aa";

/// The picture as SVG.
pub fn svg(measured: &Measurement) -> String {
    Picture::new(measured).draw()
}

/// The picture as a page, with the figures below it.
pub fn html(measured: &Measurement) -> String {
    let title = escape(&format!("{}: how nodes start", measured.cluster));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>\n\
         body{{font:14px system-ui,sans-serif;color:{TEXT};background:#fff;margin:24px auto;max-width:{WIDTH}px}}\n\
         table{{border-collapse:collapse;margin:16px 0}} th{{text-align:right;color:{FAINT};font-weight:normal}}\n\
         th,td{{padding:3px 12px 3px 0}} td{{text-align:right}} th:first-child,td:first-child{{text-align:left}}\n\
         svg{{width:100%;height:auto}}\n</style>\n</head>\n<body>\n"
    );
    out.push_str(&svg(measured));
    out.push_str("<table>\n<tr><th>stage</th><th>nodes</th><th>p50</th><th>p90</th><th>p99</th><th>max</th></tr>\n");
    for (stage, sampled) in &measured.all.stages {
        let p = sampled.seconds;
        let cells: String = [p.p50, p.p90, p.p99, p.max].iter().map(|s| format!("<td>{}</td>", seconds(*s))).collect();
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td>{cells}</tr>", stage.meaning(), sampled.nodes);
    }
    out.push_str("</table>\n");
    if !measured.all.critical_path.is_empty() {
        out.push_str("<table>\n<tr><th>critical path, mean a node</th><th></th></tr>\n");
        for share in &measured.all.critical_path {
            let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(&step(share)), seconds(share.mean_s));
        }
        out.push_str("</table>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

struct Picture<'a> {
    measured: &'a Measurement,
    /// By group, in the order of their names; nodes of none last.
    rows: Vec<(&'a str, Vec<&'a NodeStart>)>,
    colours: BTreeMap<&'a ObjectKey, &'static str>,
    /// Seconds before and after the Node's creation that the axis shows.
    before: f64,
    after: f64,
    tick: f64,
    out: String,
}

impl<'a> Picture<'a> {
    fn new(measured: &'a Measurement) -> Self {
        let mut rows: BTreeMap<Option<&str>, Vec<&NodeStart>> = BTreeMap::new();
        for start in &measured.starts {
            rows.entry(start.group.as_ref().map(|g| g.as_str())).or_default().push(start);
        }
        let alone = rows.remove(&None);
        let rows: Vec<_> = rows.into_iter().filter_map(|(name, rows)| Some((name?, rows))).collect();
        let rows: Vec<_> = rows.into_iter().chain(alone.map(|rows| ("in no Auto Scaling group", rows))).collect();
        let (mut before, mut after) = (0.0_f64, 1.0_f64);
        for start in &measured.starts {
            let m = &start.moments;
            let first = m.requested.or(m.provisioned).map_or(0.0, |at| -at_second(start, at));
            before = before.max(first);
            let last = [m.ready, m.functional, m.first_pod].into_iter().flatten().max();
            after = after.max(last.map_or(0.0, |at| at_second(start, at)));
        }
        let tick = tick((before + after) / 10.0);
        let (before, after) = ((before / tick).ceil() * tick, (after / tick).ceil() * tick);
        Self { measured, rows, colours: colours(measured), before, after, tick, out: String::new() }
    }

    /// Where a second after the Node's creation is.
    fn x(&self, second: f64) -> f64 {
        let share = (second + self.before) / (self.before + self.after);
        NAMES + share.clamp(0.0, 1.0) * (WIDTH - NAMES - RIGHT)
    }

    fn draw(mut self) -> String {
        let nodes: usize = self.rows.iter().map(|(_, rows)| rows.len()).sum();
        let legend = 96.0 + 18.0 * ((self.colours.len() + 1) as f64 / 3.0).ceil();
        let body = nodes as f64 * ROW + self.rows.len() as f64 * HEADING;
        let height = legend + body + 54.0;
        let _ = writeln!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui,Helvetica,Arial,sans-serif\" font-size=\"12\">"
        );
        let title = format!("{}: how {} started", self.measured.cluster, count(nodes as u64, "node"));
        let _ = writeln!(self.out, "<title>{}</title>", escape(&title));
        self.rect((0.0, 0.0, WIDTH, height), "#ffffff", None);
        self.text((16.0, 28.0), &title, "font-size=\"17\" font-weight=\"bold\"", TEXT);
        self.legend();
        if nodes == 0 {
            self.text((16.0, legend + 20.0), "no node shows how it started", "", FAINT);
        } else {
            self.axis(legend, body);
            self.rows(legend);
        }
        self.out.push_str("</svg>\n");
        self.out
    }

    fn legend(&mut self) {
        let mut x = 16.0;
        for (colour, name) in SPANS {
            self.rect((x, 42.0, 14.0, 10.0), colour, None);
            self.text((x + 19.0, 51.0), name, "", TEXT);
            x += 34.0 + name.len() as f64 * 6.6;
        }
        self.diamond(x + 6.0, 47.0);
        self.text((x + 17.0, 51.0), "first workload pod Ready", "", TEXT);
        x += 182.0;
        self.cross(x, 47.0);
        self.text((x + 10.0, 51.0), "container failed", "", TEXT);
        let sets = self.colours.iter().map(|(set, colour)| (set.to_string(), *colour));
        let sets: Vec<_> = [("the node itself".to_owned(), NODE)].into_iter().chain(sets).collect();
        for (n, (set, colour)) in sets.iter().enumerate() {
            let (x, y) = (16.0 + (n % 3) as f64 * 340.0, 74.0 + (n / 3) as f64 * 18.0);
            self.rect((x, y - 6.0, 14.0, 4.0), colour, None);
            self.text((x + 19.0, y), &format!("waited for {set}"), "", TEXT);
        }
    }

    fn axis(&mut self, top: f64, body: f64) {
        let bottom = top + body + 8.0;
        let ticks = ((self.before + self.after) / self.tick).round() as u32;
        for n in 0..=ticks {
            let second = f64::from(n) * self.tick - self.before;
            let x = self.x(second);
            let (colour, width) = if second.abs() < 1e-9 { (FAINT, 1.5) } else { (GRID, 1.0) };
            let _ = writeln!(
                self.out,
                "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\" \
                 stroke-width=\"{width}\"/>"
            );
            let sign = if second < -1e-9 { "-" } else { "" };
            let label = format!("{sign}{}", seconds(second.abs()));
            self.text((x, bottom + 15.0), &label, "text-anchor=\"middle\"", FAINT);
            // Many rows later nobody sees the axis below.
            self.text((x, top - 6.0), &label, "text-anchor=\"middle\"", FAINT);
        }
        self.text((WIDTH - RIGHT + 8.0, top + 18.0), "start, restarts", "", FAINT);
        let middle = f64::midpoint(NAMES, WIDTH - RIGHT);
        let caption = "time since the Node was created";
        self.text((middle, bottom + 33.0), caption, "text-anchor=\"middle\"", FAINT);
    }

    fn rows(&mut self, top: f64) {
        let mut y = top;
        for (group, rows) in std::mem::take(&mut self.rows) {
            self.text((16.0, y + 18.0), group, "font-weight=\"bold\"", TEXT);
            y += HEADING;
            for start in rows {
                self.row(start, y);
                y += ROW;
            }
        }
    }

    fn row(&mut self, start: &NodeStart, y: f64) {
        let m = &start.moments;
        self.text((16.0, y + 13.0), short(start.node.as_str()), "", TEXT);
        let ends = [
            (m.requested, m.provisioned),
            (m.provisioned, Some(m.booted.unwrap_or(m.joined))),
            (m.booted, Some(m.joined)),
            (Some(m.joined), m.ready),
            (m.ready, m.functional),
        ];
        for ((colour, name), (from, to)) in SPANS.into_iter().zip(ends) {
            if let (Some(from), Some(to)) = (from, to) {
                self.span(start, (from, to), (y + 3.0, 10.0), colour, name);
            }
        }
        for segment in &start.path {
            let colour = segment.daemonset.as_ref().map_or(NODE, |set| self.colours.get(set).copied().unwrap_or(NODE));
            self.span(start, (segment.from, segment.to), (y + 14.0, 4.0), colour, &segment.to_string());
        }
        for at in start.daemonsets.iter().filter(|c| c.gated).flat_map(|c| &c.failures) {
            let x = self.x(at_second(start, *at));
            self.cross(x, y + 8.0);
        }
        if let Some(at) = m.first_pod {
            let x = self.x(at_second(start, at));
            self.diamond(x, y + 8.0);
        }
        let whole = m.seconds(Stage::Start).map_or_else(|| "?".to_owned(), seconds);
        let label = match start.restarts() {
            0 => whole,
            n => format!("{whole}, {n}x"),
        };
        let why: Vec<_> = start.unknown.iter().map(|why| escape(why)).collect();
        let _ = writeln!(
            self.out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{TEXT}\">{}{}</text>",
            WIDTH - RIGHT + 8.0,
            y + 13.0,
            escape(&label),
            if why.is_empty() { String::new() } else { format!("<title>{}</title>", why.join("; ")) }
        );
    }

    fn span(
        &mut self,
        start: &NodeStart,
        (from, to): (Timestamp, Timestamp),
        (y, height): (f64, f64),
        colour: &str,
        name: &str,
    ) {
        let (a, b) = (self.x(at_second(start, from)), self.x(at_second(start, to)));
        if b > a {
            let took = seconds(to.duration_since(from).as_secs_f64());
            self.rect((a, y, b - a, height), colour, Some(&format!("{name}: {took}")));
        }
    }

    fn rect(&mut self, (x, y, width, height): (f64, f64, f64, f64), colour: &str, title: Option<&str>) {
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"");
        let _ = match title {
            Some(title) => writeln!(self.out, "<rect {place}><title>{}</title></rect>", escape(title)),
            None => writeln!(self.out, "<rect {place}/>"),
        };
    }

    fn text(&mut self, (x, y): (f64, f64), text: &str, style: &str, colour: &str) {
        let text = escape(text);
        let _ = writeln!(self.out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\" {style}>{text}</text>");
    }

    fn cross(&mut self, x: f64, y: f64) {
        let (a, b, c, d) = (x - 4.0, y - 4.0, x + 4.0, y + 4.0);
        let _ = writeln!(
            self.out,
            "<path d=\"M{a:.1} {b:.1}L{c:.1} {d:.1}M{a:.1} {d:.1}L{c:.1} {b:.1}\" stroke=\"#ffffff\" stroke-width=\"4\"/>\
             <path d=\"M{a:.1} {b:.1}L{c:.1} {d:.1}M{a:.1} {d:.1}L{c:.1} {b:.1}\" stroke=\"{FAILED}\" stroke-width=\"2\"/>"
        );
    }

    fn diamond(&mut self, x: f64, y: f64) {
        let (left, top, right, bottom) = (x - 5.0, y - 5.0, x + 5.0, y + 5.0);
        let _ = writeln!(
            self.out,
            "<path d=\"M{x:.1} {top:.1}L{right:.1} {y:.1}L{x:.1} {bottom:.1}L{left:.1} {y:.1}Z\" fill=\"#ffffff\" \
             stroke=\"{TEXT}\"/>"
        );
    }
}

/// Seconds from a Node's creation.
fn at_second(start: &NodeStart, at: Timestamp) -> f64 {
    at.duration_since(start.moments.joined).as_secs_f64()
}

/// The DaemonSets with the largest shares in the critical paths, each with its colour.
fn colours(measured: &Measurement) -> BTreeMap<&ObjectKey, &'static str> {
    let mut waits: Vec<_> = measured.all.waits().into_iter().collect();
    waits.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    waits.into_iter().map(|(set, _)| set).zip(SETS).collect()
}

/// A round number of seconds, at least as many.
fn tick(seconds: f64) -> f64 {
    const ROUND: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0];
    ROUND.into_iter().find(|r| *r >= seconds).unwrap_or(3600.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
