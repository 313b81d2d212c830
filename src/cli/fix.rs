//! `fastnode fix`: shows what would make new nodes functional sooner, does it, takes it back.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::args;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::{self, Format, Printer};
use super::seen::Seen;
use super::world::{Task, World, run};
use super::{prompt, signals, telling};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::cloud::addons::Addons;
use crate::cluster::Cluster;
use crate::cluster::manifests::Manifests;
use crate::config::Config;
use crate::controller::{self, Interrupt};
use crate::event::{Event, EventKind, Sink};
use crate::fixes::catalogue::Patch;
use crate::fixes::render::default_waiter;
use crate::fixes::rollout::Going;
use crate::fixes::{
    self, Came, Catalogue, Course, Ended, Onlooker, Options, PodView, Proposal, Remedy, Standing, State, Undo, Way,
    standing,
};
use crate::lock::Lock;
use crate::model::{ObjectKey, Text};
use crate::policy::{Policy, Timeout};
use crate::report::fix::{self as pages, Outcome};
use crate::report::plain::Detail;
use crate::report::reporter::Show;
use crate::report::text::clip;

/// How long one new pod may take where the gate's time-out is `never`.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Cells of the bar.
const BAR: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Show,
    Apply,
    Revert,
}

struct Fix {
    printer: Printer,
    deed: Deed,
    yes: bool,
    names: Vec<String>,
    catalogue: Catalogue,
    options: Options,
    waiter: Option<String>,
    events: Option<PathBuf>,
    /// A bar is on the screen.
    drawn: Cell<bool>,
    /// New pods when it was last said how many there are.
    said: Cell<u32>,
}

/// Shows, applies or takes back.
///
/// # Errors
/// If a fix is unknown or malformed, nobody can be asked, or the world cannot be reached.
pub fn fix(config: Config, printer: Printer, args: &args::Fix) -> Result<Exit, Failure> {
    let catalogue = catalogue(&config)?;
    if args.list {
        printer.out(&match printer.format {
            Format::Json => format!("{}\n", pages::catalogue_json(&catalogue)),
            Format::Human | Format::Plain => pages::catalogue(&catalogue, printer.width, printer.paint),
        });
        return Ok(Exit::Done);
    }
    let deed = match (args.apply, args.revert) {
        (true, _) => Deed::Apply,
        (_, true) => Deed::Revert,
        _ => Deed::Show,
    };
    let mut names = Vec::new();
    for name in &args.fixes {
        let name = catalogue.find(name).map_err(fixes::Error::from)?.name;
        // Named twice it is done once.
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        names = catalogue.targeted().into_iter().map(|remedial| remedial.name).collect();
    }
    let yes = config.flag("yes")?;
    if deed != Deed::Show && !yes && !prompt::can_ask() {
        let why = "nothing was changed: standard input is no terminal, so nobody can be asked";
        return Err(Failure::new(Exit::Usage, why).hint("see the diff without --apply or --revert, then give --yes"));
    }
    let options = Options {
        take_ownership: config.flag("take-ownership")?,
        on_new_nodes_only: config.flag("on-new-nodes-only")?,
        ..Options::default()
    };
    let waiter = waiter(&config)?;
    let events = config.text("events")?.map(PathBuf::from);
    let (drawn, said) = (Cell::new(false), Cell::new(0));
    run(config, false, |_| Fix { printer, deed, yes, names, catalogue, options, waiter, events, drawn, said })
}

/// The shipped fixes, and those of `--fix-file`.
pub(super) fn catalogue(config: &Config) -> Result<Catalogue, Failure> {
    let mut catalogue = Catalogue::shipped().map_err(crate::fixes::Error::from)?;
    for path in config.words("fix-file")? {
        catalogue = catalogue.with(Path::new(&path)).map_err(crate::fixes::Error::from)?;
    }
    Ok(catalogue)
}

/// The image of init containers that wait; nothing is pulled in a simulation, so any does there.
pub(super) fn waiter(config: &Config) -> Result<Option<String>, Failure> {
    let simulated = config.text("simulate")?.map(|_| default_waiter());
    let waiter = config.text("waiter-image")?.map(str::to_owned).or(simulated);
    if let Some(image) = waiter.as_deref().filter(|image| image.contains(char::is_whitespace)) {
        return Err(Failure::new(Exit::Usage, format!("failed to read --waiter-image: {image:?} is no image")));
    }
    Ok(waiter)
}

