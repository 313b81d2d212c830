//! `fastnode pause` and `fastnode resume`: asks a running rotation, wherever it runs.

use serde_json::json;

use super::exit::Exit;
use super::failure::Failure;
use super::printer::{Format, Printer};
use super::signals;
use super::world::{Task, World, run};
use crate::cloud::Cloud;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, Answer};

struct Ask {
    printer: Printer,
    pause: bool,
}

/// Asks, and says what became of it.
///
/// # Errors
/// If Kubernetes cannot be reached or refuses.
pub fn ask(config: Config, printer: Printer, pause: bool) -> Result<Exit, Failure> {
    run(config, false, |_| Ask { printer, pause })
}

impl Task for Ask {
    type Outcome = Exit;

    async fn run<C: Cloud + 'static, K: Cluster + 'static>(self, world: World<C, K>) -> Result<Exit, Failure> {
        let answer = tokio::select! {
            biased;
            signal = signals::received(world.interrupt) => {
                return Err(Failure::new(signal.into(), "interrupted: it may have been asked already; see fastnode status"));
            }
            answer = controller::ask(&world.ports, &world.settings, self.pause) => answer?,
        };
        let cluster = &world.settings.cluster;
        self.printer.out(&match self.printer.format {
            Format::Json => {
                let asked = if self.pause { "pause" } else { "resume" };
                format!(
                    "{:#}\n",
                    json!({"v": crate::event::VERSION, "cluster": cluster, "asked": asked, "result": answer})
                )
            }
            Format::Human | Format::Plain => format!("{cluster}: {}\n", text(&answer, self.pause)),
        });
        Ok(Exit::Done)
    }
}

fn text(answer: &Answer, pause: bool) -> String {
    match (answer, pause) {
        (Answer::NoRotation, true) => "no rotation to pause".to_owned(),
        (Answer::NoRotation, false) => "no rotation to go on with".to_owned(),
        (Answer::Already { .. }, true) => "paused already, or being aborted".to_owned(),
        (Answer::Already { .. }, false) => "not paused, or being aborted".to_owned(),
        (Answer::Heard { holder }, true) => {
            format!("paused; drains in hand finish, and {holder} keeps the lock until fastnode resume")
        }
        (Answer::Heard { holder }, false) => format!("{holder} goes on"),
        (Answer::Noted, true) => "nobody runs it; the next run waits until fastnode resume".to_owned(),
        (Answer::Noted, false) => "nobody runs it; the next run does not wait any more".to_owned(),
        (Answer::Silent { holder }, true) => {
            format!("{holder} does not answer; the next run takes over and waits until fastnode resume")
        }
        (Answer::Silent { holder }, false) => {
            format!("{holder} does not answer; the next run takes over and goes on")
        }
    }
}
