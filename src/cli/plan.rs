//! `fastnode plan`: what rotate would do; changes nothing.

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::signals;
use super::world::{Task, World, run};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::plan::Finding;
use crate::report::plan::{json, text};
use crate::{controller, preflight};

struct Plan {
    printer: Printer,
}

/// Shows the plan.
///
/// # Errors
/// If the world cannot be observed.
pub fn plan(config: Config, printer: Printer) -> Result<Exit, Failure> {
    run(config, false, |_| Plan { printer })
}

impl Task for Plan {
    type Outcome = Exit;

    async fn run<C: Cloud + 'static, K: Cluster + 'static>(self, world: World<C, K>) -> Result<Exit, Failure> {
        let World { ports, settings, interrupt, .. } = world;
        let snapshot = tokio::select! {
            biased;
            signal = signals::received(interrupt) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            snapshot = controller::observe(&ports, &settings) => snapshot?,
        };
        let now = ports.clock.now();
        let preview = crate::plan::preview(&settings.policy, &snapshot, now);
        let preflight = preflight::check(&settings.policy, &snapshot, now);
        let printer = &self.printer;
        match printer.format {
            Format::Json => {
                printer.out(&json(&preview, &preflight).map_err(|e| Failure::new(Exit::Unexpected, chain(&e)))?);
            }
            Format::Human | Format::Plain => {
                let cluster = &settings.cluster;
                printer.out(&text(cluster, &preview, &preflight, printer.width, printer.paint));
            }
        }
        Ok(match () {
            () if !preflight.faults.is_empty() => Exit::Refused,
            () => match preview.finding {
                Finding::Work => Exit::Work,
                Finding::Held => Exit::Incomplete,
                Finding::NothingToDo => Exit::Done,
            },
        })
    }
}
