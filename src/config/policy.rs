//! Settings as the policy of a rotation, and the two values that need a person or the simulator.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use toml::Value;

use super::selector;
use super::{Config, ConfigError, Source};
use crate::model::{GroupName, NodeName};
use crate::policy::{Amount, Gate, OnStuck, OnTargetChange, Policy, Restarts, Scope, Timeout, parse_duration};
use crate::units;

/// What was said about going past disruption budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastBudgets {
    /// Nothing: never.
    No,
    /// `--past-budgets`: a person has to type the cluster's name.
    Ask,
    /// `--past-budgets=CLUSTER`: for this cluster only.
    Cluster(String),
}

/// The simulator's pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// About 20 s in a terminal, else as fast as it goes.
    Auto,
    /// As fast as it goes.
    Max,
    /// This multiple of real time; above 0.
    Times(f64),
}

/// What the flag `--past-budgets` alone stands for.
pub const ASK: &str = "ask";

impl Config {
    /// The policy. Whether it goes past budgets is left to [`Config::past_budgets`].
    ///
    /// # Errors
    /// If a setting has the wrong type or is out of range.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let timeout = |key: &str| self.parsed(key, str::parse);
        let (soak, gate_timeout) = (self.parsed("soak", parse_duration)?, timeout("gate-timeout")?);
        self.refuse_longer_soak(soak, gate_timeout)?;
        Ok(Policy {
            scope: self.scope()?,
            surge: self.parsed("surge", str::parse)?,
            unavailable: self.parsed("unavailable", str::parse)?,
            raise_max: self.flag("raise-max")?,
            drains: self.parsed("drains", at_least_one)?,
            max_drains: self.parsed("max-drains", max_drains)?,
            canary: self.number("canary", 0)?,
            older_than: match self.text("older-than")? {
                Some(_) => Some(self.parsed("older-than", parse_duration)?),
                None => None,
            },
            force: self.flag("force")?,
            reason: self.text("reason")?.map(str::to_owned),
            gate: self.gate()?,
            restarts: self.choice(
                "restarts",
                &[("zero", Restarts::Zero), ("baseline", Restarts::Baseline), ("warn", Restarts::Warn)],
            )?,
            soak,
            drain_timeout: timeout("drain-timeout")?,
            join_timeout: timeout("join-timeout")?,
            gate_timeout,
            terminate_timeout: timeout("terminate-timeout")?,
            on_stuck: self
                .choice("on-stuck", &[("wait", OnStuck::Wait), ("skip", OnStuck::Skip), ("stop", OnStuck::Stop)])?,
            past_budgets: false,
            ignore_opt_outs: self.flag("ignore-opt-outs")?,
            delete_emptydir_data: self.flag("delete-emptydir-data")?,
            force_unmanaged: self.flag("force-unmanaged")?,
            failure_budget: self.number("failure-budget", 0)?,
            keep_failed: self.flag("keep-failed")?,
            on_target_change: self.choice(
                "on-target-change",
                &[("stop", OnTargetChange::Stop), ("recanary", OnTargetChange::Recanary)],
            )?,
        })
    }

    /// A node is to be functional within the gate's time-out, and it is functional once it has soaked.
    fn refuse_longer_soak(&self, soak: SignedDuration, gate: Timeout) -> Result<(), ConfigError> {
        let Some(limit) = gate.limit().filter(|limit| *limit < soak) else { return Ok(()) };
        let problem = format!(
            "{} is longer than the {} of gate-timeout ({}), within which a node has to become functional, its soak \
             included",
            units::clock(soak),
            units::clock(limit),
            self.get("gate-timeout")?.source,
        );
        Err(self.invalid("soak", self.get("soak")?, problem))
    }

    fn scope(&self) -> Result<Scope, ConfigError> {
        for key in ["group", "node", "selector"] {
            self.refuse_empty(key)?;
        }
        Ok(Scope {
            groups: self.words("group")?.into_iter().map(GroupName::from).collect(),
            nodes: self.words("node")?.into_iter().map(NodeName::from).collect(),
            selector: self.parsed("selector", selector::parse)?,
        })
    }

    /// What was to narrow the rotation and is empty, as a script's unset variable is, must not mean everything.
    fn refuse_empty(&self, key: &str) -> Result<(), ConfigError> {
        let setting = self.get(key)?;
        let blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        let empty = match &setting.value {
            Value::Array(items) => items.iter().any(blank),
            value => blank(value),
        };
        if empty && setting.source != Source::Default {
            return Err(self.wrong(key, setting, "a name or a label requirement; leave it out to mean everything"));
        }
        Ok(())
    }

    /// `auto`, `none` or names; a file may write the two words without a list.
    fn gate(&self) -> Result<Gate, ConfigError> {
        let names: BTreeSet<String> = match self.text("gate") {
            Ok(Some(text)) => text.split(',').map(|n| n.trim().to_owned()).collect(),
            _ => self.words("gate")?.into_iter().collect(),
        };
        self.parsed("gate", |text| {
            let alone = |word: &str| names.len() == 1 && names.contains(word);
            let wanted = "auto, none, or names of DaemonSets such as aws-node or monitoring/node-exporter";
            match () {
                () if alone("auto") => Ok(Gate::Auto),
                () if alone("none") => Ok(Gate::None),
                () if names.is_empty() || names.iter().any(|n| !is_daemonset(n)) => {
                    Err(format!("{text:?} is not {wanted}"))
                }
                () => Ok(Gate::Named(names.clone())),
            }
        })
    }

    /// The namespace of the lock and the records.
    ///
    /// # Errors
    /// If it is not a name a namespace can have (a DNS label, RFC 1123).
    pub fn state_namespace(&self) -> Result<String, ConfigError> {
        self.parsed("state-namespace", |text| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let edges = !text.starts_with('-') && !text.ends_with('-');
            if (1..=63).contains(&text.len()) && text.bytes().all(inner) && edges {
                Ok(text.to_owned())
            } else {
                Err(format!("{text:?} is not a namespace such as kube-system (at most 63 of a-z, 0-9 and -)"))
            }
        })
    }

    /// What was said about going past budgets.
    ///
    /// # Errors
    /// If it is not a text.
    pub fn past_budgets(&self) -> Result<PastBudgets, ConfigError> {
        Ok(match self.text("past-budgets")? {
            None => PastBudgets::No,
            Some(ASK) => PastBudgets::Ask,
            Some(cluster) => PastBudgets::Cluster(cluster.to_owned()),
        })
    }

    /// The simulator's pace.
    ///
    /// # Errors
    /// If it is not one.
    pub fn speed(&self) -> Result<Speed, ConfigError> {
        self.parsed("speed", |text| {
            let times = |t: &str| t.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
            match text {
                "auto" => Ok(Speed::Auto),
                "max" => Ok(Speed::Max),
                _ => text
                    .strip_suffix('x')
                    .and_then(times)
                    .map(Speed::Times)
                    .ok_or_else(|| format!("{text:?} is not auto, max, or a multiple of real time such as 60x")),
            }
        })
    }
}

fn at_least_one(text: &str) -> Result<Amount, String> {
    match text.parse::<Amount>()? {
        Amount::Count(0) | Amount::Percent(0) => {
            Err(format!("{text:?} would drain nothing; give a number from 1, or a percentage from 1% to 100%"))
        }
        amount => Ok(amount),
    }
}

fn max_drains(text: &str) -> Result<Option<u32>, String> {
    match text {
        "unlimited" => Ok(None),
        _ => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .map(Some)
            .ok_or_else(|| format!("{text:?} is not a number of nodes from 1, or unlimited")),
    }
}

/// `name` or `namespace/name`, with words of other choices refused where they stand among names.
fn is_daemonset(name: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let mut parts = name.split('/');
    let fits = parts.by_ref().take(2).all(part) && parts.next().is_none();
    fits && name != "auto" && name != "none"
}
