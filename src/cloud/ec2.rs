//! The two EC2 reads fastnode makes.

use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError};

use super::aws::call::Caller;
use super::query::{Decoded, Page, Parameters, Service, children, text};
use super::{InstanceDetail, Result};
use crate::model::{InstanceId, Text};

const API_VERSION: &str = "2016-11-15";
/// The most values one filter takes.
const FILTER_VALUES: usize = 200;

/// One version of a launch template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cloud) struct TemplateVersion {
    /// `lt-…`
    pub(in crate::cloud) id: Text,
    /// Its number, from 1.
    pub(in crate::cloud) number: u64,
    /// Whether it is the template's default version.
    pub(in crate::cloud) default: bool,
    /// Its image, `resolve:ssm:` resolved.
    pub(in crate::cloud) image: Option<Text>,
}

/// EC2 in one region.
#[derive(Debug)]
pub(in crate::cloud) struct Ec2(pub(in crate::cloud) Service);

impl Ec2 {
    /// `ec2:DescribeLaunchTemplateVersions` of one template, named by id or name, for the versions asked
    /// for (numbers, `$Latest`, `$Default`), images resolved.
    pub(in crate::cloud) async fn template_versions(
        &self,
        caller: &Caller,
        template: &str,
        versions: impl IntoIterator<Item = &Text>,
    ) -> Result<Vec<TemplateVersion>> {
        let by = if is_template_id(template) { "LaunchTemplateId" } else { "LaunchTemplateName" };
        let mut parameters: Parameters = vec![(by.into(), template.into()), ("ResolveAlias".into(), "true".into())];
        for (i, version) in (1..).zip(versions) {
            parameters.push((format!("LaunchTemplateVersion.{i}"), version.to_string()));
        }
        self.0.all(caller, "ec2:DescribeLaunchTemplateVersions", API_VERSION, parameters, read_versions).await
    }

    /// `ec2:DescribeInstances`, by filter, because a filter passes over ids EC2 does not know where naming
    /// them fails the whole call.
    pub(in crate::cloud) async fn instances(&self, caller: &Caller, ids: &[InstanceId]) -> Result<Vec<InstanceDetail>> {
        let mut details = Vec::with_capacity(ids.len());
        for ids in ids.chunks(FILTER_VALUES) {
            let mut parameters: Parameters =
                vec![("Filter.1.Name".into(), "instance-id".into()), ("MaxResults".into(), "1000".into())];
            for (i, id) in (1..).zip(ids) {
                parameters.push((format!("Filter.1.Value.{i}"), id.as_str().into()));
            }
            details.extend(self.0.all(caller, "ec2:DescribeInstances", API_VERSION, parameters, read_instances).await?);
        }
        Ok(details)
    }
}

/// `lt-` and 8 or 17 hexadecimal digits; anything else is a name.
fn is_template_id(template: &str) -> bool {
    template
        .strip_prefix("lt-")
        .is_some_and(|digits| matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn read_versions(body: &str) -> Decoded<Page<TemplateVersion>> {
    let mut document = Document::new(body);
    let mut page = Page { items: Vec::new(), next: None };
    children(document.root_element()?, |name, tag| match name {
        "launchTemplateVersionSet" => children(tag, |_, item| {
            let (mut id, mut number, mut default, mut image) = (None, None, false, None);
            children(item, |name, tag| {
                match name {
                    "launchTemplateId" => id = text(tag)?,
                    "versionNumber" => number = text(tag)?.and_then(|number| number.parse().ok()),
                    "defaultVersion" => default = text(tag)?.as_deref() == Some("true"),
                    "launchTemplateData" => children(tag, |name, tag| {
                        if name == "imageId" {
                            image = text(tag)?;
                        }
                        Ok(())
                    })?,
                    _ => {}
                }
                Ok(())
            })?;
            let (Some(id), Some(number)) = (id, number) else {
                return Err(XmlDecodeError::custom(
                    "a launch template version has no launchTemplateId or versionNumber",
                ));
            };
            // An alias left unresolved says nothing about the image.
            let image = image.filter(|image| !image.starts_with("resolve:")).map(Text::from);
            page.items.push(TemplateVersion { id: id.into(), number, default, image });
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

fn read_instances(body: &str) -> Decoded<Page<InstanceDetail>> {
    instances(body, |item| read_instance(item).map(Some))
}

/// What `read` takes of each instance of a page of `DescribeInstances`.
pub(crate) fn instances<T>(
    body: &str,
    mut read: impl FnMut(ScopedDecoder<'_, '_>) -> Decoded<Option<T>>,
) -> Decoded<Page<T>> {
    let mut document = Document::new(body);
    let mut page = Page { items: Vec::new(), next: None };
    children(document.root_element()?, |name, tag| match name {
        "reservationSet" => children(tag, |_, reservation| {
            children(reservation, |name, tag| {
                if name != "instancesSet" {
                    return Ok(());
                }
                children(tag, |_, item| {
                    page.items.extend(read(item)?);
                    Ok(())
                })
            })
        }),
        "nextToken" => {
            page.next = text(tag)?;
            Ok(())
        }
        _ => Ok(()),
    })?;
    Ok(page)
}

fn read_instance(item: ScopedDecoder<'_, '_>) -> Decoded<InstanceDetail> {
    let (mut id, mut launched_at, mut image, mut state, mut private_dns) = (None, None, None, None, None);
    children(item, |name, tag| {
        match name {
            "instanceId" => id = text(tag)?,
            "launchTime" => launched_at = text(tag)?.and_then(|time| time.parse().ok()),
            "imageId" => image = text(tag)?,
            "privateDnsName" => private_dns = text(tag)?,
            "instanceState" => children(tag, |name, tag| {
                if name == "name" {
                    state = text(tag)?;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    let (Some(id), Some(state)) = (id, state) else {
        return Err(XmlDecodeError::custom("an instance has no instanceId or instanceState"));
    };
    Ok(InstanceDetail {
        id: id.into(),
        launched_at,
        image: image.map(Text::from),
        state: state.into(),
        private_dns: private_dns.map(Text::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_ids_and_names_are_told_apart() {
        assert!(is_template_id("lt-0123456789abcdef0"));
        assert!(is_template_id("lt-01234567"));
        assert!(!is_template_id("lt-workers"));
        assert!(!is_template_id("eks-a1b2"));
    }

    #[test]
    fn an_alias_that_was_not_resolved_is_no_image() {
        let page = read_versions(
            "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet><item><launchTemplateId>lt-1\
             </launchTemplateId><versionNumber>3</versionNumber><launchTemplateData><imageId>resolve:ssm:/x</imageId>\
             </launchTemplateData></item></launchTemplateVersionSet></DescribeLaunchTemplateVersionsResponse>",
        )
        .unwrap();
        assert_eq!(page.items, [TemplateVersion { id: "lt-1".into(), number: 3, default: false, image: None }]);
    }
}