/// What a deed has in its hands.
struct Hands<C, K> {
    remedy: Remedy<C, K>,
    clock: Clock,
    policy: Policy,
    seen: Seen,
    sink: Sink,
}

/// What has been looked at and agreed to.
enum Begun<C, K> {
    /// There is nothing to do.
    Idle(Exit),
    /// The lock is held.
    Ready(Box<Hands<C, K>>, Lock<K>, telling::Telling),
}

impl Task for Fix {
    type Outcome = Exit;

    async fn run<C, K>(self, world: World<C, K>) -> Result<Exit, Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let interrupt = world.interrupt.clone();
        let name = world.settings.cluster.clone();
        let begun = tokio::select! {
            biased;
            signal = signals::received(interrupt.clone()) => {
                return Err(Failure::new(signal.into(), "interrupted: nothing was changed"));
            }
            begun = self.begin(world) => begun?,
        };
        let (hands, lock, told) = match begun {
            Begun::Idle(exit) => return Ok(exit),
            Begun::Ready(hands, lock, told) => (hands, lock, told),
        };
        let done = tokio::select! {
            biased;
            signal = signals::received(interrupt) => Err(interrupted(signal)),
            done = async {
                match self.deed {
                    Deed::Revert => self.revert(&hands).await,
                    _ => self.apply(&hands).await,
                }
            } => done,
        };
        self.wipe();
        drop(hands);
        // A pause that somebody asked for outlives this.
        let paused = lock.state().borrow().request.is_some();
        if let Err(error) = lock.release(paused).await {
            tracing::warn!("failed to give the lock back, it runs out by itself: {error}");
        }
        let last = done.as_ref().map(|(_, fixes)| self.last_words(fixes)).unwrap_or_default();
        told.end().await?.finish(&last).await.into_iter().for_each(printer::lose);
        let (exit, fixes) = done?;
        self.conclude(&name, fixes);
        Ok(exit)
    }
}

fn interrupted(signal: Interrupt) -> Failure {
    let said = "interrupted: what was applied stays, and its rollout goes on without anybody watching";
    Failure::new(signal.into(), said).hint("fastnode fix shows how it stands; --revert takes it back")
}

/// Whether a proposal stands where what was asked for by name cannot be done.
fn is_barred(proposal: &Proposal) -> bool {
    matches!(proposal.state, State::Unfit(_)) || proposal.way.as_ref().is_some_and(|way| !way.is_open())
}

