//! `fastnode fix`: shows what would make new nodes functional sooner, does it, takes it back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::args;
use super::exit::Exit;
use super::failure::Failure;
use super::printer::{Format, Printer};
use super::world::{Task, World, run};
use super::{prompt, signals, telling};
use crate::cloud::Cloud;
use crate::cloud::addons::Addons;
use crate::cluster::manifests::Manifests;
use crate::cluster::{Cluster, Fact, Kind};
use crate::config::Config;
use crate::controller::{self, Interrupt, Ports};
use crate::event::{Event, EventKind, Sink};
use crate::fixes::render::default_waiter;
use crate::fixes::rollout::{Going, Rollout, follow};
use crate::fixes::{Catalogue, Ended, Options, PodView, Proposal, Remedy, State, Way};
use crate::lock::Lock;
use crate::model::{ObjectKey, Pod, Uid};
use crate::policy::Timeout;
use crate::report::fix::{self as pages, Outcome};
use crate::report::plain::Detail;
use crate::report::reporter::Show;
use crate::report::text::clip;

/// Facts that may wait for us: a burst of the first list.
const FACTS: usize = 1024;
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
        names.push(catalogue.find(name).map_err(crate::fixes::Error::from)?.name);
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
        baseline: None,
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
    ports: Ports<C, K>,
    remedy: Remedy<C, K>,
    pods: Pods,
    patience: Duration,
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
        for lost in told.end().await?.finish("").await {
            tracing::warn!("{lost}");
        }
        let (exit, fixes) = done?;
        self.conclude(&name, fixes);
        Ok(exit)
    }
}

