//! `fastnode doctor`: what is wrong with nodes now, why, and which fix helps; changes nothing.

use std::time::Duration;

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use super::{fix, scope, signals};
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::Manifests;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::controller;
use crate::fixes;
use crate::readiness::diagnosis::{Ask, Case, Catalogue, Gathered, Scope, diagnose, gather, remarks};
use crate::report::doctor::{Diagnosis, json, text};

/// How long gathering the evidence may take.
const LIMIT: Duration = Duration::from_secs(60);

struct Doctor {
    printer: Printer,
    log_pods: usize,
    fixes: fixes::Catalogue,
}

/// Diagnoses and shows it.
///
/// # Errors
/// If a fix is malformed, or the world cannot be observed. What only a diagnosis reads and may not is said in its place.
pub fn doctor(config: Config, printer: Printer) -> Result<Exit, Failure> {
    let log_pods = config.number("log-pods", 0_usize)?;
    let fixes = fix::catalogue(&config)?;
    run(config, false, |_| Doctor { printer, log_pods, fixes })
}

impl Task for Doctor {
    type Outcome = Exit;

    async fn run<C, K>(self, world: World<C, K>) -> Result<Exit, Failure>
    where
        C: Cloud + cloud::evidence::Evidence + 'static,
        K: Cluster + cluster::evidence::Evidence + Manifests + 'static,
    {
        let World { ports, settings, interrupt, .. } = world;
        let seen = async {
            let snapshot = controller::observe(&ports, &settings).await?;
            scope::check(&settings.policy, &snapshot)?;
            let (cluster, policy) = (&*settings.cluster, &settings.policy);
            let ask = Ask { cluster, policy, scope: Scope::Policy, pods: self.log_pods, limit: LIMIT };
            let gathered = gather((&*ports.cloud, &*ports.cluster, ports.clock), &ask, &snapshot).await;
            Ok::<_, Failure>((snapshot, gathered))
        };
        let (snapshot, Gathered { suspects, evidence, pods_read }) = tokio::select! {
            biased;
            signal = signals::received(interrupt) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            seen = seen => seen?,
        };
        let catalogue = Catalogue::built_in(evidence.service.as_deref())
            .map_err(|error| Failure::new(Exit::Unexpected, chain(&error)))?;
        let case = Case { snapshot: &snapshot, suspects: &suspects, evidence: &evidence, now: ports.clock.now() };
        let mut findings = diagnose(&catalogue, case);
        findings.iter_mut().for_each(|finding| self.fixes.aim(finding));
        let diagnosis = Diagnosis {
            cluster: settings.cluster.clone(),
            time: case.now,
            findings,
            sick: suspects.sick.clone(),
            nodes: suspects.judged.len(),
            pods_read,
            notes: remarks(case),
        };
        let printer = &self.printer;
        match printer.format {
            Format::Json => {
                printer.out(&json(&diagnosis).map_err(|error| Failure::new(Exit::Unexpected, chain(&error)))?);
            }
            Format::Human | Format::Plain => printer.out(&text(&diagnosis, printer.width, printer.paint)),
        }
        Ok(if diagnosis.findings.is_empty() { Exit::Done } else { Exit::Findings })
    }
}
