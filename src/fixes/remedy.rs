//! Fixes on a cluster: looked at, proposed with a diff the server has judged, applied.
//!
//! Every write has the version of the object it was judged on as its precondition; the record of a fix goes out
//! in the same request as the change. Through EKS, where that cannot be, the record goes first: a record without
//! its change is told from one with it by the add-on's configuration.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::bootstrap::Snippet;
use super::catalogue::{Catalogue, Patch, Remedial};
use super::place::{self, Place};
use super::proposal::{Decision, Options, State, Way, decide, strategy};
use super::record::{AddonBefore, Means, Record, digest, hash};
use super::rollout::Rollout;
use super::verify::Effect;
use super::{Error, bootstrap, diff};
use crate::clock::Clock;
use crate::cloud::addons::{AddonChange, AddonUpdate, Addons};
use crate::cloud::{self, Cloud};
use crate::cluster::manifests::{Manifests, Sending};
use crate::cluster::{self, ErrorKind};
use crate::model::Text;

/// How long EKS may take over an update of an add-on.
const ADDON_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Between two looks at it.
const ADDON_PACE: Duration = Duration::from_secs(5);
/// How often a write is tried while others write the same object.
pub(super) const TRIES: u32 = 4;
/// Before a write is tried again whose answer was lost.
const AGAIN: Duration = Duration::from_secs(1);

/// What a fix would do, and with which words.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The fix and its DaemonSet.
    pub remedial: Remedial,
    /// How the DaemonSet stands to it.
    pub state: State,
    /// How it would be done; `None` where nothing is to do.
    pub way: Option<Way>,
    /// The change, as a unified diff of YAML; empty where nothing changes.
    pub diff: String,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the user has to add elsewhere, so that it has an effect.
    pub snippets: Vec<Snippet>,
    /// Pods of the DaemonSet that the change restarts.
    pub pods: u32,
    /// How many of them at a time, as the update strategy has it.
    pub at_a_time: String,
    /// The object it was judged on.
    base: Value,
    /// What is written.
    places: Vec<Place>,
    /// The record that goes with it.
    record: Option<Record>,
}

impl Proposal {
    /// Whether there is something to apply, and a way.
    pub fn is_open(&self) -> bool {
        self.way.as_ref().is_some_and(Way::is_open)
    }

    /// How many pods have it, where it is in place on all of them, or new nodes alone are to have it.
    pub fn rolled_out(&self) -> Option<u32> {
        if self.base["spec"]["updateStrategy"]["type"] == "OnDelete" { Some(0) } else { Rollout::over(&self.base) }
    }
}

/// Fixes on one cluster.
pub struct Remedy<C, K> {
    pub(super) cloud: Rc<C>,
    pub(super) cluster: Rc<K>,
    pub(super) clock: Clock,
    pub(super) name: Text,
    catalogue: Catalogue,
    pub(super) waiter: Option<String>,
}

impl<C: Cloud + Addons, K: Manifests> Remedy<C, K> {
    /// Fixes of `catalogue` on the EKS cluster `name`; `waiter` is the image of init containers that wait.
    pub fn new(
        cloud: Rc<C>,
        cluster: Rc<K>,
        clock: Clock,
        name: Text,
        catalogue: Catalogue,
        waiter: Option<String>,
    ) -> Self {
        Self { cloud, cluster, clock, name, catalogue, waiter }
    }

    /// The fixes there are.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Looks at a fix's target and says what there is to do, with a diff that the server has judged. Changes
    /// nothing.
    ///
    /// # Errors
    /// If there is no such fix, or AWS or Kubernetes cannot be asked.
    pub async fn propose(&self, name: &str, options: &Options) -> Result<Proposal, Error> {
        let mut tries = 1;
        loop {
            let (proposal, refusal) = self.look(name, options).await?;
            match refusal {
                Some(error) if tries < TRIES && self.is_stale(&error, &proposal.remedial, &proposal.base).await? => {
                    tries += 1;
                }
                _ => return Ok(proposal),
            }
        }
    }

