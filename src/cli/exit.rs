//! Exit codes; `docs/exit-codes.md` says the same to users.

use std::process::ExitCode;

use crate::controller::Interrupt;
use crate::plan::Verdict;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; nothing to do included.
    Done = 0,
    /// A bug, or the unexpected.
    Unexpected = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Refused before anything was changed.
    Refused = 3,
    /// Stopped: failure budget, canary, a time-out under `--on-stuck stop`, or an invariant.
    Stopped = 4,
    /// Ended incomplete; the next run goes on from there.
    Incomplete = 5,
    /// Another rotation holds the lock.
    Locked = 6,
    /// Credentials, a permission, or out of reach.
    Access = 7,
    /// `plan`: there is work.
    Work = 10,
    /// `doctor`: there are findings.
    Findings = 11,
    /// `await`: what it was given to wait for is not filled in; another start gives it anew (EX_TEMPFAIL).
    StartOver = 75,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether it is the answer that was asked for.
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Work)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Done => Self::Done,
            Verdict::Incomplete | Verdict::TargetChanged | Verdict::Aborted => Self::Incomplete,
            Verdict::CanaryFailed | Verdict::FailureBudget | Verdict::Stuck => Self::Stopped,
            // A run that was cut short has ended with a signal or an error, which say more.
            Verdict::Interrupted => Self::Interrupted,
            Verdict::Failed => Self::Unexpected,
        }
    }
}

impl From<Interrupt> for Exit {
    fn from(signal: Interrupt) -> Self {
        match signal {
            Interrupt::Int => Self::Interrupted,
            Interrupt::Term => Self::Terminated,
        }
    }
}
