//! Whether a fix helped: the next new node beside those before it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::catalogue::Verify;

/// How a new node started.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// From the Node's creation to functional, seconds.
    pub seconds: f64,
    /// Restarts of gated containers meanwhile, a waiter's own left out.
    pub restarts: u32,
}

/// What the comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The median of those before, seconds; `None` where none of them became functional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_s: Option<f64>,
    /// The new node, seconds.
    pub after_s: f64,
    /// Its restarts.
    pub restarts: u32,
    /// It helped.
    pub helped: bool,
    /// Another fix was new on that node too: what each of them is worth cannot be told apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before_s, after_s, restarts, helped, together } = self;
        let what = match (helped, together) {
            (true, false) => "verified",
            (false, false) => "no effect",
            (true, true) => "verified together with another fix",
            (false, true) => "no effect together with another fix",
        };
        let times = if *restarts == 1 { "restart" } else { "restarts" };
        match before_s {
            Some(before_s) => write!(f, "{what}: {before_s:.0} s -> {after_s:.0} s, {restarts} {times}"),
            None if *together => write!(f, "{what}: {after_s:.0} s, {restarts} {times}"),
            None => write!(f, "{what}: none before it was functional -> {after_s:.0} s, {restarts} {times}"),
        }
    }
}

/// Judges a node that is functional with the fix, where all before it failed: it helped, unless it restarted more
/// often than the fix allows.
pub fn judge(after: Start, rule: &Verify) -> Effect {
    let helped = after.restarts <= rule.restarts;
    Effect { before_s: None, after_s: after.seconds, restarts: after.restarts, helped, together: false }
}

/// By how much the starts of two nodes of one kind differ that differ in nothing, seconds: a tenth of the time, and 5
/// s at least. Restarts come at the kubelet's back-off with its jitter, readiness probes and the stamps of the API
/// server are whole seconds apart, and a registry or EC2 answers now sooner, now later: one node says no more.
fn noise(before_s: f64) -> f64 {
    (before_s * 0.1).max(5.0)
}

