//! What a startup taint needs of the bootstrap of new nodes, which is the user's: the very text for each kind. Pure.
//!
//! A Node carries the taint from its registration on; the driver takes it off when it is ready there. fastnode changes
//! no launch template: whoever keeps it as code would find it changed.

use serde::Serialize;

use super::catalogue::{Patch, Remedial};
use super::render;

/// A piece of configuration that the user has to add somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// Where it goes.
    pub place: &'static str,
    /// The text itself.
    pub text: String,
}

/// What to add, for each kind of bootstrap there is; nothing for a fix that needs none of it.
pub fn snippets(remedial: &Remedial) -> Vec<Snippet> {
    let Patch::StartupTaint { effect, .. } = &remedial.fix.patch else { return Vec::new() };
    let Ok(key) = render::startup_taint(remedial) else { return Vec::new() };
    let flag = format!("--register-with-taints={key}=true:{effect}");
    // EKS spells effects in capitals.
    let spelt = if effect == "NoExecute" { "NO_EXECUTE" } else { "NO_SCHEDULE" };
    let snippet = |place, text: String| Snippet { place, text };
    vec![
        snippet(
            "Amazon Linux 2023: the NodeConfig in the launch template's user data",
            format!(
                "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n    flags:\n      - {flag}\n"
            ),
        ),
        snippet(
            "Bottlerocket: the settings in the launch template's user data",
            format!("[settings.kubernetes.node-taints]\n\"{key}\" = [\"true:{effect}\"]\n"),
        ),
        snippet(
            "Amazon Linux 2: the call of bootstrap.sh in the launch template's user data",
            format!("/etc/eks/bootstrap.sh CLUSTER --kubelet-extra-args '{flag}'\n"),
        ),
        snippet(
            "an EKS managed node group: its taints",
            format!("{{\"key\": \"{key}\", \"value\": \"true\", \"effect\": \"{spelt}\"}}\n"),
        ),
    ]
}

/// What fastnode does of a startup taint, and what is left to do.
pub fn words(remedial: &Remedial) -> String {
    let Patch::StartupTaint { effect, .. } = &remedial.fix.patch else { return "nothing is left to change".to_owned() };
    match render::startup_taint(remedial) {
        Ok(key) => format!(
            "{} takes {key}:{effect} off a node itself, once it is ready there; what puts it on is the bootstrap of new \
             nodes, which fastnode does not change: add it to the launch template, beside taints that are there, and \
             rotate",
            remedial.daemonset
        ),
        Err(why) => why,
    }
}
