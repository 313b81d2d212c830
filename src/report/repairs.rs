//! What became of the fixes of a rotation: a fold over its events.

use crate::event::{EventKind, FixReport, FixState};
use crate::model::Text;

use super::text::{count, seconds};

/// The fold.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    fixes: Vec<FixReport>,
    /// The last replacement that was told of failed: what is verified next is verified by it, and it goes.
    failed: bool,
}

impl Repairs {
    pub(super) fn fold(&mut self, kind: &EventKind) {
        match kind {
            EventKind::FixProposed { fix, .. } => {
                self.of(fix);
            }
            EventKind::FixApplied { fix, .. } => self.of(fix).state = FixState::Applied,
            EventKind::FixVerified { fix, effect, .. } => {
                let failed = self.failed;
                let report = self.of(fix);
                report.effect = Some(*effect);
                report.state = FixState::Applied;
                if effect.helped {
                    report.state = FixState::Verified;
                    if !failed {
                        report.add();
                    }
                }
            }
            EventKind::FixReverted { fix, .. } => {
                let report = self.of(fix);
                (report.state, report.nodes, report.saved_s) = (FixState::Reverted, 0, 0.0);
            }
            EventKind::ReplacementFailed { .. } => self.failed = true,
            EventKind::ReplacementFunctional { .. } => {
                self.failed = false;
                self.fixes.iter_mut().filter(|report| report.state == FixState::Verified).for_each(FixReport::add);
            }
            _ => {}
        }
    }

    pub(super) fn report(&self) -> Vec<FixReport> {
        self.fixes.clone()
    }

    fn of(&mut self, fix: &Text) -> &mut FixReport {
        let at = self.fixes.iter().position(|report| report.fix == *fix).unwrap_or_else(|| {
            let fix = fix.clone();
            self.fixes.push(FixReport { fix, state: FixState::Proposed, effect: None, nodes: 0, saved_s: 0.0 });
            self.fixes.len() - 1
        });
        &mut self.fixes[at]
    }
}

impl FixReport {
    /// One more node started with it.
    fn add(&mut self) {
        self.nodes += 1;
        self.saved_s +=
            self.effect.and_then(|effect| Some((effect.before_s? - effect.after_s).max(0.0))).unwrap_or(0.0);
    }
}

/// A fix in a line of the report.
pub(super) fn line(report: &FixReport, cluster: &str) -> String {
    let FixReport { fix, state, effect, nodes, saved_s } = report;
    let effect = effect.map(|effect| effect.to_string());
    match (state, effect) {
        (FixState::Proposed, _) => format!("{fix} would help: fastnode fix --cluster {cluster} {fix} --apply"),
        (FixState::Applied, Some(effect)) => {
            format!("{fix}: {effect}: still in place; fastnode fix --cluster {cluster} {fix} --revert takes it back")
        }
        (FixState::Applied, None) => format!("{fix}: applied, and no new node has shown yet whether it helps"),
        (FixState::Verified, Some(effect)) => {
            let nodes = count(u64::from(*nodes), "new node");
            match *saved_s {
                0.0 => format!("{fix}: {effect}; {nodes} since"),
                saved_s => format!("{fix}: {effect}; {nodes} functional sooner, {} in all", seconds(saved_s)),
            }
        }
        (FixState::Reverted, Some(effect)) => format!("{fix}: {effect}: taken back"),
        (FixState::Verified, None) => format!("{fix}: verified"),
        (FixState::Reverted, None) => format!("{fix}: taken back"),
    }
}
