//! `fastnode measure`: how the nodes there are have started; changes nothing.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use super::{fix, signals};
use crate::cloud::{self, Cloud};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controller::{self, Ports};
use crate::fixes::{Catalogue, standing};
use crate::model::{GroupName, InstanceId, Text};
use crate::observe::Snapshot;
use crate::policy::Policy;
use crate::readiness::stages::{Measurement, in_scope, requests, start_of};
use crate::report::{measure as table, picture};

/// Activities are asked for nodes this young only: AWS keeps them for six weeks, and a group that scales up and down
/// all day has thousands.
const REQUESTS: SignedDuration = SignedDuration::from_hours(24);

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
    catalogue: Catalogue,
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
    let catalogue = fix::catalogue(&config)?;
    run(config, false, |_| Measure { printer, catalogue, earlier, reports })
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

    async fn run<C: Cloud + 'static, K: Cluster + 'static>(self, world: World<C, K>) -> Result<Exit, Failure> {
        let World { ports, settings, interrupt, .. } = world;
        let policy = &settings.policy;
        let seen = async {
            let mut snapshot = controller::observe(&ports, &settings).await?;
            check(policy, &snapshot)?;
            let notes = complete(&ports, policy, &mut snapshot).await?;
            Ok::<_, Failure>((snapshot, notes))
        };
        let (snapshot, notes) = tokio::select! {
            biased;
            signal = signals::received(interrupt) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            seen = seen => seen?,
        };
        let mut notes = notes;
        notes.extend(standing::lines(policy, &snapshot, &self.catalogue));
        let mut measured = Measurement { notes, ..Measurement::of(policy, &snapshot, ports.clock.now()) };
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

/// Names that are in no cluster are mistakes, not empty measurements.
fn check(policy: &Policy, snapshot: &Snapshot) -> Result<(), Failure> {
    let refuse = |why: String, hint: String| Err(Failure::new(Exit::Refused, why).hint(hint));
    if let Some(group) = policy.scope.groups.iter().find(|g| !snapshot.groups.contains_key(*g)) {
        let there: Vec<&str> = snapshot.groups.keys().map(GroupName::as_str).collect();
        let why = format!("{}: there is no Auto Scaling group {group}", snapshot.cluster);
        return refuse(why, format!("its groups are {}", there.join(", ")));
    }
    match policy.scope.nodes.iter().find(|n| !snapshot.nodes.contains_key(*n)) {
        Some(node) => {
            refuse(format!("{}: there is no node {node}", snapshot.cluster), "kubectl get nodes lists them".to_owned())
        }
        None => Ok(()),
    }
}

/// Asks AWS for the times of those nodes that can be measured: their launches, and of the young ones the activities
/// that launched them. What AWS does not let us read stays unknown, and is told.
async fn complete<C: Cloud, K>(
    ports: &Ports<C, K>,
    policy: &Policy,
    snapshot: &mut Snapshot,
) -> Result<Vec<Text>, Failure> {
    let wanted = wanted(policy, snapshot, ports.clock.now());
    let mut notes = Vec::new();
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
    Ok(notes)
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
        if now.duration_since(node.created) <= REQUESTS {
            let since = node.created.checked_sub(BEFORE).unwrap_or(node.created);
            let first = wanted.activities.entry(instance.group.clone()).or_insert(since);
            *first = since.min(*first);
        }
    }
    wanted
}