    /// A proposal, and what the server has against it.
    async fn look(&self, name: &str, options: &Options) -> Result<(Proposal, Option<cluster::Error>), Error> {
        let remedial = self.catalogue.find(name)?;
        let Some(base) = self.cluster.daemonset(&remedial.daemonset).await? else {
            let why = format!("there is no DaemonSet {}", remedial.daemonset);
            let unfit = Decision { state: State::Unfit(why), way: None, places: Vec::new(), notes: Vec::new() };
            return Ok((self.proposal(remedial, Value::Null, unfit), None));
        };
        let (context, missing) = self.context(&remedial, &base).await?;
        let mut decision = decide(&remedial, &base, &context, options);
        decision.notes.extend(missing);
        let mut proposal = self.proposal(remedial, base, decision);
        let refusal = self.judge(&mut proposal, options).await?;
        Ok((proposal, refusal))
    }

    /// Whether a write was refused for standing on a version that is not the newest any more: the DaemonSet's
    /// controller makes a new one whenever a pod comes or goes. To a JSON patch's `test` the server's answer is 422.
    pub(super) async fn is_stale(
        &self,
        error: &cluster::Error,
        remedial: &Remedial,
        base: &Value,
    ) -> Result<bool, Error> {
        if !matches!(error.kind, ErrorKind::Conflict | ErrorKind::Invalid) {
            return Ok(false);
        }
        let live = self.cluster.daemonset(&remedial.daemonset).await?;
        Ok(live.is_none_or(|live| live["metadata"]["resourceVersion"] != base["metadata"]["resourceVersion"]))
    }

    fn proposal(&self, remedial: Remedial, base: Value, decision: Decision) -> Proposal {
        let Decision { state, way, places, notes } = decision;
        let (pods, at_a_time) = rollout_of(&base);
        let snippets = if matches!(state, State::Unfit(_)) { Vec::new() } else { bootstrap::snippets(&remedial) };
        let diff = String::new();
        Proposal { remedial, state, way, diff, notes, snippets, pods, at_a_time, base, places, record: None }
    }

