//! What AWS keeps of an instance that never became a node.

use std::collections::{BTreeMap, BTreeSet};

use aws_smithy_xml::decode::{Document, ScopedDecoder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::call::Probe;
use super::failure::Failure;
use super::{AwsCloud, further};
use crate::cloud::ec2::instances;
use crate::cloud::evidence::Evidence;
use crate::cloud::query::{Decoded, Page, Parameters, children, text};
use crate::cloud::{ErrorKind, Result};
use crate::model::{InstanceId, Text};

const EC2_VERSION: &str = "2016-11-15";
/// The most values one filter takes.
const FILTER_VALUES: usize = 200;
/// EC2 keeps as much of a console.
const CONSOLE_BYTES: usize = 64 << 10;

impl Evidence for AwsCloud {
    async fn console(&self, instance: &InstanceId) -> Result<Option<String>> {
        // The latest output is to be had of Nitro instances; of others, what EC2 kept of the start.
        match self.console_output(instance, true).await {
            Err(error) if error.kind == ErrorKind::Other => self.console_output(instance, false).await,
            answer => answer,
        }
    }

    async fn principals(&self, cluster: &str) -> Result<BTreeSet<Text>> {
        let mut request = self.eks.list_access_entries().cluster_name(cluster).max_results(100);
        let mut principals = BTreeSet::new();
        loop {
            let sent = async |probe: Probe| -> std::result::Result<_, Failure> {
                let call = request.clone().customize().interceptor(probe.clone());
                call.send().await.map_err(|error| probe.judge(&error))
            };
            let page = self.caller.repeatable("eks:ListAccessEntries", sent).await?;
            principals.extend(page.access_entries().iter().map(|arn| Text::from(arn.as_str())));
            let Some(next) = further(page.next_token()) else { return Ok(principals) };
            request = request.next_token(next);
        }
    }

    async fn roles(&self, instances: &[InstanceId]) -> Result<BTreeMap<InstanceId, Text>> {
        let mut profiles: BTreeMap<String, Vec<InstanceId>> = BTreeMap::new();
        for ids in instances.chunks(FILTER_VALUES) {
            let parameters = filter("instance-id", ids.iter().map(InstanceId::as_str));
            let found = self.ec2.0.all(&self.caller, "ec2:DescribeInstances", EC2_VERSION, parameters, read_profiles);
            for (id, arn) in found.await? {
                // arn:aws:iam::ACCOUNT:instance-profile/PATH/NAME
                let name = arn.rsplit('/').next().unwrap_or(&arn).to_owned();
                profiles.entry(name).or_default().push(id);
            }
        }
        let mut roles = BTreeMap::new();
        for (profile, ids) in profiles {
            if let Some(role) = self.iam.role(&self.caller, &profile).await? {
                roles.extend(ids.into_iter().map(|id| (id, role.clone())));
            }
        }
        Ok(roles)
    }

    async fn free_addresses(&self, subnets: &BTreeSet<Text>) -> Result<BTreeMap<Text, u32>> {
        let mut free = BTreeMap::new();
        let all: Vec<&str> = subnets.iter().map(|subnet| &**subnet).collect();
        for ids in all.chunks(FILTER_VALUES) {
            let parameters = filter("subnet-id", ids.iter().copied());
            let found = self.ec2.0.all(&self.caller, "ec2:DescribeSubnets", EC2_VERSION, parameters, read_subnets);
            free.extend(found.await?);
        }
        Ok(free)
    }
}

impl AwsCloud {
    async fn console_output(&self, instance: &InstanceId, latest: bool) -> Result<Option<String>> {
        let mut parameters: Parameters = vec![("InstanceId".into(), instance.as_str().into())];
        if latest {
            parameters.push(("Latest".into(), "true".into()));
        }
        let read = self.ec2.0.all(&self.caller, "ec2:GetConsoleOutput", EC2_VERSION, parameters, read_console);
        Ok(read.await?.into_iter().next())
    }
}

/// By filter, which passes over ids EC2 does not know, where naming them fails the whole call.
fn filter<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Parameters {
    let mut parameters: Parameters = vec![("Filter.1.Name".into(), name.into()), ("MaxResults".into(), "1000".into())];
    parameters.extend((1..).zip(values).map(|(i, value)| (format!("Filter.1.Value.{i}"), value.to_owned())));
    parameters
}

/// The output is base64, its lines wrapped; nothing where the instance has written nothing yet.
fn read_console(body: &str) -> Decoded<Page<String>> {
    let mut items = Vec::new();
    let mut document = Document::new(body);
    children(document.root_element()?, |name, tag| {
        if name == "output"
            && let Some(encoded) = text(tag)?
        {
            let encoded: String = encoded.split_whitespace().collect();
            if let Ok(bytes) = STANDARD.decode(encoded) {
                let last = bytes.len().saturating_sub(CONSOLE_BYTES);
                items.push(String::from_utf8_lossy(bytes.get(last..).unwrap_or_default()).into_owned());
            }
        }
        Ok(())
    })?;
    items.retain(|output| !output.trim().is_empty());
    Ok(Page { items, next: None })
}

/// `iamInstanceProfile/arn` of each instance that has one.
fn read_profiles(body: &str) -> Decoded<Page<(InstanceId, String)>> {
    instances(body, read_profile)
}

fn read_profile(item: ScopedDecoder<'_, '_>) -> Decoded<Option<(InstanceId, String)>> {
    let (mut id, mut arn) = (None, None);
    children(item, |name, tag| {
        match name {
            "instanceId" => id = text(tag)?,
            "iamInstanceProfile" => children(tag, |name, tag| {
                if name == "arn" {
                    arn = text(tag)?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(id.map(InstanceId::from).zip(arn))
}

fn read_subnets(body: &str) -> Decoded<Page<(Text, u32)>> {
    let mut page = Page { items: Vec::new(), next: None };
    let mut document = Document::new(body);
    children(document.root_element()?, |name, tag| match name {
        "subnetSet" => children(tag, |_, item| {
            let (mut id, mut free) = (None, None);
            children(item, |name, tag| {
                match name {
                    "subnetId" => id = text(tag)?,
                    "availableIpAddressCount" => free = text(tag)?.and_then(|count| count.parse().ok()),
                    _ => {}
                }
                Ok(())
            })?;
            page.items.extend(id.map(Text::from).zip(free));
            Ok(())
        }),
        "nextToken" => {
            page.next = text(tag)?;
            Ok(())
        }
        _ => Ok(()),
    })?;
    Ok(page)
}
