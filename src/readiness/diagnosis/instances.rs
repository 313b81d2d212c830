//! Signatures of instances: launches that failed, instances that never joined, or that joined while warming.

use jiff::SignedDuration;

use super::catalogue::{Signature, UnjoinedRule};
use super::{Case, Clue, Match};
use crate::model::{ActivityStatus, ConditionStatus, Instance, InstanceId, Lifecycle, Text};

/// Lines of a console that are quoted.
const QUOTED: usize = 4;

/// Adds a match for each group or instance the signature is found on.
pub(super) fn find<'a>(signature: &'a Signature, case: Case<'a>, matches: &mut Vec<Match<'a>>) {
    if let Some(rule) = &signature.activity {
        for (group, activities) in &case.evidence.activities {
            let recent = SignedDuration::from_secs(i64::from(rule.within_s));
            let found = activities.iter().find(|activity| {
                let message = activity.message.as_deref().unwrap_or_default();
                matches!(activity.status, ActivityStatus::Failed | ActivityStatus::Cancelled)
                    && case.now.duration_since(activity.started) <= recent
                    && rule.messages.iter().any(|p| p.finds(message))
            });
            if let Some(activity) = found {
                let clue = Clue {
                    time: Some(activity.started),
                    source: format!("activity of {group}").into(),
                    text: activity.message.clone().unwrap_or_else(|| activity.description.clone()),
                };
                matches.push(Match { group: Some(group.clone()), clues: vec![clue], ..Match::of(signature) });
            }
        }
    }
    if let Some(rule) = &signature.unjoined {
        let unjoined = case.suspects.unjoined.iter().filter_map(|id| case.snapshot.instances.get(id));
        matches.extend(unjoined.filter_map(|instance| never_joined(signature, rule, instance, case)));
    }
    if signature.warmed.is_some() {
        let warmed = case.snapshot.instances.values().filter(|i| i.lifecycle == Lifecycle::Warmed);
        for instance in warmed {
            let Some(node) = case.snapshot.node_of(&instance.id) else { continue };
            if node.ready() == ConditionStatus::True || !case.suspects.judged.contains(&node.name) {
                continue;
            }
            let text = format!("its Node {} is not Ready, and it is in the warm pool", node.name);
            let source = format!("instance {}", instance.id).into();
            matches.push(Match {
                node: Some(node.name.clone()),
                instance: Some(instance.id.clone()),
                group: Some(instance.group.clone()),
                clues: vec![Clue { time: Some(node.created), source, text: text.into() }],
                ..Match::of(signature)
            });
        }
    }
}

fn never_joined<'a>(
    signature: &'a Signature,
    rule: &UnjoinedRule,
    instance: &Instance,
    case: Case<'a>,
) -> Option<Match<'a>> {
    let id = &instance.id;
    let launched = instance.launched_at.or_else(|| case.snapshot.first_seen.get(id).copied())?;
    if case.now.duration_since(launched) < SignedDuration::from_secs(i64::from(rule.after_s)) {
        return None;
    }
    let source = |what: &str| Text::from(format!("{what} of {id}"));
    let console: Vec<&str> = case.evidence.consoles.get(id).into_iter().flat_map(|text| text.lines()).collect();
    let quote = |line: &str| Clue { time: None, source: source("console"), text: line.trim().into() };

    let mut clues: Vec<Clue> = console
        .iter()
        .filter(|line| rule.console.iter().any(|p| p.finds(line)))
        .take(QUOTED)
        .map(|line| quote(line))
        .collect();
    if rule.not_admitted
        && let Some(role) = case.evidence.roles.get(id)
        && let Some(principals) = &case.evidence.principals
        && !principals.iter().any(|p| is_same_role(p, role))
    {
        let text = format!("{role} is in none of {} access entries, nor in aws-auth", principals.len());
        clues.push(Clue { time: None, source: source("role"), text: text.into() });
    }
    if rule.no_addresses {
        let group = case.snapshot.groups.get(&instance.group);
        let subnets = group.into_iter().flat_map(|g| &g.subnets);
        for subnet in subnets.filter(|s| case.evidence.free_addresses.get(*s) == Some(&0)) {
            clues.push(Clue { time: None, source: format!("subnet {subnet}").into(), text: "0 free addresses".into() });
        }
    }
    let narrow = !rule.console.is_empty() || rule.not_admitted || rule.no_addresses;
    if narrow && clues.is_empty() {
        return None;
    }
    if !narrow {
        // Nothing tells why: all that is known of it.
        clues.extend(case.evidence.states.get(id).map(|state| Clue {
            time: Some(launched),
            source: source("state"),
            text: format!("EC2 says it is {state}; launched {} ago", ago(case, launched)).into(),
        }));
        clues.extend(launch_of(id, case));
        let told = console.iter().filter(|line| !line.trim().is_empty());
        let told: Vec<_> = told.collect();
        clues.extend(told.iter().skip(told.len().saturating_sub(QUOTED)).map(|line| quote(line)));
        if clues.is_empty() {
            let text = format!("in service for {} without a Node", ago(case, launched));
            clues.push(Clue { time: Some(launched), source: source("state"), text: text.into() });
        }
    }
    let (instance, group) = (Some(id.clone()), Some(instance.group.clone()));
    Some(Match { instance, group, clues, ..Match::of(signature) })
}

fn ago(case: Case<'_>, since: jiff::Timestamp) -> String {
    crate::units::clock(case.now.duration_since(since))
}

/// What its group's activity said of its launch.
fn launch_of(id: &InstanceId, case: Case<'_>) -> Option<Clue> {
    let activities = case.evidence.activities.values().flatten();
    let launch = activities.filter(|a| a.instance.as_ref() == Some(id)).min_by_key(|a| a.started)?;
    let message = launch.message.as_ref().map_or(String::new(), |m| format!(": {m}"));
    let text = format!("{}{message}", launch.description).into();
    Some(Clue { time: Some(launch.started), source: format!("activity of {}", launch.group).into(), text })
}

/// Whether two ARNs are of one role: aws-auth leaves the path out of a role's name.
fn is_same_role(principal: &str, role: &str) -> bool {
    let parts = |arn: &str| {
        let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
        (account, arn.rsplit('/').next().unwrap_or_default().to_owned())
    };
    principal == role || (principal.contains(":role/") && parts(principal) == parts(role))
}
