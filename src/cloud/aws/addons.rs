//! EKS add-ons through the EKS SDK.

use aws_sdk_eks::types;
use serde_json::Value;

use super::call::Probe;
use super::failure::Failure;
use super::{AwsCloud, further};
use crate::cloud::addons::{Addon, AddonChange, AddonUpdate, AddonVersion, Addons};
use crate::cloud::{Error, ErrorKind, Result};
use crate::model::Text;

/// The most versions a page of DescribeAddonVersions holds.
const PAGE: i32 = 100;

/// What is missing is no error here.
fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(operation: &str, message: String) -> Error {
    Error { kind: ErrorKind::Other, operation: operation.into(), message }
}

fn addon(name: &str, addon: &types::Addon) -> Addon {
    let issues = addon.health().map(types::AddonHealth::issues).unwrap_or_default();
    Addon {
        name: addon.addon_name().unwrap_or(name).into(),
        version: addon.addon_version().unwrap_or_default().into(),
        status: addon.status().map_or("UNKNOWN", types::AddonStatus::as_str).into(),
        configuration: addon.configuration_values().filter(|values| !values.is_empty()).map(Into::into),
        issues: issues
            .iter()
            .map(|issue| {
                let code = issue.code().map_or("unknown", types::AddonIssueCode::as_str);
                format!("{code}: {}", issue.message().unwrap_or_default()).into()
            })
            .collect(),
    }
}

fn version(found: &types::AddonVersionInfo, kubernetes: &str) -> Option<AddonVersion> {
    let fits = |c: &&types::Compatibility| c.cluster_version() == Some(kubernetes);
    Some(AddonVersion {
        version: found.addon_version()?.into(),
        default: found.compatibilities().iter().find(fits).is_some_and(types::Compatibility::default_version),
    })
}

fn update(found: &types::Update) -> AddonUpdate {
    match found.status() {
        Some(types::UpdateStatus::Successful) => AddonUpdate::Successful,
        Some(types::UpdateStatus::Failed | types::UpdateStatus::Cancelled) => {
            let why: Vec<String> = found
                .errors()
                .iter()
                .map(|error| {
                    let code = error.error_code().map_or("unknown", types::ErrorCode::as_str);
                    format!("{code}: {}", error.error_message().unwrap_or_default())
                })
                .collect();
            AddonUpdate::Failed(if why.is_empty() { "EKS gives no reason".into() } else { why.join("; ").into() })
        }
        _ => AddonUpdate::InProgress,
    }
}

impl Addons for AwsCloud {
    async fn addon(&self, cluster: &str, name: &str) -> Result<Option<Addon>> {
        let request = self.eks.describe_addon().cluster_name(cluster).addon_name(name);
        let answer = found(self.caller.repeatable("eks:DescribeAddon", send!(request)).await)?;
        Ok(answer.and_then(|answer| answer.addon().map(|found| addon(name, found))))
    }

    async fn addon_schema(&self, name: &str, version: &str) -> Result<Option<Value>> {
        const OPERATION: &str = "eks:DescribeAddonConfiguration";
        let request = self.eks.describe_addon_configuration().addon_name(name).addon_version(version);
        let answer = self.caller.repeatable(OPERATION, send!(request)).await?;
        let Some(schema) = answer.configuration_schema().filter(|schema| !schema.is_empty()) else { return Ok(None) };
        let broken = |error| unreadable(OPERATION, format!("the schema of {name} {version} is no JSON: {error}"));
        serde_json::from_str(schema).map(Some).map_err(broken)
    }

    async fn addon_versions(&self, name: &str, kubernetes: &str) -> Result<Vec<AddonVersion>> {
        let mut request =
            self.eks.describe_addon_versions().addon_name(name).kubernetes_version(kubernetes).max_results(PAGE);
        let mut versions = Vec::new();
        loop {
            let page = self.caller.repeatable("eks:DescribeAddonVersions", send!(request)).await?;
            let listed = page.addons().iter().flat_map(types::AddonInfo::addon_versions);
            versions.extend(listed.filter_map(|found| version(found, kubernetes)));
            let Some(next) = further(page.next_token()) else { return Ok(versions) };
            request = request.next_token(next);
        }
    }

    async fn update_addon(&self, cluster: &str, name: &str, change: &AddonChange) -> Result<Text> {
        const OPERATION: &str = "eks:UpdateAddon";
        let request = self
            .eks
            .update_addon()
            .cluster_name(cluster)
            .addon_name(name)
            .resolve_conflicts(types::ResolveConflicts::Preserve)
            .set_addon_version(change.version.as_deref().map(str::to_owned))
            .set_configuration_values(change.configuration.as_deref().map(str::to_owned));
        let answer = self.caller.once(OPERATION, send!(request)).await?;
        let id = answer.update().and_then(types::Update::id);
        id.map(Into::into).ok_or_else(|| unreadable(OPERATION, "the answer names no update".to_owned()))
    }

    async fn addon_update(&self, cluster: &str, name: &str, id: &str) -> Result<AddonUpdate> {
        let request = self.eks.describe_update().name(cluster).addon_name(name).update_id(id);
        let answer = self.caller.repeatable("eks:DescribeUpdate", send!(request)).await?;
        Ok(answer.update().map_or(AddonUpdate::InProgress, update))
    }
}