    /// Has the server judge the change, and takes the diff from its answer. What it refuses with is returned.
    async fn judge(&self, proposal: &mut Proposal, options: &Options) -> Result<Option<cluster::Error>, Error> {
        let mut record = Record {
            v: 1,
            means: Means::Apply,
            at: self.clock.now(),
            places: proposal.places.iter().map(|place| Place { after: Value::Null, ..place.clone() }).collect(),
            owners: Vec::new(),
            hash: String::new(),
            addon: None,
            baseline: options.baseline,
            strategy: None,
            rotation: options.rotation.clone(),
            effect: None,
        };
        let name = proposal.remedial.daemonset.to_string();
        let mut head = String::new();
        match &proposal.way {
            Some(Way::Apply) => {}
            Some(Way::TakeOver { owners }) => {
                record.means = Means::Patch;
                record.owners.clone_from(owners);
                if options.on_new_nodes_only {
                    record.strategy =
                        Some(place::get(&proposal.base, &strategy()).cloned().unwrap_or_else(|| json!({})));
                }
            }
            Some(Way::Configuration { addon, before, after }) => {
                record.means = Means::Configuration;
                record.hash = digest(&after.to_string());
                record.addon = Some(AddonBefore { name: addon.clone(), before: Some(before.to_string()) });
                head = diff::values(&format!("configuration of the add-on {addon}"), before, after);
            }
            Some(Way::Version { addon, from, to }) => {
                // EKS keeps no way back; what is recorded tells later whether it helped.
                record.means = Means::Version;
                record.hash = digest(to);
                record.addon = Some(AddonBefore { name: addon.clone(), before: Some(from.clone()) });
                let name = format!("add-on {addon}");
                head = diff::values(&name, &json!({ "version": from }), &json!({ "version": to }));
            }
            Some(Way::Settle) => {
                let State::Applied(applied) = &proposal.state else { return Ok(None) };
                record = Record { strategy: None, ..(**applied).clone() };
            }
            Some(Way::ByHand { .. } | Way::Conflict { .. }) | None => return Ok(None),
        }
        let mut refusal = None;
        let settles = proposal.way == Some(Way::Settle);
        match self.write(proposal, &record, &proposal.base, Sending { dry_run: true, force: false }, settles).await {
            Ok(judged) => {
                if matches!(record.means, Means::Apply | Means::Patch) {
                    record.hash = hash(&judged, &record.places);
                }
                let after = noted(&judged, &proposal.remedial.fix.fix, &record);
                proposal.diff = head + &diff::objects(&name, &proposal.base, &after);
            }
            Err(error) if error.kind == ErrorKind::Forbidden => {
                let after = noted(&place::put(&proposal.base, &proposal.places), &proposal.remedial.fix.fix, &record);
                proposal.diff = head + &diff::objects(&name, &proposal.base, &after);
                proposal
                    .notes
                    .push("this identity may not patch daemonsets: the diff is not judged by the server".to_owned());
            }
            Err(error) if error.kind == ErrorKind::Conflict => {
                proposal.way = Some(Way::Conflict { why: error.message.clone() });
                refusal = Some(error);
            }
            Err(error) if error.kind == ErrorKind::Invalid => {
                proposal.way = Some(Way::Conflict { why: format!("the API server refuses it: {}", error.message) });
                refusal = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        proposal.record = Some(record);
        Ok(refusal)
    }

    /// Applies what was proposed, if the object is still as it was then. The pods' restart is the caller's to
    /// follow.
    ///
    /// # Errors
    /// If the object has changed meanwhile, the waiter's image is not named, or a request fails; then nothing of
    /// it is left, an add-on's unknown outcome aside.
    pub async fn apply(&self, proposal: &Proposal) -> Result<(), Error> {
        let fix = &proposal.remedial.fix;
        let refused = |why: String| Error::Refused { what: format!("apply {}", proposal.remedial.name), why };
        let way = match &proposal.way {
            Some(way) if way.is_open() => way,
            Some(way) => return Err(refused(way.to_string())),
            None => return Ok(()),
        };
        if matches!(fix.patch, Patch::Wait { .. }) && self.waiter.is_none() && *way != Way::Settle {
            return Err(Error::NoWaiter { fix: proposal.remedial.name.clone() });
        }
        let Some(record) = &proposal.record else { return Err(refused("it was not judged".to_owned())) };
        self.commit(proposal, record, *way == Way::Settle).await?;
        let (addon, change) = match way {
            Way::Configuration { addon, after, .. } => {
                (addon, AddonChange { configuration: Some(after.to_string().into()), version: None })
            }
            Way::Version { addon, to, .. } => {
                (addon, AddonChange { version: Some(to.as_str().into()), configuration: None })
            }
            _ => return Ok(()),
        };
        let updated = self.update(addon, &change).await;
        let unknown = |error: &Error| matches!(error, Error::Cloud(e) if e.kind == cloud::ErrorKind::UnknownOutcome);
        if updated.as_ref().is_err_and(|error| !unknown(error)) {
            self.forget(&proposal.remedial).await?;
        }
        updated
    }

    /// Writes, again where somebody else's write came between and left what we stand on as it was.
    async fn commit(&self, proposal: &Proposal, record: &Record, settles: bool) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let live = self.live(&proposal.remedial, ("apply", Some(record)), &proposal.base).await?;
            let Some(live) = live else { return Ok(()) };
            match self.write(proposal, record, &live, Sending::default(), settles).await {
                Err(error) if tries < TRIES && self.is_stale(&error, &proposal.remedial, &live).await? => {}
                // It may have arrived all the same: the next look tells.
                Err(error) if error.is_passing() && tries < TRIES => sleep(AGAIN).await,
                answer => return Ok(answer.map(drop)?),
            }
            tries += 1;
        }
    }

    /// The object as it is now, if what people wrote of it is as it was in `base`; `None` where `record` is on it: an
    /// earlier write of ours has arrived, though its answer has not.
    pub(super) async fn live(
        &self,
        remedial: &Remedial,
        (what, record): (&str, Option<&Record>),
        base: &Value,
    ) -> Result<Option<Value>, Error> {
        let what = format!("{what} {}", remedial.name);
        let Some(live) = self.cluster.daemonset(&remedial.daemonset).await? else {
            return Err(Error::Refused { what, why: format!("{} is gone", remedial.daemonset) });
        };
        if record.is_some_and(|record| Record::read(&live, &remedial.fix.fix).ok().flatten().as_ref() == Some(record)) {
            return Ok(None);
        }
        // That a new node has shown what a fix is worth changes nothing for the others.
        let of_us = |object: &Value| {
            let unjudged = |(name, record): (String, Record)| (name, Record { effect: None, ..record });
            Record::others(object, "").into_iter().map(unjudged).collect::<Vec<_>>()
        };
        if live["spec"] != base["spec"]
            || live["metadata"]["uid"] != base["metadata"]["uid"]
            || of_us(&live) != of_us(base)
        {
            let why = format!("{} has changed since the diff was made: look at it again", remedial.daemonset);
            return Err(Error::Refused { what, why });
        }
        Ok(Some(live))
    }

