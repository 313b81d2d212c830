//! What a failed request means: the API server's Status, or a connection that gave none.
//!
//! The eviction's answers are those of `pkg/registry/core/pod/storage/eviction.go` in Kubernetes.

use std::error::Error as StdError;

use ::kube::core::Status;

use crate::cluster::{Error, ErrorKind};

/// RBAC's words for an eviction; only there do budgets answer.
pub(super) const EVICT: &str = "create pods/eviction";

/// A failed request, with the HTTP code where there was one.
#[derive(Debug)]
pub(super) struct Fault {
    /// As the port reports it.
    pub(super) error: Error,
    /// The Status's code; 0 where no answer came.
    pub(super) code: u16,
}

impl Fault {
    /// Whether a list or watch has to start over: its `resourceVersion` or page token is too old.
    pub(super) fn is_expired(&self) -> bool {
        self.code == 410
    }

    /// Whether the same request may well succeed in a moment.
    pub(super) fn is_passing(&self) -> bool {
        self.error.is_passing()
    }

    /// A fault in words of our own.
    pub(super) fn new(kind: ErrorKind, verb: &str, message: String) -> Self {
        Self { error: Error { kind, verb: verb.into(), message, retry_after: None }, code: 0 }
    }

    /// The fault of an answer that is no success; `body` is a Status, or whatever a proxy wrote.
    pub(super) fn from_answer(verb: &str, code: u16, retry_after: Option<u32>, body: &[u8]) -> Self {
        let status = match serde_json::from_slice::<Status>(body) {
            Ok(status) if !status.message.is_empty() || status.code != 0 => status,
            _ => Status::failure(String::from_utf8_lossy(body).trim(), ""),
        };
        Self::from_status(verb, code, retry_after, &status)
    }

    /// The fault a Status tells of; `code` is the HTTP answer's.
    pub(super) fn from_status(verb: &str, code: u16, retry_after: Option<u32>, status: &Status) -> Self {
        let retry_after = status
            .details
            .as_ref()
            .map(|d| d.retry_after_seconds)
            .filter(|s| *s > 0)
            .or(retry_after)
            .filter(|s| *s > 0);
        let kind = kind(verb, code, retry_after, status);
        Self { error: Error { kind, verb: verb.into(), message: message(code, status), retry_after }, code }
    }

    /// The fault of a request that got no answer, or not all of it; `host` is where it was sent.
    pub(super) fn from_transport(verb: &str, host: &str, error: &(dyn StdError + 'static)) -> Self {
        let mut innermost = None;
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(::kube::Error::Api(status)) = cause.downcast_ref() {
                return Self::from_status(verb, status.code, None, status);
            }
            if let Some(auth) = cause.downcast_ref::<::kube::client::AuthError>() {
                return Self::new(ErrorKind::Unauthorized, verb, format!("no credentials for {host}: {auth}"));
            }
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return Self::from_tls(verb, host, tls);
            }
            let io = cause.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
                innermost = Some("the connection was closed".into());
                break;
            }
            // An `io::Error` hides what it wraps from `source`.
            if let Some(inner) = io.and_then(std::io::Error::get_ref) {
                innermost = Some(inner.to_string());
                next = Some(inner);
                continue;
            }
            innermost = Some(cause.to_string());
            next = cause.source();
        }
        let why = innermost.unwrap_or_else(|| "no answer".into());
        Self::new(ErrorKind::Unavailable, verb, format!("cannot reach {host}: {why}"))
    }

    fn from_tls(verb: &str, host: &str, tls: &rustls::Error) -> Self {
        match tls {
            rustls::Error::InvalidCertificate(why) => Self::new(
                ErrorKind::Certificate,
                verb,
                format!(
                    "the certificate of {host} is not one the given CA vouches for ({why:?}); check the CA and the address"
                ),
            ),
            other => Self::new(ErrorKind::Unavailable, verb, format!("no TLS connection to {host}: {other}")),
        }
    }
}

fn kind(verb: &str, code: u16, retry_after: Option<u32>, status: &Status) -> ErrorKind {
    let has_cause =
        |reason: &str| status.details.as_ref().is_some_and(|d| d.causes.iter().any(|cause| cause.reason == reason));
    match code {
        401 => ErrorKind::Unauthorized,
        403 if has_cause("NamespaceTerminating") => ErrorKind::NamespaceTerminating,
        // RBAC's refusal of an eviction is about `pods`; a budget's is about itself.
        403 if verb == EVICT && status.details.as_ref().is_some_and(|d| d.kind.starts_with("poddisruptionbudget")) => {
            ErrorKind::BudgetRefused
        }
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        // A patch under another object's UID: `metadata.uid: field is immutable`.
        422 if status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.field == "metadata.uid")) => {
            ErrorKind::Conflict
        }
        422 => ErrorKind::Invalid,
        // Both carry the cause; only the budget not yet observed says when to come back.
        429 if has_cause("DisruptionBudget") && retry_after.is_some() => ErrorKind::BudgetUnobserved,
        429 if has_cause("DisruptionBudget") => ErrorKind::BudgetExhausted,
        429 => ErrorKind::Throttled,
        500 if verb == EVICT && status.message.contains("more than one PodDisruptionBudget") => {
            ErrorKind::SeveralBudgets
        }
        408 | 500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// The server's sentence, and those of its causes that add to it.
fn message(code: u16, status: &Status) -> String {
    let mut message = if status.message.is_empty() { format!("answer {code}") } else { status.message.clone() };
    for cause in status.details.iter().flat_map(|d| &d.causes) {
        if !cause.message.is_empty() && !message.contains(&cause.message) {
            message.push_str(" (");
            message.push_str(&cause.message);
            message.push(')');
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        Fault::from_transport("list nodes", "https://api.test", &::kube::Error::Service(error.into())).error
    }

    #[test]
    fn a_certificate_of_another_ca_is_told_from_a_broken_connection_however_deep_it_is_wrapped() {
        let wrong = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = seen(std::io::Error::other(std::io::Error::other(wrong)));
        assert_eq!(wrapped.kind, ErrorKind::Certificate);
        assert_eq!(
            wrapped.to_string(),
            "failed to list nodes: the certificate of https://api.test is not one the given CA vouches for \
             (UnknownIssuer); check the CA and the address"
        );
        assert_eq!(seen(std::io::Error::other(rustls::Error::HandshakeNotComplete)).kind, ErrorKind::Unavailable);
        let reset = seen(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(
            (reset.kind, &*reset.message),
            (ErrorKind::Unavailable, "cannot reach https://api.test: connection reset")
        );
    }

    #[test]
    fn a_credential_plugin_that_fails_is_no_fault_of_the_server() {
        let error = seen(::kube::client::AuthError::AuthExec("aws: command not found".into()));
        assert_eq!(error.kind, ErrorKind::Unauthorized);
        assert!(error.message.contains("aws: command not found"), "{error}");
    }
}
