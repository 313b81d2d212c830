//! What is to be done about a fix, and in which way. Pure.
//!
//! ```text
//! recorded by us --> applied (or, for new nodes alone, to be settled)
//! does not fit, or there in another form --> nothing to do
//! add-on: its configuration takes it --> through EKS
//! Helm's ---------------------------> by hand, with the values to set
//! all of it new keys ---------------> server-side apply
//! a list that somebody owns --------> a patch of the whole list, unless its owner sets it again:
//!                                     then only with --take-ownership
//! ```

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::catalogue::{Goal, Patch, Remedial};
use super::detect::{self, Context, version};
use super::owners::{helm_release, owners};
use super::place::{Path, Place};
use super::record::{Means, Record};
use super::verify::Start;
use super::{addon, bootstrap, render};
use crate::model::Text;

/// What the user allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Lists and objects that another manager sets may be taken over.
    pub take_ownership: bool,
    /// Pods of present nodes are left as they are: the update strategy is `OnDelete` until it is settled.
    pub on_new_nodes_only: bool,
    /// How nodes start now, kept for the comparison with the next new one.
    pub baseline: Option<Start>,
    /// The rotation that applies it; `None` where a person does.
    pub rotation: Option<Text>,
}

/// How a target stands to a fix.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "why")]
pub enum State {
    /// The target lacks it.
    Missing,
    /// It is there, not by us: in which form.
    Present(String),
    /// Applied by us.
    Applied(Box<Record>),
    /// It makes no sense here: why.
    Unfit(String),
}

/// How a fix is brought in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "way")]
pub enum Way {
    /// Server-side apply of keys that nobody owns.
    Apply,
    /// A patch of what others own as a whole.
    TakeOver {
        /// Who owned it.
        owners: Vec<String>,
    },
    /// The add-on's configuration values.
    Configuration {
        /// The add-on.
        addon: String,
        /// Its values now.
        before: Value,
        /// Its values then.
        after: Value,
    },
    /// The add-on's version.
    Version {
        /// The add-on.
        addon: String,
        /// Now.
        from: String,
        /// Then.
        to: String,
    },
    /// The update strategy is put back, so that the rest of the pods follows.
    Settle,
    /// Something else has to be changed, by somebody else.
    ByHand {
        /// What, and where.
        what: String,
    },
    /// Another manager sets it.
    Conflict {
        /// Who, and what helps.
        why: String,
    },
}

