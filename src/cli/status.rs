//! `fastnode status`: a rotation in progress or the last one, from any machine.

use std::fmt::Write;

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, Errand, Status};
use crate::lock;
use crate::plan::Verdict;
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
        let errand = controller::errand(&world.ports, &world.settings).await?;
        let cluster = &world.settings.cluster;
        let printer = &self.printer;
        if printer.format == Format::Json {
            printer.out(&(json(status.as_ref(), errand.as_ref())? + "\n"));
            return Ok(Exit::Done);
        }
        if let Some(errand) = &errand {
            printer.out(&errand_text(errand, cluster, printer.paint));
        }
        printer.out(&match &status {
            None if errand.is_some() => String::new(),
            None => format!("{cluster}: no rotation is known\n"),
            Some(status) => text(status, cluster, printer.width, printer.paint),
        });
        Ok(Exit::Done)
    }
}

/// The status as it is, with what else the lock is held for beside it.
fn json(status: Option<&Status>, errand: Option<&Errand>) -> Result<String, Failure> {
    let wrong = |e: serde_json::Error| Failure::new(Exit::Unexpected, chain(&e));
    let Some(errand) = errand else { return serde_json::to_string_pretty(&status).map_err(wrong) };
    let mut all = match status {
        Some(status) => serde_json::to_value(status).map_err(wrong)?,
        None => serde_json::json!({ "rotation": null }),
    };
    all["errand"] = serde_json::to_value(errand).map_err(wrong)?;
    serde_json::to_string_pretty(&all).map_err(wrong)
}

fn errand_text(errand: &Errand, cluster: &str, paint: Paint) -> String {
    let Errand { doing, holder, since, renewed } = errand;
    let mut out = format!("{}\n", paint.bold(&format!("{cluster}: {doing}, run by {holder}")));
    for (name, time) in [("began", since), ("last seen", renewed)] {
        if let Some(time) = time {
            let _ = writeln!(out, "  {} {}", paint.dim(&format!("{name:<10}")), time.strftime("%Y-%m-%d %H:%M:%SZ"));
        }
    }
    out
}

fn text(status: &Status, cluster: &str, width: usize, paint: Paint) -> String {
    let mut out = String::new();
    let ending = status.record.as_ref().and_then(|r| r.ending);
    let paused = status.request.as_deref() == Some(lock::PAUSE);
    let aborting = status.request.as_deref() == Some(lock::ABORT) || ending == Some(Verdict::Aborted);
    let state = match (&status.report, &status.holder) {
        (Some(_), _) => "ended".to_owned(),
        (None, Some(holder)) if aborting => format!("being aborted by {holder}"),
        (None, Some(holder)) if paused => format!("paused, held by {holder}; fastnode resume lets it go on"),
        (None, Some(holder)) => match ending {
            Some(why) => format!("ending ({why}), run by {holder}"),
            None => format!("in progress, run by {holder}"),
        },
        (None, None) if aborting => "interrupted while it was aborted; fastnode abort goes on from there".to_owned(),
        (None, None) if paused => "interrupted and paused; fastnode resume, then fastnode rotate".to_owned(),
        (None, None) => "interrupted; fastnode rotate goes on from there, fastnode abort puts it back".to_owned(),
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
    for node in &status.nodes {
        let since = node.since.map(|s| format!(" since {}", time(s))).unwrap_or_default();
        let why = node.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        let line = format!("  {:<24} {}{since}{why}", short(node.node.as_str()), node.mark.as_str());
        let _ = writeln!(out, "{}", clip(&line, width));
    }
    out
}
