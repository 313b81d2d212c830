//! `fastnode measure`: how the nodes there are have started; changes nothing.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use super::{scope, signals};
use crate::cloud::{self, Cloud};
use crate::cluster::evidence::Evidence;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::controller::{self, Ports};
use crate::model::{GroupName, InstanceId, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::stages::{self, Boots, Measurement, in_scope, requests, start_of};
use crate::report::{measure as table, picture};

/// Activities are asked for nodes this young only: AWS keeps them for six weeks, and a group that scales up and down
/// all day has thousands.
const REQUESTS: SignedDuration = SignedDuration::from_hours(24);

/// Events are asked for nodes this young only: API servers keep them for an hour (`--event-ttl`), some for longer.
const EVENTS: SignedDuration = SignedDuration::from_hours(3);

/// The activity that launched an instance began at most this long before its Node was created.
const BEFORE: SignedDuration = SignedDuration::from_mins(30);

/// What a report file holds, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Svg,
    Html,
    Json,
}

struct Measure {
    printer: Printer,
    earlier: Option<Measurement>,
    reports: Vec<(PathBuf, Kind)>,
}

/// Measures and shows it.
///
/// # Errors
/// If the world cannot be observed, the earlier measurement not be read, or a report not be written.
pub fn measure(config: Config, printer: Printer) -> Result<Exit, Failure> {
    let earlier = config.text("compare")?.map(|path| read(Path::new(path))).transpose()?;
    let reports = config.words("report")?.iter().map(|name| report(name)).collect::<Result<_, _>>()?;
    run(config, false, |_| Measure { printer, earlier, reports })
}

fn read(path: &Path) -> Result<Measurement, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("failed to read --compare {}: {why}", path.display()));
    let json = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    Measurement::read(&json).map_err(|e| wrong(chain(&e)))
}

fn report(name: &str) -> Result<(PathBuf, Kind), Failure> {
    let path = PathBuf::from(name);
    let kind = match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => Kind::Svg,
        Some("html") => Kind::Html,
        Some("json") => Kind::Json,
        _ => {
            let why = format!("failed to read --report: {name:?} is not a file name that ends in .svg, .html or .json");
            return Err(Failure::new(Exit::Usage, why));
        }
    };
    Ok((path, kind))
}

impl Task for Measure {
    type Outcome = Exit;

    async fn run<C: Cloud + 'static, K: Cluster + Evidence + 'static>(
        self,
        world: World<C, K>,
    ) -> Result<Exit, Failure> {
        let World { ports, settings, interrupt, .. } = world;
        let policy = &settings.policy;
        let seen = async {
            let mut snapshot = controller::observe(&ports, &settings).await?;
            scope::check(policy, &snapshot)?;
            let told = complete(&ports, policy, &mut snapshot).await?;
            Ok::<_, Failure>((snapshot, told))
        };
        let (snapshot, Told { boots, notes }) = tokio::select! {
            biased;
            signal = signals::received(interrupt) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            seen = seen => seen?,
        };
        let mut measured = Measurement { notes, ..Measurement::of(policy, &snapshot, &boots, ports.clock.now()) };
        if let Some(earlier) = &self.earlier {
            measured.compare(earlier, policy, &snapshot);
        }
        let json = || serde_json::to_string_pretty(&measured).map_err(|e| Failure::new(Exit::Unexpected, chain(&e)));
        for (path, kind) in &self.reports {
            let text = match kind {
                Kind::Svg => picture::svg(&measured),
                Kind::Html => picture::html(&measured),
                Kind::Json => json()? + "\n",
            };
            let lost = |e: std::io::Error| format!("failed to write {}: {e}", path.display());
            std::fs::write(path, text).map_err(|e| Failure::new(Exit::Unexpected, lost(e)))?;
        }
        self.printer.out(&match self.printer.format {
            Format::Json => json()? + "\n",
            Format::Human | Format::Plain => table::text(&measured, self.printer.width, self.printer.paint),
        });
        Ok(Exit::Done)
    }
}

/// What was told of nodes beyond the snapshot.
#[derive(Default)]
struct Told {
    boots: Boots,
    /// What is not known, and why.
    notes: Vec<Text>,
}

/// Asks for the times of those nodes that can be measured: AWS for their launches, and of the young ones for the
/// activities that launched them; the cluster for the Events of their kubelets' starts. What may not be read stays
/// unknown, and is told.
async fn complete<C: Cloud, K: Evidence>(
    ports: &Ports<C, K>,
    policy: &Policy,
    snapshot: &mut Snapshot,
) -> Result<Told, Failure> {
    let wanted = wanted(policy, snapshot, ports.clock.now());
    let Told { mut boots, mut notes } = Told::default();
    if !wanted.launches.is_empty() {
        match ports.cloud.instances(&wanted.launches).await {
            Ok(details) => snapshot.apply_details(details),
            Err(error) => notes.push(refused(error, "launch times")?),
        }
    }
    for (group, since) in wanted.activities {
        match ports.cloud.activities(&group, since).await {
            Ok(activities) => snapshot.apply_activities(&group, activities),
            Err(error) => {
                notes.push(refused(error, "the times at which nodes were requested")?);
                break;
            }
        }
    }
    if wanted.events {
        match ports.cluster.starts().await {
            Ok(events) => boots = stages::boots(&events),
            Err(error) if error.kind == cluster::ErrorKind::Forbidden => {
                let why = "when instances had booted is unknown: this identity may not list events";
                notes.push(format!("{why}; config/deploy/rbac-doctor.yaml allows it").into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Told { boots, notes })
}

fn refused(error: cloud::Error, what: &str) -> Result<Text, Failure> {
    match error.kind {
        cloud::ErrorKind::Denied => Ok(format!("{what} are unknown: this identity may not {}", error.operation).into()),
        _ => Err(error.into()),
    }
}

#[derive(Default)]
struct Wanted {
    /// Instances whose launch time is not known yet.
    launches: Vec<InstanceId>,
    /// Groups, and from when on their activities matter.
    activities: std::collections::BTreeMap<GroupName, Timestamp>,
    /// Whether Events may still tell of their kubelets' starts.
    events: bool,
}

fn wanted(policy: &Policy, snapshot: &Snapshot, now: Timestamp) -> Wanted {
    let mut wanted = Wanted::default();
    let requests = requests(snapshot);
    for node in snapshot.nodes.values().filter(|n| in_scope(&policy.scope, snapshot, n)) {
        let Some(instance) = node.instance.as_ref().and_then(|id| snapshot.instances.get(id)) else { continue };
        if start_of(policy, snapshot, node, &requests).is_err() {
            continue;
        }
        if instance.launched_at.is_none() {
            wanted.launches.push(instance.id.clone());
        }
        let age = now.duration_since(node.created);
        wanted.events |= age <= EVENTS;
        if age <= REQUESTS {
            let since = node.created.checked_sub(BEFORE).unwrap_or(node.created);
            let first = wanted.activities.entry(instance.group.clone()).or_insert(since);
            *first = since.min(*first);
        }
    }
    wanted
}
