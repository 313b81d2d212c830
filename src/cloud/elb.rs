//! The two reads of Elastic Load Balancing: how long what is deregistered is let finish.
//!
//! Target groups belong to the newer API, classic load balancers to the older; both share one endpoint.
//! (Elastic Load Balancing API references 2015-12-01, DescribeTargetGroupAttributes, and 2012-06-01,
//! DescribeLoadBalancerAttributes.)

use std::collections::{BTreeMap, BTreeSet};

use aws_smithy_xml::decode::{Document, ScopedDecoder};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::aws::call::Caller;
use super::query::{Decoded, Page, Service, children, text};
use super::{ErrorKind, Result};
use crate::model::Attachment;

const VERSION: &str = "2015-12-01";
const CLASSIC_VERSION: &str = "2012-06-01";
const TARGET_GROUP: &str = "elasticloadbalancing:DescribeTargetGroupAttributes";
const CLASSIC: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
/// The attribute of a target group.
const DELAY: &str = "deregistration_delay.timeout_seconds";
/// Each is asked for by itself; so many at once.
const AT_ONCE: usize = 4;

/// Elastic Load Balancing in one region.
#[derive(Debug)]
pub(in crate::cloud) struct Elb(pub(in crate::cloud) Service);

impl Elb {
    /// The delays of `attachments`, in seconds; what may not be read or is gone is left out.
    pub(in crate::cloud) async fn delays(
        &self,
        caller: &Caller,
        attachments: &BTreeSet<Attachment>,
    ) -> Result<BTreeMap<Attachment, u32>> {
        stream::iter(attachments)
            .map(|attachment| async move {
                match self.delay(caller, attachment).await {
                    Ok(delay) => Ok(delay.map(|delay| (attachment.clone(), delay))),
                    Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::NotFound) => {
                        tracing::warn!("{error}");
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            })
            .buffered(AT_ONCE)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await
    }

    async fn delay(&self, caller: &Caller, attachment: &Attachment) -> Result<Option<u32>> {
        let name = attachment.0.to_string();
        let found = if attachment.is_target_group() {
            let parameters = vec![("TargetGroupArn".into(), name)];
            self.0.all(caller, TARGET_GROUP, VERSION, parameters, read_target_group).await?
        } else if attachment.is_classic() {
            let parameters = vec![("LoadBalancerName".into(), name)];
            self.0.all(caller, CLASSIC, CLASSIC_VERSION, parameters, read_classic).await?
        } else {
            Vec::new()
        };
        Ok(found.into_iter().next())
    }
}

fn read_target_group(body: &str) -> Decoded<Page<u32>> {
    let mut items = Vec::new();
    inside(body, "Attributes", |attribute| {
        let (mut key, mut value) = (None, None);
        children(attribute, |name, tag| {
            match name {
                "Key" => key = text(tag)?,
                "Value" => value = text(tag)?,
                _ => {}
            }
            Ok(())
        })?;
        if key.as_deref() == Some(DELAY) {
            items.extend(value.and_then(|value| value.parse::<u32>().ok()));
        }
        Ok(())
    })?;
    Ok(Page { items, next: None })
}

/// `ConnectionDraining`: its `Timeout` where it is enabled, else nothing is let finish.
fn read_classic(body: &str) -> Decoded<Page<u32>> {
    let (mut enabled, mut timeout) = (None, None);
    let mut document = Document::new(body);
    children(document.root_element()?, |_, result| {
        children(result, |name, attributes| {
            if name != "LoadBalancerAttributes" {
                return Ok(());
            }
            children(attributes, |name, draining| {
                if name != "ConnectionDraining" {
                    return Ok(());
                }
                children(draining, |name, tag| {
                    match name {
                        "Enabled" => enabled = text(tag)?,
                        "Timeout" => timeout = text(tag)?.and_then(|timeout| timeout.parse::<u32>().ok()),
                        _ => {}
                    }
                    Ok(())
                })
            })
        })
    })?;
    let delay = match enabled.as_deref() {
        Some("true") => Some(timeout.unwrap_or(Attachment::DEFAULT_DELAY_S)),
        Some(_) => Some(0),
        None => None,
    };
    Ok(Page { items: delay.into_iter().collect(), next: None })
}

/// Goes through the members of the list `list` of an answer's result.
fn inside<'a>(body: &'a str, list: &str, mut each: impl FnMut(ScopedDecoder<'a, '_>) -> Decoded<()>) -> Decoded<()> {
    let mut document = Document::new(body);
    children(document.root_element()?, |_, result| {
        children(result, |name, members| match name == list {
            true => children(members, |_, member| each(member)),
            false => Ok(()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_groups_delay_is_one_of_its_attributes() {
        let page = read_target_group(
            "<DescribeTargetGroupAttributesResponse><DescribeTargetGroupAttributesResult><Attributes>\
             <member><Key>stickiness.enabled</Key><Value>false</Value></member>\
             <member><Key>deregistration_delay.timeout_seconds</Key><Value>45</Value></member>\
             </Attributes></DescribeTargetGroupAttributesResult></DescribeTargetGroupAttributesResponse>",
        );
        assert_eq!(page.unwrap().items, [45]);
    }

    #[test]
    fn a_classic_load_balancer_waits_only_where_draining_is_enabled() {
        let answer = |draining: &str| {
            let body = format!(
                "<DescribeLoadBalancerAttributesResponse><DescribeLoadBalancerAttributesResult>\
                 <LoadBalancerAttributes><ConnectionDraining>{draining}</ConnectionDraining></LoadBalancerAttributes>\
                 </DescribeLoadBalancerAttributesResult></DescribeLoadBalancerAttributesResponse>"
            );
            read_classic(&body).unwrap().items
        };
        assert_eq!(answer("<Enabled>true</Enabled><Timeout>120</Timeout>"), [120]);
        assert_eq!(answer("<Enabled>false</Enabled><Timeout>120</Timeout>"), [0]);
        assert!(answer("").is_empty());
    }
}
