//! `fastnode status`: a rotation in progress or the last one, from any machine.

use std::fmt::Write;

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, Status};
use crate::report::closing;
use crate::report::text::{Paint, clip, short};

struct Show {
    printer: Printer,
}

/// Shows the status.
///
/// # Errors
/// If Kubernetes cannot be reached or refuses.
pub fn status(config: Config, printer: Printer) -> Result<Exit, Failure> {
    run(config, false, |_| Show { printer })
}

impl Task for Show {
    type Outcome = Exit;

    async fn run<C: Cloud + 'static, K: Cluster + 'static>(self, world: World<C, K>) -> Result<Exit, Failure> {
        let status = controller::status(&world.ports, &world.settings).await?;
        let cluster = &world.settings.cluster;
        let printer = &self.printer;
        printer.out(&match (printer.format, &status) {
            (Format::Json, status) => {
                let text = serde_json::to_string_pretty(status);
                text.map_err(|e| Failure::new(Exit::Unexpected, chain(&e)))? + "\n"
            }
            (_, None) => format!("{cluster}: no rotation is known\n"),
            (_, Some(status)) => text(status, cluster, printer.width, printer.paint),
        });
        Ok(Exit::Done)
    }
}

fn text(status: &Status, cluster: &str, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    let state = match (&status.report, &status.holder) {
        (Some(_), _) => "ended".to_owned(),
        (None, Some(holder)) => format!("in progress, run by {holder}"),
        (None, None) => "interrupted; fastnode rotate goes on from there".to_owned(),
    };
    let _ = writeln!(out, "{}", paint.bold(&clip(&format!("{cluster}: rotation {} {state}", status.rotation), width)));
    if let Some(report) = &status.report {
        out.push_str(&closing::text(report, cluster, width, paint));
        return out;
    }
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {} {value}", paint.dim(&format!("{name:<10}")));
    };
    let time = |t: jiff::Timestamp| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    if let Some(started) = status.started {
        row("began", time(started));
    }
    if let Some(renewed) = status.renewed {
        row("last seen", time(renewed));
    }
    if let Some(request) = &status.request {
        row("asked to", request.clone());
    }
    for node in &status.nodes {
        let since = node.since.map(|s| format!(" since {}", time(s))).unwrap_or_default();
        let why = node.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        let line = format!("  {:<24} {}{since}{why}", short(node.node.as_str()), node.mark.as_str());
        let _ = writeln!(out, "{}", clip(&line, width));
    }
    out
}
