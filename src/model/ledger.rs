//! The surge's ledger: how much of a group's desired capacity is ours, safe across a crash.
//!
//! It lives in one group tag: the confirmed count and at most one step in hand. The step is written before
//! the call that changes desired and folded into the count after it, so whoever reads the tag next can tell
//! from the group and its activities whether the call took effect.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::InstanceId;

/// A change of desired capacity that has been announced but not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Desired before it.
    pub from: u32,
    /// Desired after it.
    pub to: u32,
    /// On the way down: the instance that is terminated with decrement; `None` for SetDesiredCapacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// When it was announced.
    pub at: Timestamp,
}

/// The ledger of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Format; always [`Ledger::VERSION`].
    pub v: u32,
    /// Instances of desired that are our surge for certain.
    pub confirmed: u32,
    /// The step in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// A ledger that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the surge ledger {text:?}: {cause}")]
pub struct LedgerError {
    /// The tag's value.
    pub text: String,
    /// What is wrong with it.
    pub cause: String,
}

impl Ledger {
    /// The format this version writes, and the only one it reads.
    pub const VERSION: u32 = 1;

    /// A ledger with this confirmed count and no step in hand.
    pub fn settled(confirmed: u32) -> Self {
        Self { v: Self::VERSION, confirmed, step: None }
    }

    /// Reads the tag's value.
    ///
    /// # Errors
    /// If it is torn, forged or from another version.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let wrong = |cause: String| LedgerError { text: text.to_owned(), cause };
        let ledger: Self = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if ledger.v != Self::VERSION {
            return Err(wrong(format!("version {} where {} was expected", ledger.v, Self::VERSION)));
        }
        Ok(ledger)
    }

    /// The tag's value; at most 256 characters, which is what a tag can hold.
    pub fn to_tag(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_survives_the_tag_and_fits_into_it() {
        let ledger = Ledger {
            v: 1,
            confirmed: 4999,
            step: Some(Step {
                from: 5000,
                to: 4999,
                instance: Some(InstanceId::from("i-0123456789abcdef0")),
                at: "2026-11-23T12:00:00.123456789Z".parse().unwrap(),
            }),
        };
        assert!(ledger.to_tag().len() <= 256);
        assert_eq!(Ledger::parse(&ledger.to_tag()), Ok(ledger));
    }

    #[test]
    fn torn_forged_and_newer_ledgers_are_refused() {
        for bad in ["", "{\"v\":1,\"conf", "{\"v\":2,\"confirmed\":1}", "{\"v\":1,\"confirmed\":-1}", "3"] {
            assert!(Ledger::parse(bad).is_err(), "{bad}");
        }
    }
}