impl Fix {
    /// Looks, shows, asks, and takes the lock.
    async fn begin<C, K>(&self, world: World<C, K>) -> Result<Begun<C, K>, Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let World { ports, settings, .. } = world;
        let (cloud, cluster) = (ports.cloud.clone(), ports.cluster.clone());
        let name = settings.cluster.clone();
        let remedy =
            Remedy::new(cloud, cluster, ports.clock, name.clone(), self.catalogue.clone(), self.waiter.clone());
        if self.deed == Deed::Revert {
            for undo in self.undos(&remedy).await? {
                let title = format!("{}  {}\n", self.printer.paint.bold(&undo.remedial.name), undo.remedial.daemonset);
                self.tell(&(title + &pages::coloured(&undo.diff, self.printer.paint)));
            }
        } else {
            let shown = self.look(&remedy).await?;
            let open = shown.iter().any(Proposal::is_open);
            // All that was named, or nothing.
            let barred = self.deed == Deed::Apply && shown.iter().any(is_barred);
            if self.deed == Deed::Show || !open || barred {
                self.show(&shown, &ports.cluster, &settings).await?;
                if self.deed == Deed::Show && open && self.printer.format != Format::Json {
                    self.printer.out(&format!("\nfastnode fix --cluster {name} FIX --apply applies one\n"));
                } else if open && barred {
                    let which = shown.iter().filter(|one| is_barred(one)).map(|one| one.remedial.name.as_str());
                    let which = which.collect::<Vec<_>>().join(", ");
                    return Err(Failure::new(Exit::Refused, format!("nothing was changed: {which} cannot be applied"))
                        .hint("leave it out, and the others are applied"));
                }
                return Ok(Begun::Idle(if barred { Exit::Refused } else { Exit::Done }));
            }
            let unshown = |proposal| pages::proposal(proposal, None, self.printer.width, self.printer.paint);
            shown.iter().for_each(|proposal| self.tell(&unshown(proposal)));
        }
        let question = match self.deed {
            Deed::Revert => format!("Take {} back on {name}?", self.names.join(", ")),
            _ => format!("Apply {} to {name}?", self.names.join(", ")),
        };
        if !self.yes && !prompt::yes(&self.printer, &question).await {
            return Err(Failure::new(Exit::Refused, "nothing was changed: the answer was not yes"));
        }
        let show = match self.printer.format {
            Format::Json => Show::Json,
            Format::Human | Format::Plain => Show::Lines(self.printer.paint, Detail::Nodes),
        };
        let seen = Seen::begin(&ports.cluster, &name).await?;
        let (sink, told) = telling::begin(show, self.events.as_deref())?;
        let id = format!("fix-{}", ports.clock.now().strftime("%Y%m%dt%H%M%Sz"));
        let back = if self.deed == Deed::Revert { " --revert" } else { "" };
        let doing = format!("fastnode fix {}{back}", self.names.join(" "));
        let (cluster, policy) = (ports.cluster.clone(), settings.policy.clone());
        let lock =
            Lock::acquire_to(cluster, ports.clock, &settings.namespace, &settings.identity, (&id, Some(&doing))).await;
        let lock = lock.map_err(controller::Error::from)?;
        let hands = Hands { remedy, clock: ports.clock, policy, seen, sink };
        Ok(Begun::Ready(Box::new(hands), lock, told))
    }

    /// How each fix stands.
    async fn look<C: Cloud + Addons, K: Manifests>(&self, remedy: &Remedy<C, K>) -> Result<Vec<Proposal>, Failure> {
        let mut shown = Vec::new();
        for name in &self.names {
            let proposal = remedy.propose(name, &self.options).await?;
            let waits = matches!(proposal.remedial.fix.patch, Patch::Wait { .. });
            let fresh = proposal.is_open() && proposal.way != Some(Way::Settle);
            if self.deed == Deed::Apply && fresh && waits && self.waiter.is_none() {
                return Err(fixes::Error::NoWaiter { fix: name.clone() }.into());
            }
            shown.push(proposal);
        }
        Ok(shown)
    }

    /// What taking each back would do; all or none.
    async fn undos<C: Cloud + Addons, K: Manifests>(&self, remedy: &Remedy<C, K>) -> Result<Vec<Undo>, Failure> {
        let mut undos = Vec::new();
        for name in &self.names {
            undos.push(remedy.propose_revert(name).await?);
        }
        Ok(undos)
    }

    /// Shows how the fixes stand, and of those that are in place whether they have helped.
    async fn show<K>(&self, shown: &[Proposal], cluster: &Rc<K>, settings: &controller::Settings) -> Result<(), Failure>
    where
        K: Cluster + 'static,
    {
        let in_place = |proposal: &Proposal| matches!(proposal.state, State::Applied(_));
        // Only these make it worth the while to read all nodes and pods.
        let seen = match shown.iter().any(in_place) {
            true => Some(Seen::begin(cluster, &settings.cluster).await),
            false => None,
        };
        let outcome = if self.deed == Deed::Show { "shown" } else { "nothing to do" };
        let mut all = Vec::new();
        for proposal in shown {
            let (standing, said) = match &seen {
                Some(Ok(seen)) => {
                    let standing = standing::of_proposal(&settings.policy, &seen.now(), proposal);
                    let back = standing.and_then(|s| standing::back(&settings.cluster, &proposal.remedial.name, &s));
                    let said = standing.map(|s| back.map_or_else(|| s.to_string(), |back| format!("{s}; {back}")));
                    (standing, said)
                }
                // How it stands and its diff are shown all the same.
                Some(Err(failure)) if in_place(proposal) => {
                    (None, Some(format!("whether it has helped is not known: {}", failure.message)))
                }
                _ => (None, None),
            };
            self.tell(&pages::proposal(proposal, said.as_deref(), self.printer.width, self.printer.paint));
            let mut found = pages::json(proposal, &Outcome { outcome, why: said });
            if let Some(Standing::Judged(effect)) = standing {
                found["effect"] = json!(effect);
            }
            all.push(found);
        }
        self.conclude(&settings.cluster, all);
        Ok(())
    }

    /// Applies one after the other, each as it stands after those before it.
    async fn apply<C, K>(&self, hands: &Hands<C, K>) -> Result<(Exit, Vec<Value>), Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let mut exit = Exit::Done;
        let mut all = Vec::new();
        // A fix renews pods, and with them goes what the nodes show of their start: looked at before the first.
        let mut baselines = Vec::new();
        for name in &self.names {
            let remedial = self.catalogue.find(name).map_err(fixes::Error::from)?;
            baselines.push(standing::baseline(&hands.policy, &hands.seen.now(), &remedial.daemonset));
        }
        for (name, before) in self.names.iter().zip(baselines) {
            let options = Options { baseline: before.map(|(start, _)| start), ..self.options.clone() };
            let proposal = hands.remedy.propose(name, &options).await?;
            if !proposal.is_open() {
                // It was to be done when it was looked at: what came before it, or somebody else, has changed that.
                let why = pages::closed(&proposal);
                let message = format!("{name} was not applied: {why}");
                hands.say(EventKind::Error { message, fatal: false }).await;
                let acted = all.iter().any(|fix: &Value| fix["outcome"] != "nothing to do");
                let refused = if acted { Exit::Incomplete } else { Exit::Refused };
                exit = exit.max(if is_barred(&proposal) { refused } else { Exit::Done });
                all.push(pages::json(&proposal, &Outcome { outcome: "nothing to do", why: Some(why) }));
                continue;
            }
            let (fix, daemonset): (Text, Text) = (name.as_str().into(), proposal.remedial.daemonset.to_string().into());
            let way = proposal.way.as_ref().map(ToString::to_string).unwrap_or_default();
            let diff = proposal.diff.clone();
            hands.say(EventKind::FixProposed { fix: fix.clone(), daemonset: daemonset.clone(), way, diff }).await;
            let eyes = Eyes { fix: self, seen: &hands.seen };
            let came = hands.course(&eyes).apply(&proposal).await;
            self.wipe();
            let outcome = match came? {
                Came::InPlace(pods) => {
                    hands.say(EventKind::FixApplied { fix, daemonset, pods }).await;
                    let outcome = if proposal.way == Some(Way::Settle) { "settled" } else { "applied" };
                    let taint = matches!(proposal.remedial.fix.patch, Patch::StartupTaint { .. });
                    let why = if taint { Standing::Elsewhere.to_string() } else { pages::unproved(before) };
                    Outcome { outcome, why: Some(why) }
                }
                Came::Harm { why, back } => {
                    exit = exit.max(Exit::Stopped);
                    let (outcome, more) = match back {
                        Ok(still) => {
                            hands.say(EventKind::FixReverted { fix, daemonset, why: why.clone() }).await;
                            ("rolled back", still.map(|still| format!("{name} is taken back, and still {still}")))
                        }
                        Err(failure) => {
                            let message = format!("{name} does harm ({why}), and taking it back failed: {failure}");
                            ("harmful", Some(message))
                        }
                    };
                    if let Some(message) = more {
                        hands.say(EventKind::Error { message, fatal: false }).await;
                    }
                    Outcome { outcome, why: Some(why) }
                }
                Came::Late(why) => {
                    exit = exit.max(Exit::Incomplete);
                    hands.say(EventKind::Error { message: format!("{name}: {why}"), fatal: false }).await;
                    Outcome { outcome: "late", why: Some(why) }
                }
            };
            all.push(pages::json(&proposal, &outcome));
            if exit != Exit::Done {
                break;
            }
        }
        Ok((exit, all))
    }

    async fn revert<C, K>(&self, hands: &Hands<C, K>) -> Result<(Exit, Vec<Value>), Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let mut exit = Exit::Done;
        let mut all = Vec::new();
        for name in &self.names {
            let undo = hands.remedy.propose_revert(name).await?;
            let key = &undo.remedial.daemonset;
            let eyes = Eyes { fix: self, seen: &hands.seen };
            let ended = hands.course(&eyes).take_back(&undo).await;
            self.wipe();
            let ended = ended?;
            let (fix, daemonset) = (name.as_str().into(), key.to_string().into());
            hands.say(EventKind::FixReverted { fix, daemonset, why: "asked for".to_owned() }).await;
            let mut found =
                json!({ "fix": name, "daemonset": key.to_string(), "diff": undo.diff, "outcome": "reverted" });
            if let Ended::Bad(why) | Ended::Late(why) = ended {
                found["why"] = json!(why);
                hands.say(EventKind::Error { message: format!("{name}: {why}"), fatal: false }).await;
                exit = Exit::Incomplete;
            }
            all.push(found);
        }
        Ok((exit, all))
    }

    /// For people: what is still to be seen of what was applied.
    fn last_words(&self, fixes: &[Value]) -> String {
        let unproved = |fix: &&Value| fix["outcome"] == "applied" || fix["outcome"] == "settled";
        let line = |fix: &Value| Some(format!("{}: {}\n", fix["fix"].as_str()?, fix["why"].as_str()?));
        match self.printer.format {
            Format::Json => String::new(),
            Format::Human | Format::Plain => fixes.iter().filter(unproved).filter_map(line).collect(),
        }
    }

    /// For programs, all of it as one object.
    fn conclude(&self, cluster: &str, fixes: Vec<Value>) {
        if self.printer.format == Format::Json {
            let all = json!({ "v": crate::event::VERSION, "cluster": cluster, "fixes": fixes });
            self.printer.out(&format!("{all}\n"));
        }
    }

    fn tell(&self, text: &str) {
        if self.printer.format != Format::Json {
            self.printer.out(text);
        } else if self.deed != Deed::Show && !self.yes {
            self.printer.err(text);
        }
    }

    /// A bar in a terminal, a line elsewhere.
    fn draw(&self, key: &ObjectKey, going: &Going) {
        let Going { done, desired, waits_for } = going;
        let text = format!("{done}/{desired} new, waiting for {waits_for}");
        if self.printer.terminal {
            let filled = BAR * *done as usize / (*desired).max(1) as usize;
            let bar = format!("{}{}", "█".repeat(filled.min(BAR)), "░".repeat(BAR.saturating_sub(filled)));
            let line = clip(&format!("{} {bar} {text}", key.name), self.printer.width.saturating_sub(1));
            self.printer.err(&format!("\r\u{1b}[K{line}"));
            self.drawn.set(true);
        } else if self.printer.format != Format::Json && done.abs_diff(self.said.get()) >= (*desired).div_ceil(10) {
            self.printer.err(&format!("{key}: {text}\n"));
            self.said.set(*done);
        }
    }

    fn wipe(&self) {
        if self.drawn.take() {
            self.printer.err("\r\u{1b}[K");
        }
    }
}

/// Sees the pods of a fix, and draws its rollout.
struct Eyes<'a> {
    fix: &'a Fix,
    seen: &'a Seen,
}

impl Onlooker for Eyes<'_> {
    async fn turn_to(&self, _: &ObjectKey) {}

    fn pods(&self, set: &ObjectKey) -> Vec<PodView> {
        PodView::all(&self.seen.now(), set)
    }

    fn going(&self, set: &ObjectKey, going: &Going) {
        self.fix.draw(set, going);
    }
}

impl<C: Cloud + Addons, K: Manifests> Hands<C, K> {
    fn course<'a>(&'a self, eyes: &'a Eyes<'a>) -> Course<'a, C, K, Eyes<'a>> {
        let patience = match self.policy.gate_timeout {
            Timeout::After(limit) => Duration::try_from(limit).unwrap_or(PATIENCE),
            Timeout::Never => PATIENCE,
        };
        Course { remedy: &self.remedy, onlooker: eyes, patience }
    }

    async fn say(&self, kind: EventKind) {
        // A reporter that is gone has said why.
        let _ = self.sink.send(Event { time: self.clock.now(), kind }).await;
    }
}
