//! An instance as its Auto Scaling group shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GroupName, InstanceId, Text, Zone};

/// Where an instance stands in its group's lifecycle, as `LifecycleState` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lifecycle {
    /// `Pending`, `Pending:Wait`, `Pending:Proceed`: launching; counts in desired.
    Pending,
    /// `InService`.
    InService,
    /// `Terminating`, `Terminating:Wait`, `Terminating:Proceed`: no longer counts in desired.
    Terminating,
    /// `Terminating:Retained`: kept by an instance lifecycle policy after an abandoned hook.
    Retained,
    /// `Terminated`.
    Terminated,
    /// `Detaching` or `Detached`.
    Detaching,
    /// `EnteringStandby` or `Standby`.
    Standby,
    /// `Quarantined`.
    Quarantined,
    /// `Warmed:*`: in the warm pool, in whatever state; in no count of ours.
    Warmed,
    /// A state this version does not know; treated as not ours to touch.
    Unknown(Text),
}

impl Lifecycle {
    /// Reads the API's word for it.
    pub fn parse(state: &str) -> Self {
        match state {
            "Pending" | "Pending:Wait" | "Pending:Proceed" => Self::Pending,
            "InService" => Self::InService,
            "Terminating" | "Terminating:Wait" | "Terminating:Proceed" => Self::Terminating,
            "Terminating:Retained" => Self::Retained,
            "Terminated" => Self::Terminated,
            "Detaching" | "Detached" => Self::Detaching,
            "EnteringStandby" | "Standby" => Self::Standby,
            "Quarantined" => Self::Quarantined,
            warmed if warmed.starts_with("Warmed:") => Self::Warmed,
            other => Self::Unknown(other.into()),
        }
    }

    /// Whether the group counts the instance towards its desired capacity.
    pub fn counts_in_desired(&self) -> bool {
        matches!(self, Self::Pending | Self::InService)
    }

    /// Whether the instance is on its way out, or gone.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::Terminating | Self::Retained | Self::Terminated)
    }
}

/// What an instance was launched from: the *resolved* version, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchSource {
    /// A launch template; `version` is a number, never `$Latest`.
    Template {
        /// `lt-…`
        id: Text,
        /// The resolved version.
        version: Text,
    },
    /// A launch configuration.
    Configuration(Text),
    /// Neither is recorded (attached by hand, or its launch configuration deleted since).
    Unknown,
}

/// An instance of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its group.
    pub group: GroupName,
    /// Its zone.
    pub zone: Zone,
    /// Its instance type.
    pub instance_type: Text,
    /// Its place in the lifecycle.
    pub lifecycle: Lifecycle,
    /// `HealthStatus == "Healthy"`.
    pub healthy: bool,
    /// `ProtectedFromScaleIn`.
    pub protected: bool,
    /// What it was launched from.
    pub source: LaunchSource,
    /// When EC2 launched it; known once `DescribeInstances` was asked.
    pub launched_at: Option<Timestamp>,
    /// Its image; known once `DescribeInstances` was asked.
    pub image: Option<Text>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_states_are_their_main_state_and_warmed_is_never_in_service() {
        assert_eq!(Lifecycle::parse("Pending:Wait"), Lifecycle::Pending);
        assert_eq!(Lifecycle::parse("Warmed:Running"), Lifecycle::Warmed);
        assert_eq!(Lifecycle::parse("Warmed:Pending:Proceed"), Lifecycle::Warmed);
        assert!(!Lifecycle::parse("Terminating:Wait").counts_in_desired());
        assert_eq!(Lifecycle::parse("Hibernated"), Lifecycle::Unknown("Hibernated".into()));
    }
}
