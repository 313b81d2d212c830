//! `fastnode abort`: ends a rotation and puts everything back.

use std::path::PathBuf;

use serde_json::json;

use super::exit::Exit;
use super::failure::Failure;
use super::printer::{self, Printer};
use super::rotate::show;
use super::telling;
use super::world::{Task, World, run};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, Aborted};
use crate::event::Report;
use crate::plan::Verdict;
use crate::report::closing;
use crate::report::reporter::Show;

struct Abort {
    printer: Printer,
    show: Show,
    events: Option<PathBuf>,
}

/// Aborts, and waits until everything is put back.
///
/// # Errors
/// If the world cannot be reached, or it ends without a report.
pub fn abort(config: Config, printer: Printer) -> Result<Exit, Failure> {
    let show = show(&config, &printer)?;
    let events = config.text("events")?.map(PathBuf::from);
    run(config, matches!(show, Show::Bars(..)), |_| Abort { printer, show, events })
}

impl Task for Abort {
    type Outcome = Exit;

    async fn run<C: Cloud + 'static, K: Cluster + 'static>(self, world: World<C, K>) -> Result<Exit, Failure> {
        let World { ports, settings, interrupt, .. } = world;
        let (cluster, printer) = (settings.cluster.clone(), self.printer);
        let (sink, telling) = telling::begin(self.show, self.events.as_deref())?;
        let told = |holder: &str| {
            printer.err(&format!("{cluster}: asked {holder} to put everything back; waiting for its end\n"));
        };
        let result = controller::abort(ports, settings, told, sink, interrupt).await;
        let reporter = telling.end().await?;
        let began = reporter.report().is_some();
        let ending = match (&result, self.show) {
            (Ok(Aborted::Nothing), Show::Json) => {
                format!("{}\n", json!({"v": crate::event::VERSION, "cluster": cluster, "result": "nothing to abort"}))
            }
            (Ok(Aborted::Nothing), _) => format!("{cluster}: nothing to abort\n"),
            (Ok(Aborted::There(None)), Show::Json) => {
                format!("{}\n", json!({"v": crate::event::VERSION, "cluster": cluster, "result": "ended"}))
            }
            (Ok(Aborted::There(None)), _) => format!("{cluster}: it has ended\n"),
            (Ok(Aborted::There(Some(report))), Show::Json) => {
                format!("{}\n", json!({"v": crate::event::VERSION, "cluster": cluster, "report": report}))
            }
            (Ok(Aborted::There(Some(report))), Show::Bars(paint, _) | Show::Lines(paint, _)) => {
                closing::text(report, &cluster, printer.width, paint)
            }
            (Ok(Aborted::Here(_)) | Err(_), Show::Bars(paint, _) | Show::Lines(paint, _)) => reporter
                .report()
                .map(|report| closing::text(report, &cluster, printer.width, paint))
                .unwrap_or_default(),
            (Ok(Aborted::Here(_)) | Err(_), Show::Json) => String::new(),
        };
        reporter.finish(&ending).await.into_iter().for_each(printer::lose);
        match result {
            // The report has said so already.
            Err(controller::Error::Interrupted(signal)) if began => Ok(signal.into()),
            Err(controller::Error::Interrupted(signal)) => {
                Err(Failure::new(signal.into(), "interrupted: nothing was changed here; what was asked for goes on"))
            }
            Err(e) => Err(e.into()),
            Ok(Aborted::Nothing | Aborted::There(None)) => Ok(Exit::Done),
            Ok(Aborted::There(Some(report)) | Aborted::Here(report)) => Ok(exit(&report)),
        }
    }
}

/// What was asked for is that everything be put back.
fn exit(report: &Report) -> Exit {
    match report.outcome {
        Verdict::Aborted if report.left_behind.is_empty() => Exit::Done,
        outcome => outcome.into(),
    }
}