fn interrupted(signal: Interrupt) -> Failure {
    let said = "interrupted: what was applied stays, and its rollout goes on without anybody watching";
    Failure::new(signal.into(), said).hint("fastnode fix shows how it stands; --revert takes it back")
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
        let (shown, open) = self.look(&remedy).await?;
        if self.deed == Deed::Show || open == 0 {
            self.conclude(&name, shown.iter().map(|(json, _)| json.clone()).collect());
            if open > 0 && self.printer.format != Format::Json {
                self.printer.out(&format!("\nfastnode fix --cluster {name} FIX --apply applies one\n"));
            }
            return Ok(Begun::Idle(self.idle(&shown)));
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
        let patience = match settings.policy.gate_timeout {
            Timeout::After(limit) => Duration::try_from(limit).unwrap_or(PATIENCE),
            Timeout::Never => PATIENCE,
        };
        let pods = Pods::start(&*ports.cluster).await?;
        let (sink, told) = telling::begin(show, self.events.as_deref())?;
        let id = format!("fix-{}", ports.clock.now().strftime("%Y%m%dt%H%M%Sz"));
        let lock =
            Lock::acquire(ports.cluster.clone(), ports.clock, &settings.namespace, &settings.identity, &id).await;
        let lock = lock.map_err(controller::Error::from)?;
        Ok(Begun::Ready(Box::new(Hands { ports, remedy, pods, patience, sink }), lock, told))
    }

    /// Shows each fix as it stands; how many there is something to do about.
    async fn look<C: Cloud + Addons, K: Manifests>(
        &self,
        remedy: &Remedy<C, K>,
    ) -> Result<(Vec<(Value, Option<Proposal>)>, usize), Failure> {
        let mut shown = Vec::new();
        let mut open = 0;
        for name in &self.names {
            if self.deed == Deed::Revert {
                let undo = remedy.propose_revert(name).await?;
                let title = format!("{}  {}\n", self.printer.paint.bold(&undo.remedial.name), undo.remedial.daemonset);
                self.tell(&(title + &pages::coloured(&undo.diff, self.printer.paint)));
                shown.push((json!({ "fix": undo.remedial.name, "diff": undo.diff, "outcome": "shown" }), None));
                open += 1;
                continue;
            }
            let proposal = remedy.propose(name, self.options).await?;
            self.tell(&pages::proposal(&proposal, self.printer.width, self.printer.paint));
            let waits = matches!(proposal.remedial.fix.patch, crate::fixes::catalogue::Patch::Wait { .. });
            if self.deed == Deed::Apply && proposal.way == Some(Way::Apply) && waits && self.waiter.is_none() {
                return Err(crate::fixes::Error::NoWaiter { fix: name.clone() }.into());
            }
            open += usize::from(proposal.is_open());
            let outcome = if self.deed == Deed::Show { "shown" } else { "nothing to do" };
            let json = pages::json(&proposal, &Outcome { outcome, why: None });
            shown.push((json, Some(proposal)));
        }
        Ok((shown, open))
    }

    /// The exit code where nothing is to be done: refused, where what was asked for by name cannot be.
    fn idle(&self, shown: &[(Value, Option<Proposal>)]) -> Exit {
        let barred = |proposal: &Proposal| {
            matches!(proposal.state, State::Unfit(_)) || proposal.way.as_ref().is_some_and(|way| !way.is_open())
        };
        let refused = self.deed == Deed::Apply && shown.iter().filter_map(|(_, p)| p.as_ref()).any(barred);
        if refused { Exit::Refused } else { Exit::Done }
    }

    /// Applies one after the other, each as it stands after those before it.
    async fn apply<C, K>(&self, hands: &Hands<C, K>) -> Result<(Exit, Vec<Value>), Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let mut exit = Exit::Done;
        let mut fixes = Vec::new();
        for name in &self.names {
            let proposal = hands.remedy.propose(name, self.options).await?;
            let mut outcome = Outcome { outcome: "nothing to do", why: None };
            if !proposal.is_open() {
                exit = exit.max(self.idle(&[(Value::Null, Some(proposal.clone()))]));
                fixes.push(pages::json(&proposal, &outcome));
                continue;
            }
            let (fix, daemonset) = (name.as_str().into(), proposal.remedial.daemonset.to_string().into());
            let way = proposal.way.as_ref().map(ToString::to_string).unwrap_or_default();
            hands.say(EventKind::FixProposed { fix, daemonset, way, diff: proposal.diff.clone() }).await;
            let key = &proposal.remedial.daemonset;
            let rollout = Rollout::begin(&hands.pods.of(key), hands.ports.clock.now(), hands.patience);
            hands.remedy.apply(&proposal).await?;
            let ended = self.follow(hands, key, rollout).await?;
            let (fix, daemonset) = (name.as_str().into(), key.to_string().into());
            match ended {
                Ended::Done(pods) => {
                    outcome.outcome = if proposal.way == Some(Way::Settle) { "settled" } else { "applied" };
                    outcome.why = Some("not verified yet: the next new node shows whether it helps".to_owned());
                    hands.say(EventKind::FixApplied { fix, daemonset, pods }).await;
                }
                Ended::Bad(why) => {
                    outcome = Outcome { outcome: "rolled back", why: Some(why.clone()) };
                    exit = exit.max(Exit::Stopped);
                    self.roll_back(hands, name).await?;
                    hands.say(EventKind::FixReverted { fix, daemonset, why }).await;
                }
                Ended::Late(why) => {
                    outcome = Outcome { outcome: "late", why: Some(why.clone()) };
                    exit = exit.max(Exit::Incomplete);
                    hands.say(EventKind::Error { message: format!("{name}: {why}"), fatal: false }).await;
                }
            }
            fixes.push(pages::json(&proposal, &outcome));
            if exit != Exit::Done {
                break;
            }
        }
        Ok((exit, fixes))
    }

    async fn follow<C, K: Manifests>(
        &self,
        hands: &Hands<C, K>,
        key: &ObjectKey,
        rollout: Rollout,
    ) -> Result<Ended, Failure> {
        let pods = || hands.pods.of(key);
        let tell = |going: &Going| self.draw(key, going);
        let ended = follow((&*hands.ports.cluster, key), rollout, hands.ports.clock, pods, tell).await?;
        self.wipe();
        Ok(ended)
    }

    /// Takes back what did harm, and waits until the pods run as before, or say that they do not.
    async fn roll_back<C, K>(&self, hands: &Hands<C, K>, name: &str) -> Result<(), Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let undo = hands.remedy.propose_revert(name).await?;
        let key = &undo.remedial.daemonset;
        let rollout = Rollout::begin(&hands.pods.of(key), hands.ports.clock.now(), hands.patience);
        hands.remedy.revert(&undo).await?;
        match self.follow(hands, key, rollout).await? {
            Ended::Done(_) => Ok(()),
            Ended::Bad(why) | Ended::Late(why) => {
                hands
                    .say(EventKind::Error { message: format!("{name} is taken back, and still {why}"), fatal: false })
                    .await;
                Ok(())
            }
        }
    }

    async fn revert<C, K>(&self, hands: &Hands<C, K>) -> Result<(Exit, Vec<Value>), Failure>
    where
        C: Cloud + Addons + 'static,
        K: Cluster + Manifests + 'static,
    {
        let mut exit = Exit::Done;
        let mut fixes = Vec::new();
        for name in &self.names {
            let undo = hands.remedy.propose_revert(name).await?;
            let key = &undo.remedial.daemonset;
            let rollout = Rollout::begin(&hands.pods.of(key), hands.ports.clock.now(), hands.patience);
            hands.remedy.revert(&undo).await?;
            let (fix, daemonset) = (name.as_str().into(), key.to_string().into());
            hands.say(EventKind::FixReverted { fix, daemonset, why: "asked for".to_owned() }).await;
            let mut found =
                json!({ "fix": name, "daemonset": key.to_string(), "diff": undo.diff, "outcome": "reverted" });
            if let Ended::Bad(why) | Ended::Late(why) = self.follow(hands, key, rollout).await? {
                found["why"] = json!(why);
                hands.say(EventKind::Error { message: format!("{name}: {why}"), fatal: false }).await;
                exit = Exit::Incomplete;
            }
            fixes.push(found);
        }
        Ok((exit, fixes))
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

impl<C, K> Hands<C, K> {
    async fn say(&self, kind: EventKind) {
        // A reporter that is gone has said why.
        let _ = self.sink.send(Event { time: self.ports.clock.now(), kind }).await;
    }
}

/// The pods of all DaemonSets, as the watch has them.
struct Pods(Rc<RefCell<BTreeMap<Uid, Pod>>>);

impl Pods {
    /// Begins to watch, and returns once all pods are known. Must be called inside a `LocalSet`.
    async fn start<K: Cluster>(cluster: &K) -> Result<Self, Failure> {
        let (sink, mut facts) = mpsc::channel(FACTS);
        let (tell, mut synced) = watch::channel(false);
        let pods = Rc::new(RefCell::new(BTreeMap::new()));
        let known = Rc::clone(&pods);
        tokio::task::spawn_local(async move {
            while let Some(fact) = facts.recv().await {
                match fact {
                    Fact::Relisting(Kind::Pod) => known.borrow_mut().clear(),
                    Fact::Pod(pod) if pod.is_daemon() => drop(known.borrow_mut().insert(pod.uid.clone(), pod)),
                    Fact::PodGone(uid) => drop(known.borrow_mut().remove(&uid)),
                    // Nobody waits any more once it is known.
                    Fact::Synced(Kind::Pod) => drop(tell.send(true)),
                    _ => {}
                }
            }
        });
        cluster.watch(sink).await?;
        // The sender goes only with the watch itself.
        let _ = synced.wait_for(|synced| *synced).await;
        Ok(Self(pods))
    }

    /// Those of one DaemonSet.
    fn of(&self, key: &ObjectKey) -> Vec<PodView> {
        let pods = self.0.borrow();
        let own = |pod: &&Pod| {
            pod.key.namespace == key.namespace && pod.owner.as_ref().is_some_and(|owner| owner.name == key.name)
        };
        pods.values().filter(own).map(PodView::of).collect()
    }
}