/// Compares a node that started with the fix with those that started without; `None` where there are none.
///
/// It helped where the node was functional sooner, by what the fix promises and by more than two nodes differ anyway;
/// or where it restarted less, and was not later by more than that.
pub fn compare(before: &[Start], after: Start, rule: &Verify) -> Option<Effect> {
    let mut seconds: Vec<f64> = before.iter().map(|start| start.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let before_s = median(&seconds)?;
    let mut restarts: Vec<f64> = before.iter().map(|start| f64::from(start.restarts)).collect();
    restarts.sort_by(f64::total_cmp);
    let restarted = median(&restarts)?;
    // The catalogue has checked that it is a duration.
    let sooner_by = humantime::parse_duration(&rule.sooner_by).unwrap_or_default().as_secs_f64();
    let sooner = before_s - after.seconds >= sooner_by.max(noise(before_s));
    let calmer = f64::from(after.restarts) < restarted && after.seconds <= before_s + noise(before_s);
    // Restarts that somebody else's fault explains (a chain of two faults, mended one at a time) do not speak
    // against the fix, as long as there are no more of them than before.
    let no_worse = after.restarts <= rule.restarts || f64::from(after.restarts) <= restarted;
    let helped = (sooner || calmer) && no_worse;
    let (after_s, restarts) = (after.seconds, after.restarts);
    Some(Effect { before_s: Some(before_s), after_s, restarts, helped, together: false })
}

/// Judges several fixes that are new on the same node, the oldest first, each with the starts before it: the node
/// speaks for all of them at once, and what they save together is told of the first.
pub fn judge_all(befores: &[(Vec<Start>, Verify)], after: Start) -> Vec<Effect> {
    let together = befores.len() > 1;
    let mut effects: Vec<Effect> = Vec::new();
    for (before, rule) in befores {
        let compared = compare(before, after, rule);
        let effect = match effects.first() {
            None => compared.unwrap_or_else(|| judge(after, rule)),
            Some(first) => Effect { before_s: None, helped: compared.unwrap_or(*first).helped, ..*first },
        };
        effects.push(Effect { together, ..effect });
    }
    effects
}

/// The middle of several starts: of the times, and of the restarts the larger of the two middle ones.
pub fn middle(starts: &[Start]) -> Option<Start> {
    let mut seconds: Vec<f64> = starts.iter().map(|start| start.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let mut restarts: Vec<u32> = starts.iter().map(|start| start.restarts).collect();
    restarts.sort_unstable();
    Some(Start { seconds: median(&seconds)?, restarts: *restarts.get(restarts.len() / 2)? })
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let lower = if sorted.len().is_multiple_of(2) { *sorted.get(middle.checked_sub(1)?)? } else { upper };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(seconds: f64, restarts: u32) -> Start {
        Start { seconds, restarts }
    }

    #[test]
    fn a_node_that_is_sooner_verifies_it() {
        let before = [start(205.0, 1), start(212.0, 1), start(240.0, 2)];
        let effect = compare(&before, start(110.0, 0), &Verify::default()).unwrap();
        assert_eq!(effect.to_string(), "verified: 212 s -> 110 s, 0 restarts");
        // The first of two faults is mended: its dependents still restart.
        assert!(compare(&before, start(110.0, 1), &Verify::default()).unwrap().helped);
    }

    #[test]
    fn fewer_restarts_help_too_unless_it_takes_longer() {
        let before = [start(100.0, 1), start(104.0, 1)];
        assert!(compare(&before, start(101.0, 0), &Verify::default()).unwrap().helped);
        assert!(!compare(&before, start(115.0, 0), &Verify::default()).unwrap().helped);
    }

    #[test]
    fn what_two_nodes_differ_by_anyway_decides_nothing() {
        let helped = |before: (f64, u32), after: (f64, u32)| {
            compare(&[start(before.0, before.1)], start(after.0, after.1), &Verify::default()).unwrap().helped
        };
        for seconds in [212.0, 213.0, 215.0, 230.0] {
            assert!(helped((213.0, 7), (seconds, 5)), "fewer restarts, and {seconds} s");
            assert!(!helped((213.0, 7), (seconds, 7)), "as many restarts, and {seconds} s");
        }
        assert!(helped((114.0, 4), (116.0, 2)));
        assert!(helped((213.0, 7), (160.0, 7)) && !helped((213.0, 7), (193.0, 7)) && !helped((213.0, 7), (250.0, 5)));
        assert!(helped((31.0, 1), (35.0, 0)) && !helped((31.0, 0), (27.0, 0)));
    }

    #[test]
    fn fixes_that_one_node_shows_at_once_are_told_together_and_saved_once() {
        let all = [(vec![start(213.0, 7)], Verify::default()), (Vec::new(), Verify::default())];
        let told: Vec<_> = judge_all(&all, start(32.0, 0)).iter().map(ToString::to_string).collect();
        let both = "verified together with another fix: ";
        assert_eq!(told, [format!("{both}213 s -> 32 s, 0 restarts"), format!("{both}32 s, 0 restarts")]);
        let alone = judge_all(&all[..1], start(32.0, 0));
        assert_eq!(alone[0].to_string(), "verified: 213 s -> 32 s, 0 restarts");
    }

    #[test]
    fn no_change_and_more_restarts_are_no_effect() {
        let effect = compare(&[start(110.0, 0)], start(109.0, 0), &Verify::default()).unwrap();
        assert_eq!(effect.to_string(), "no effect: 110 s -> 109 s, 0 restarts");
        assert!(!compare(&[start(110.0, 0)], start(60.0, 1), &Verify::default()).unwrap().helped);
        assert_eq!(compare(&[], start(1.0, 0), &Verify::default()), None);
    }

    #[test]
    fn where_all_before_failed_one_that_is_functional_verifies_it() {
        let effect = judge(start(31.0, 0), &Verify::default());
        assert_eq!(effect.to_string(), "verified: none before it was functional -> 31 s, 0 restarts");
        assert!(!judge(start(31.0, 1), &Verify::default()).helped);
    }
}
