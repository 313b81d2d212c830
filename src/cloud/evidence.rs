//! What AWS can say of an instance that never became a node, without a shell on it.

use std::collections::{BTreeMap, BTreeSet};

use super::Result;
use crate::model::{InstanceId, Text};

/// AWS as a witness.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Evidence {
    /// `ec2:GetConsoleOutput`, decoded, its last 64 KiB; `None` where there is none yet.
    async fn console(&self, instance: &InstanceId) -> Result<Option<String>>;

    /// ARNs of the IAM roles and users that may reach the cluster (`eks:ListAccessEntries`).
    async fn principals(&self, cluster: &str) -> Result<BTreeSet<Text>>;

    /// The IAM role of each instance's profile (`ec2:DescribeInstances`, `iam:GetInstanceProfile`), by instance;
    /// those without one are left out.
    async fn roles(&self, instances: &[InstanceId]) -> Result<BTreeMap<InstanceId, Text>>;

    /// Free addresses of each subnet (`ec2:DescribeSubnets`).
    async fn free_addresses(&self, subnets: &BTreeSet<Text>) -> Result<BTreeMap<Text, u32>>;
}