    /// One request: the change with its record.
    async fn write(
        &self,
        proposal: &Proposal,
        record: &Record,
        live: &Value,
        sending: Sending,
        settles: bool,
    ) -> cluster::Result<Value> {
        let Remedial { fix, daemonset, .. } = &proposal.remedial;
        if settles {
            let State::Applied(applied) = &proposal.state else { return Ok(live.clone()) };
            let before = applied.strategy.clone().unwrap_or_else(|| json!({ "type": "RollingUpdate" }));
            return self.patch((&proposal.remedial, record), live, [(strategy(), before)], sending).await;
        }
        match record.means {
            Means::Patch => {
                let places = proposal.places.iter().map(|place| (place.path.clone(), place.after.clone()));
                let held = record.strategy.is_some().then(|| (strategy(), json!({ "type": "OnDelete" })));
                self.patch((&proposal.remedial, record), live, places.chain(held), sending).await
            }
            Means::Apply | Means::Configuration | Means::Version => {
                let manifest = manifest(live, &fix.fix, Some((record, &proposal.places)));
                self.cluster.apply_daemonset(daemonset, &manifest, sending).await
            }
        }
    }

    /// One JSON patch: these values at their places, with the record.
    async fn patch(
        &self,
        (remedial, record): (&Remedial, &Record),
        live: &Value,
        values: impl IntoIterator<Item = (place::Path, Value)>,
        sending: Sending,
    ) -> cluster::Result<Value> {
        let mut patch = place::Patch::of(live);
        for (path, value) in values {
            patch.put(&path, &value);
        }
        patch.put(&Record::path(&remedial.fix.fix), &json!(record.text()));
        self.cluster.patch_daemonset(&remedial.daemonset, &patch.operations(), sending).await
    }

    /// Updates an add-on and waits until EKS is done.
    pub(super) async fn update(&self, addon: &str, change: &AddonChange) -> Result<(), Error> {
        use cloud::ErrorKind::{Busy, Other, Refused};
        let failed = |why: String| Error::Addon { addon: addon.to_owned(), why };
        let id = match self.cloud.update_addon(&self.name, addon, change).await {
            Ok(id) => id,
            // The values, the version, another update under way: EKS's word on the change, not on who asks for it.
            Err(error) if matches!(error.kind, Refused | Busy | Other) => return Err(failed(error.message)),
            Err(error) => return Err(error.into()),
        };
        let ended = in_time(async || match self.cloud.addon_update(&self.name, addon, &id).await? {
            AddonUpdate::Successful => Ok(true),
            AddonUpdate::Failed(why) => Err(failed(why.to_string())),
            AddonUpdate::InProgress => Ok(false),
        });
        if ended.await? {
            return Ok(());
        }
        let minutes = ADDON_LIMIT.as_secs() / 60;
        Err(failed(format!("EKS has not finished its update {id} within {minutes} min")))
    }

    /// Waits while EKS is updating the fix's add-on, if it has one.
    pub(super) async fn let_addon_settle(&self, remedial: &Remedial) -> Result<(), Error> {
        let Some(addon) = &remedial.addon else { return Ok(()) };
        let settled = in_time(async || match self.cloud.addon(&self.name, addon).await {
            Ok(found) => Ok(found.is_none_or(|found| &*found.status != "UPDATING")),
            // Who may not look waits for nothing.
            Err(error) if error.kind == cloud::ErrorKind::Denied => Ok(true),
            Err(error) => Err(error.into()),
        });
        if settled.await? {
            return Ok(());
        }
        let why = format!("EKS has been updating it for more than {} min", ADDON_LIMIT.as_secs() / 60);
        Err(Error::Addon { addon: addon.clone(), why })
    }

    /// Takes the record of a fix off its object, and nothing else.
    pub(super) async fn forget(&self, remedial: &Remedial) -> Result<(), Error> {
        let Some(live) = self.cluster.daemonset(&remedial.daemonset).await? else { return Ok(()) };
        let manifest = manifest(&live, &remedial.fix.fix, None);
        self.cluster.apply_daemonset(&remedial.daemonset, &manifest, Sending::default()).await?;
        Ok(())
    }

