//! The one read of IAM: which role an instance profile gives.
//! (IAM API reference 2010-05-08, GetInstanceProfile.)

use aws_smithy_xml::decode::Document;

use super::aws::call::Caller;
use super::query::{Decoded, Page, Service, children, text};
use super::{ErrorKind, Result};
use crate::model::Text;

const VERSION: &str = "2010-05-08";

/// IAM of a partition.
#[derive(Debug)]
pub(in crate::cloud) struct Iam(pub(in crate::cloud) Service);

impl Iam {
    /// The ARN of the role in an instance profile, which holds one at most; `None` where the profile is gone or
    /// empty.
    pub(in crate::cloud) async fn role(&self, caller: &Caller, profile: &str) -> Result<Option<Text>> {
        let parameters = vec![("InstanceProfileName".into(), profile.into())];
        match self.0.all(caller, "iam:GetInstanceProfile", VERSION, parameters, read_roles).await {
            Ok(roles) => Ok(roles.into_iter().next()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read_roles(body: &str) -> Decoded<Page<Text>> {
    let mut items = Vec::new();
    let mut document = Document::new(body);
    children(document.root_element()?, |_, result| {
        children(result, |name, profile| match name {
            "InstanceProfile" => children(profile, |name, roles| match name {
                "Roles" => children(roles, |_, role| {
                    children(role, |name, tag| {
                        if name == "Arn" {
                            items.extend(text(tag)?.map(Text::from));
                        }
                        Ok(())
                    })
                }),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    })?;
    Ok(Page { items, next: None })
}
