//! What a group would launch now: version aliases and image aliases made definite.

use std::collections::{BTreeMap, BTreeSet};

use super::call::Caller;
use crate::cloud::ec2::{Ec2, TemplateVersion};
use crate::cloud::{Error, ErrorKind, Result};
use crate::model::{Override, Target, TemplateRef, Text};

/// Resolves every template of `target`, one EC2 call for each distinct one.
pub(super) async fn resolve(ec2: &Ec2, caller: &Caller, target: &Target) -> Result<Target> {
    let mut asked: BTreeMap<&Text, BTreeSet<&Text>> = BTreeMap::new();
    for template in templates(target) {
        asked.entry(&template.id).or_default().insert(&template.version);
    }
    let mut known = BTreeMap::new();
    for (template, versions) in asked {
        known.insert(template.clone(), ec2.template_versions(caller, template, versions).await?);
    }
    let resolved = |template: &TemplateRef| definite(template, known.get(&template.id).map_or(&[], Vec::as_slice));
    Ok(match target {
        Target::Template(template) => Target::Template(resolved(template)?),
        Target::Mixed { base, overrides } => Target::Mixed {
            base: resolved(base)?,
            overrides: overrides
                .iter()
                .map(|launch| {
                    let template = launch.template.as_ref().map(&resolved).transpose()?;
                    Ok(Override { instance_type: launch.instance_type.clone(), template })
                })
                .collect::<Result<_>>()?,
        },
        Target::Configuration(_) | Target::None => target.clone(),
    })
}

fn templates(target: &Target) -> Vec<&TemplateRef> {
    match target {
        Target::Template(template) => vec![template],
        Target::Mixed { base, overrides } => {
            std::iter::once(base).chain(overrides.iter().filter_map(|launch| launch.template.as_ref())).collect()
        }
        Target::Configuration(_) | Target::None => Vec::new(),
    }
}

fn definite(template: &TemplateRef, versions: &[TemplateVersion]) -> Result<TemplateRef> {
    let found = match &*template.version {
        // The answer holds the latest version and perhaps older ones asked for beside it.
        "$Latest" => versions.iter().max_by_key(|version| version.number),
        "$Default" => versions.iter().find(|version| version.default),
        number => versions.iter().find(|version| version.number.to_string() == number),
    };
    let found = found.ok_or_else(|| Error {
        kind: ErrorKind::NotFound,
        operation: "ec2:DescribeLaunchTemplateVersions".into(),
        message: format!("launch template {} has no version {}", template.id, template.version),
    })?;
    // An image on a reference nobody resolved yet is an override's own, and stands above the template's.
    let own = template.image.clone().filter(|_| template.resolved.is_none());
    Ok(TemplateRef {
        id: found.id.clone(),
        version: template.version.clone(),
        resolved: Some(found.number.to_string().into()),
        image: own.or_else(|| found.image.clone()),
    })
}