    /// Writes into a fix's record what it came to on a new node. Nothing is changed beside that, so no pod restarts.
    ///
    /// # Errors
    /// If there is no such record, or a request fails.
    pub async fn note(&self, name: &str, effect: Effect) -> Result<(), Error> {
        let remedial = self.catalogue.find(name)?;
        let refused = |why: String| Error::Refused { what: format!("note what {name} came to"), why };
        let mut tries = 1;
        loop {
            let live = self.cluster.daemonset(&remedial.daemonset).await?;
            let live = live.ok_or_else(|| refused(format!("{} is gone", remedial.daemonset)))?;
            let record = Record::read(&live, &remedial.fix.fix).map_err(refused)?;
            let Some(record) = record else { return Err(refused("it is not there any more".to_owned())) };
            let record = Record { effect: Some(effect), ..record };
            let written = if record.means == Means::Patch {
                self.patch((&remedial, &record), &live, [], Sending::default()).await
            } else {
                // What is applied is stated in full, or it would be taken away.
                let stands =
                    |place: &Place| Some(Place { after: place::get(&live, &place.path)?.clone(), ..place.clone() });
                let places: Vec<Place> = record.places.iter().filter_map(stands).collect();
                let manifest = manifest(&live, &remedial.fix.fix, Some((&record, &places)));
                self.cluster.apply_daemonset(&remedial.daemonset, &manifest, Sending::default()).await
            };
            match written {
                Err(error) if error.kind == ErrorKind::Conflict && tries < TRIES => tries += 1,
                answer => return Ok(answer.map(drop)?),
            }
        }
    }
}

/// Whether EKS is seen to be done within the time that it has for an add-on.
async fn in_time(mut is_done: impl AsyncFnMut() -> Result<bool, Error>) -> Result<bool, Error> {
    let deadline = Instant::now() + ADDON_LIMIT;
    while !is_done().await? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(ADDON_PACE).await;
    }
    Ok(true)
}

/// Everything that we apply to an object: the other fixes as they are, and this one where it is to be.
pub(super) fn manifest(live: &Value, fix: &str, ours: Option<(&Record, &[Place])>) -> Value {
    let mut annotations = serde_json::Map::new();
    let mut places = Vec::new();
    // What was patched in is not applied: to leave it out takes nothing away.
    for (name, record) in Record::others(live, fix).into_iter().filter(|(_, record)| record.means != Means::Patch) {
        annotations.insert(Record::key(&name), live["metadata"]["annotations"][Record::key(&name)].clone());
        let found = |place: Place| Some(Place { after: place::get(live, &place.path)?.clone(), ..place });
        places.extend(record.places.into_iter().filter_map(found));
    }
    if let Some((record, own)) = ours {
        annotations.insert(Record::key(fix), json!(record.text()));
        places.extend_from_slice(own);
    }
    let mut manifest = place::fragment(&places);
    let metadata = &live["metadata"];
    manifest["apiVersion"] = json!("apps/v1");
    manifest["kind"] = json!("DaemonSet");
    manifest["metadata"] = json!({
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": metadata["resourceVersion"],
    });
    if !annotations.is_empty() {
        manifest["metadata"]["annotations"] = Value::Object(annotations);
    }
    manifest
}

/// The object with the record in its final form.
fn noted(object: &Value, fix: &str, record: &Record) -> Value {
    place::put(object, &[Place { path: Record::path(fix), before: None, after: json!(record.text()) }])
}

/// Pods that a change of the template restarts, and how many at a time.
fn rollout_of(object: &Value) -> (u32, String) {
    let pods = object["status"]["desiredNumberScheduled"].as_u64().unwrap_or_default();
    let update = &object["spec"]["updateStrategy"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let at_a_time = match update["type"].as_str() {
        Some("OnDelete") => "as they are deleted".to_owned(),
        _ => match (&update["rollingUpdate"]["maxUnavailable"], &update["rollingUpdate"]["maxSurge"]) {
            (Value::Null, _) => "1 at a time".to_owned(),
            (zero, surge) if text(zero) == "0" => format!("{} at a time, the new one first", text(surge)),
            (some, _) => format!("{} at a time", text(some)),
        },
    };
    (u32::try_from(pods).unwrap_or(u32::MAX), at_a_time)
}
