//! Errors as a person gets them: once, with what helps, and with an exit code.

use std::error::Error as _;
use std::fmt::Write;

use super::exit::Exit;
use crate::config::ConfigError;
use crate::report::text::Paint;
use crate::{cloud, cluster, controller, fixes};

/// Why the program ends without having done what was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, with its causes.
    pub message: String,
    /// More of the same, one a line.
    pub details: Vec<String>,
    /// What helps.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What is printed on standard error.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = format!("{} {}\n", paint.red(&paint.bold("error:")), self.message);
        for detail in &self.details {
            let _ = writeln!(out, "  - {detail}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{} {hint}", paint.cyan(&paint.bold("hint:")));
        }
        out
    }
}

/// An error and its causes in one line; a cause that its effect has told already is left out.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let mut message = error.to_string();
        if let Some(cause) = error.source() {
            let _ = write!(message, ": {cause}");
        }
        Self::new(Exit::Usage, message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Unexpected, chain(&error))
    }
}

impl From<cloud::Error> for Failure {
    fn from(error: cloud::Error) -> Self {
        use cloud::ErrorKind;
        let unknown_cluster = error.kind == ErrorKind::NotFound && &*error.operation == "eks:DescribeCluster";
        let exit = if unknown_cluster { Exit::Refused } else { Exit::Access };
        let hint = match error.kind {
            _ if unknown_cluster => Some(
                "check --cluster, --region and --profile: the cluster is looked up in that account and region"
                    .to_owned(),
            ),
            // The message itself says what helps: it depends on which of the many ways to them failed.
            ErrorKind::Credentials => None,
            ErrorKind::Denied => Some(format!(
                "allow {} to this identity; config/deploy/iam-policy.json is the whole policy",
                error.operation
            )),
            ErrorKind::Unavailable => {
                Some("is there a way to the AWS API from here (proxy, VPC endpoint, AWS_ENDPOINT_URL)?".to_owned())
            }
            ErrorKind::Throttled => {
                Some("something else uses up the account's request rate; try again later".to_owned())
            }
            _ => None,
        };
        Self { exit, message: chain(&error), details: Vec::new(), hint }
    }
}

impl From<cluster::Error> for Failure {
    fn from(error: cluster::Error) -> Self {
        use cluster::ErrorKind;
        let hint = match error.kind {
            ErrorKind::Unauthorized => Some(
                "the API server does not know this identity: give it an EKS access entry, or name a --kubeconfig"
                    .to_owned(),
            ),
            ErrorKind::Forbidden => {
                Some(format!("allow this identity to {}; config/deploy/rbac.yaml is the whole role", error.verb))
            }
            ErrorKind::Unavailable => Some(
                "is there a way to the API server from here? A private endpoint is reached from its VPC only"
                    .to_owned(),
            ),
            ErrorKind::Certificate => Some(
                "something between here and the API server answers in its place, or the CA is another cluster's"
                    .to_owned(),
            ),
            _ => None,
        };
        Self { exit: Exit::Access, message: chain(&error), details: Vec::new(), hint }
    }
}

impl From<fixes::Error> for Failure {
    fn from(error: fixes::Error) -> Self {
        use fixes::Error;
        let message = chain(&error);
        match error {
            Error::Catalogue(_) => Self::new(Exit::Usage, message)
                .hint("fastnode fix --list shows those there are, config/fixes/ their form"),
            Error::Cloud(error) if error.kind == cloud::ErrorKind::Denied => Self::from(error)
                .hint("config/deploy/iam-policy-fix.json is what fixes need beyond a rotation's policy"),
            Error::Cluster(error) if error.kind == cluster::ErrorKind::Forbidden => {
                Self::from(error).hint("config/deploy/rbac-fix.yaml is what fixes need beyond a rotation's role")
            }
            Error::Cloud(error) => error.into(),
            Error::Cluster(error) => error.into(),
            Error::Refused { .. } => Self::new(Exit::Refused, message),
            Error::NoWaiter { .. } => Self::new(Exit::Usage, message)
                .hint("name an image that holds fastnode, as its Containerfile builds it: --waiter-image IMAGE"),
            Error::Addon { .. } => Self::new(Exit::Stopped, message),
        }
    }
}

impl From<controller::Error> for Failure {
    fn from(error: controller::Error) -> Self {
        use controller::Error;
        let message = chain(&error);
        match error {
            Error::Cloud(error) => error.into(),
            Error::Cluster(error) => error.into(),
            Error::NotAllowed(missing) => Self {
                exit: Exit::Access,
                message: "failed to start: this identity may not do all that a rotation does".to_owned(),
                details: missing,
                hint: Some("config/deploy/rbac.yaml is the whole role".to_owned()),
            },
            Error::Preflight(preflight) => {
                let faults: Vec<String> = preflight.faults.iter().map(ToString::to_string).collect();
                match faults.as_slice() {
                    [_] => Self::new(Exit::Refused, message),
                    _ => Self { details: faults, ..Self::new(Exit::Refused, "refused before anything was changed") },
                }
            }
            Error::Declined => Self::new(Exit::Refused, message),
            Error::Locked { .. } => Self::new(Exit::Locked, message)
                .hint("fastnode status shows it; a lock whose holder died is free after 15 s"),
            Error::Invariant(_) => Self::new(Exit::Stopped, message).hint(
                "this is a bug in fastnode; nothing was done after it was noticed, and the next run goes on from here",
            ),
            Error::Stuck { .. } => Self::new(Exit::Stopped, message)
                .hint("mend what it says and run it again: it goes on from what it finds"),
            Error::OwnNode { .. } | Error::OnOwnNode { .. } => {
                Self::new(Exit::Incomplete, message).hint("run it again on another node: it goes on from what it finds")
            }
            Error::Interrupted(signal) => Self::new(signal.into(), "interrupted: nothing was changed"),
        }
    }
}