impl Way {
    /// Whether fastnode can go it.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::ByHand { .. } | Self::Conflict { .. })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply => f.write_str("server-side apply of keys that nobody owns"),
            Self::TakeOver { owners } if owners.is_empty() => f.write_str("a patch"),
            Self::TakeOver { owners } => write!(f, "a patch of what {} set", owners.join(", ")),
            Self::Configuration { addon, .. } => write!(f, "configuration values of the add-on {addon}"),
            Self::Version { addon, from, to } => write!(f, "update of the add-on {addon} from {from} to {to}"),
            Self::Settle => f.write_str("the update strategy is put back"),
            Self::ByHand { what } => write!(f, "by hand: {what}"),
            Self::Conflict { why } => write!(f, "not possible so: {why}"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How the target stands.
    pub state: State,
    /// How it would be done; `None` where nothing is to do.
    pub way: Option<Way>,
    /// What is written where.
    pub places: Vec<Place>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Decision {
    fn nothing(state: State) -> Self {
        Self { state, way: None, places: Vec::new(), notes: Vec::new() }
    }

    fn missing(way: Way) -> Self {
        Self { way: Some(way), ..Self::nothing(State::Missing) }
    }
}

/// The pod template's update strategy.
pub fn strategy() -> Path {
    Path::fields(&["spec", "updateStrategy"])
}

/// Decides what is to be done about a fix.
pub fn decide(remedial: &Remedial, manifest: &Value, context: &Context, options: &Options) -> Decision {
    let mut notes = Vec::new();
    match Record::read(manifest, &remedial.fix.fix) {
        Err(why) => return Decision::nothing(State::Unfit(why)),
        // A newer default version is a fix of its own.
        Ok(Some(record)) if record.means == Means::Version && !settled(&record, remedial, context) => {}
        Ok(Some(record)) if stands(&record, remedial, manifest, context) => return applied(record, manifest, options),
        Ok(Some(record)) => notes.push(format!("it was applied at {:.0} and has been overwritten since", record.at)),
        Ok(None) => {}
    }
    if let Some(why) = detect::unfit(remedial, manifest, context) {
        return Decision::nothing(State::Unfit(why));
    }
    if let Some(form) = detect::present(remedial, manifest, context) {
        return Decision::nothing(State::Present(form));
    }
    let mut decision = match &remedial.fix.patch {
        Patch::AddonUpdate {} => update(remedial, context),
        Patch::Env { name, value, addon_values } if context.addon.is_some() && !addon_values.is_empty() => {
            match configuration(context, addon_values, (name, value)) {
                Ok(Some(way)) => Decision::missing(way),
                Ok(None) => {
                    notes.push("the add-on's schema takes no such value: it is set on the DaemonSet itself".to_owned());
                    direct(remedial, manifest, context, options)
                }
                Err(why) => Decision::nothing(State::Unfit(why)),
            }
        }
        _ => direct(remedial, manifest, context, options),
    };
    decision.notes.splice(0..0, notes);
    if options.on_new_nodes_only && matches!(decision.way, Some(Way::Configuration { .. } | Way::Version { .. })) {
        let why = "EKS restarts the add-on's pods by itself: not with --on-new-nodes-only".to_owned();
        decision.way = Some(Way::Conflict { why });
    }
    if decision.way.as_ref().is_some_and(Way::is_open) {
        decision.notes.extend(warnings(remedial, decision.way.as_ref(), context));
    }
    decision
}

/// Whether what the record tells of is still there.
fn stands(record: &Record, remedial: &Remedial, manifest: &Value, context: &Context) -> bool {
    match record.means {
        Means::Apply | Means::Patch => super::record::hash(manifest, &record.places) == record.hash,
        Means::Configuration => {
            let values = context.addon.as_ref().map(|addon| addon::read(addon.configuration.as_deref()));
            match values {
                Some(Ok(values)) => super::record::digest(&values.to_string()) == record.hash,
                _ => detect::present(remedial, manifest, context).is_some(),
            }
        }
        Means::Version => true,
    }
}

/// Whether an add-on is at the version that was asked for, and that is still the one to be at.
fn settled(record: &Record, remedial: &Remedial, context: &Context) -> bool {
    let at = context.addon.as_ref().is_some_and(|addon| super::record::digest(&addon.version) == record.hash);
    at && matches!(update(remedial, context).state, State::Present(_))
}

fn applied(record: Record, manifest: &Value, options: &Options) -> Decision {
    let pending = record.strategy.is_some() && !options.on_new_nodes_only;
    let mut decision = Decision::nothing(State::Applied(Box::new(record.clone())));
    if !pending {
        return decision;
    }
    if manifest["spec"]["updateStrategy"]["type"] == "OnDelete" {
        decision.way = Some(Way::Settle);
    } else {
        decision.notes.push("the update strategy is no longer OnDelete: somebody has put it back".to_owned());
    }
    decision
}

fn update(remedial: &Remedial, context: &Context) -> Decision {
    let Some(addon) = &context.addon else {
        let why = format!("EKS does not manage {} as an add-on: update its own manifest or chart", remedial.daemonset);
        return Decision::nothing(State::Unfit(why));
    };
    let Some(target) = context.versions.iter().find(|version| version.default) else {
        return Decision::nothing(State::Unfit(format!("EKS names no default version of {} here", addon.name)));
    };
    let newer = match (version(&target.version), version(&addon.version)) {
        (Some(target), Some(now)) => target > now,
        _ => target.version != addon.version,
    };
    if !newer {
        return Decision::nothing(State::Present(format!("{} is at {}", addon.name, addon.version)));
    }
    if &*addon.status == "UPDATING" {
        return Decision::missing(Way::Conflict {
            why: format!("{} is being updated by somebody right now", addon.name),
        });
    }
    Decision::missing(Way::Version {
        addon: addon.name.to_string(),
        from: addon.version.to_string(),
        to: target.version.to_string(),
    })
}

fn configuration(context: &Context, places: &[String], (name, value): (&str, &str)) -> Result<Option<Way>, String> {
    let (Some(addon), Some(schema)) = (&context.addon, &context.schema) else { return Ok(None) };
    let value = render::filled(value, context)?;
    let present = addon.configuration.as_deref();
    let after = addon::configured(schema, present, places, (name, &value))?;
    let Some(after) = after else { return Ok(None) };
    Ok(Some(Way::Configuration { addon: addon.name.to_string(), before: addon::read(present)?, after }))
}

/// A change of the DaemonSet itself.
fn direct(remedial: &Remedial, manifest: &Value, context: &Context, options: &Options) -> Decision {
    let places = match render::places(remedial, manifest, context) {
        Ok(places) => places,
        Err(why) => return Decision::nothing(State::Unfit(why)),
    };
    if places.is_empty() {
        return Decision::missing(Way::ByHand { what: bootstrap::words(remedial) });
    }
    if let (Some(release), false) = (helm_release(manifest), options.take_ownership) {
        let values =
            remedial.fix.helm.as_deref().map(|text| render::filled(text, context).unwrap_or_else(|_| text.to_owned()));
        let values = values.unwrap_or_else(|| {
            let fields = list(&places.iter().collect::<Vec<_>>());
            format!("the values, where its chart has such, that give it {fields}")
        });
        let what =
            format!("Helm manages it as release {release}: upgrade that with {values}; or give --take-ownership");
        return Decision::missing(Way::ByHand { what });
    }
    let taken: Vec<&Place> = places.iter().filter(|place| place.before.is_some()).collect();
    let mut found: Vec<_> = taken.iter().flat_map(|place| owners(manifest, &place.path)).collect();
    if options.on_new_nodes_only {
        found.extend(owners(manifest, &strategy()));
    }
    found.sort_by(|a, b| a.manager.cmp(&b.manager));
    found.dedup();
    let names: Vec<String> = found.iter().map(|owner| owner.manager.clone()).collect();
    let way = if taken.is_empty() && !options.on_new_nodes_only {
        Way::Apply
    } else if let (Some(addon), false, false) = (&context.addon, options.take_ownership, taken.is_empty()) {
        let what = list(&taken);
        let why = format!(
            "EKS manages {what} with the add-on {}, as a whole: bring the add-on up to date (fastnode fix \
             addon-update:{}), or take the whole of it over with --take-ownership",
            addon.name, remedial.daemonset.name
        );
        Way::Conflict { why }
    } else if let (Some(owner), false) = (found.iter().find(|owner| owner.applies), options.take_ownership) {
        let what = if taken.is_empty() { "spec.updateStrategy".to_owned() } else { list(&taken) };
        let why = format!(
            "{} sets {what} by server-side apply and would set it again: change it there, or take the whole of it \
             over with --take-ownership",
            owner.manager
        );
        Way::Conflict { why }
    } else {
        Way::TakeOver { owners: names }
    };
    Decision { places, ..Decision::missing(way) }
}

fn list(places: &[&Place]) -> String {
    places.iter().map(|place| place.path.to_string()).collect::<Vec<_>>().join(" and ")
}

fn warnings(remedial: &Remedial, way: Option<&Way>, context: &Context) -> Vec<String> {
    let mut notes = Vec::new();
    match (way, &context.addon) {
        (Some(Way::Apply), Some(addon)) => notes.push(format!(
            "EKS manages the add-on {}: these keys are not its own and outlive its updates; look again after each",
            addon.name
        )),
        (Some(Way::TakeOver { .. }), Some(addon)) => notes.push(format!(
            "the next update of the add-on {} keeps this with PRESERVE, takes it away with OVERWRITE, and may fail \
             with NONE",
            addon.name
        )),
        (Some(Way::TakeOver { owners }), None) if !owners.is_empty() => notes.push(format!(
            "when {} writes the object next, this may be gone: bring it into that source too",
            owners.join(", ")
        )),
        _ => {}
    }
    if let Patch::Wait { goals, .. } = &remedial.fix.patch {
        if context.waiter.is_none() {
            let image = render::default_waiter();
            notes.push(format!("the waiter's image is not named, {image} stands for it: --waiter-image IMAGE"));
        }
        for goal in goals {
            match goal {
                Goal::Iptables(_) => {
                    notes.push("the waiter's image must hold iptables-save beside fastnode".to_owned())
                }
                Goal::NodeCondition(_) => {
                    notes.push(format!("the service account of {} must be allowed to get nodes", remedial.daemonset))
                }
                Goal::Tcp(_) | Goal::File(_) => {}
            }
        }
    }
    if matches!(remedial.fix.patch, Patch::StartupTaint { .. }) {
        notes.push(bootstrap::words(remedial));
    }
    notes
}
