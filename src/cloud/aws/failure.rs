//! What a failed request means: whether to send it again, and what to tell the caller.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::cloud::{Error, ErrorKind};
use crate::model::Text;

/// How long a request that reached AWS is sent again, from its first sending to the start of its last.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where nothing answers at all: a wrong endpoint should not look like a hang.
const PATIENCE_UNREACHED: Duration = Duration::from_secs(10);

/// The remedy for a refused date.
const CLOCK: &str = "this machine's clock is off by more than AWS tolerates, set it, for example with NTP";

/// Why a request failed, as far as sending it again depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cloud) enum Fault {
    /// Rejected for its rate; it had no effect.
    Throttled,
    /// Rejected because another update of the same resource is pending; it had no effect.
    Contention,
    /// A 5xx, a time-out, a dropped connection.
    Transient,
    /// An answer came, but could not be read.
    Garbled,
    /// The credentials provider did not answer in time.
    SlowCredentials,
    /// The signature's date was refused; it had no effect.
    Skewed,
    /// An answer that another attempt would not change.
    Final(ErrorKind),
}

/// A failed request.
#[derive(Debug)]
pub(in crate::cloud) struct Failure {
    /// Why.
    pub(in crate::cloud) fault: Fault,
    /// The IAM action concerned.
    pub(in crate::cloud) action: Text,
    /// The service's code and message, or the transport's.
    pub(in crate::cloud) message: String,
    /// Whether the request may have reached the service.
    pub(in crate::cloud) reached: bool,
}

impl Failure {
    /// Judges the SDK's error of `operation` (`autoscaling:SetDesiredCapacity`).
    pub(in crate::cloud) fn judge<E>(operation: &str, error: &SdkError<E, HttpResponse>, reached: bool) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let local = |fault, message| Self { fault, action: operation.into(), message, reached };
        if let Some(failure) = cause::<CredentialsError>(error).map(|e| Self::credentials(operation, e)) {
            return failure;
        }
        match error {
            // The SDK calls a success it cannot read an error of the service.
            SdkError::ServiceError(answer) if answer.raw().status().as_u16() < 400 => local(
                Fault::Garbled,
                format!("failed to read the answer (HTTP status {})", answer.raw().status().as_u16()),
            ),
            SdkError::ServiceError(answer) => {
                let metadata = answer.err().meta();
                Self::service(operation, answer.raw().status().as_u16(), metadata.code(), metadata.message())
            }
            SdkError::ResponseError(_) => local(Fault::Garbled, format!("failed to read the answer: {}", chain(error))),
            SdkError::TimeoutError(_) => local(Fault::Transient, "no answer in time".into()),
            SdkError::DispatchFailure(failure) => {
                let known = failure.is_io() || failure.is_timeout() || failure.as_other().is_some();
                let fault = if known || reached { Fault::Transient } else { Fault::Final(ErrorKind::Other) };
                local(fault, chain(error))
            }
            _ => local(Fault::Final(ErrorKind::Other), chain(error)),
        }
    }

    /// Judges a failure to get credentials; nothing was sent.
    pub(in crate::cloud) fn credentials(operation: &str, error: &CredentialsError) -> Self {
        let (fault, message) = match error {
            CredentialsError::CredentialsNotLoaded(_) => (
                Fault::Final(ErrorKind::Credentials),
                format!(
                    "no AWS credentials found ({}): set AWS_PROFILE or --profile to one that has them, set \
                     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in with `aws sso login`, or run where an IAM role \
                     is attached",
                    error.source().map_or_else(|| "no provider has any".into(), chain)
                ),
            ),
            CredentialsError::ProviderTimedOut(_) => (
                Fault::SlowCredentials,
                format!(
                    "no AWS credentials in time ({}): check that the credentials provider can be reached, or set \
                     AWS_PROFILE",
                    chain(error)
                ),
            ),
            CredentialsError::InvalidConfiguration(_) => (
                Fault::Final(ErrorKind::Credentials),
                format!(
                    "failed to load AWS credentials: {}: correct ~/.aws/config or name another --profile",
                    chain(error)
                ),
            ),
            _ => (
                Fault::Final(ErrorKind::Credentials),
                format!(
                    "failed to load AWS credentials: {}: log in again with `aws sso login`, or get new ones",
                    chain(error)
                ),
            ),
        };
        Self { fault, action: operation.into(), message, reached: false }
    }

    /// Judges an error answer by its HTTP status, code and message.
    pub(in crate::cloud) fn service(operation: &str, status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        let code = code.map(bare);
        let said = match (code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, Some(message)) => format!("HTTP status {status}: {message}"),
            (None, None) => format!("HTTP status {status}"),
        };
        let fault = match is_skewed(code.unwrap_or_default(), message.unwrap_or_default()) {
            true => Fault::Skewed,
            false => fault(status, code, message.unwrap_or_default()),
        };
        let mut action = Text::from(operation);
        let message = match fault {
            Fault::Final(ErrorKind::Credentials) | Fault::Skewed => {
                format!("{said}: {}", remedy(code.unwrap_or_default(), message.unwrap_or_default()))
            }
            Fault::Final(ErrorKind::Denied) => {
                if let Some(named) = message.and_then(denied_action) {
                    action = named.into();
                }
                format!("{said}: allow {action} for this identity in IAM")
            }
            _ => said,
        };
        Self { fault, action, message, reached: true }
    }

    /// The same failure where the answer's own time does not differ from ours: another attempt is no better.
    pub(in crate::cloud) fn uncorrected(self) -> Self {
        Self { fault: Fault::Final(ErrorKind::Credentials), ..self }
    }

    /// How long after its first sending an idempotent request may be sent again; `None`: not at all.
    pub(in crate::cloud) fn patience(&self) -> Option<Duration> {
        match self.fault {
            Fault::Final(_) => None,
            Fault::SlowCredentials => Some(PATIENCE_UNREACHED),
            _ => Some(if self.reached { PATIENCE } else { PATIENCE_UNREACHED }),
        }
    }

    /// The same for a request that must take effect at most once: only if it was thrown out for its rate or
    /// its date.
    pub(in crate::cloud) fn patience_once(&self) -> Option<Duration> {
        matches!(self.fault, Fault::Throttled | Fault::Skewed).then_some(PATIENCE)
    }

    /// The error of an idempotent request.
    pub(in crate::cloud) fn into_error(self) -> Error {
        let kind = match self.fault {
            Fault::Throttled => ErrorKind::Throttled,
            Fault::Contention => ErrorKind::Busy,
            Fault::Transient | Fault::Garbled => ErrorKind::Unavailable,
            Fault::SlowCredentials | Fault::Skewed => ErrorKind::Credentials,
            Fault::Final(kind) => kind,
        };
        Error { kind, operation: self.action, message: self.message }
    }

    /// The error of a request that must take effect at most once: where it may have reached the service
    /// and no clear answer came, the outcome is not known.
    pub(in crate::cloud) fn into_error_once(self) -> Error {
        let unknown = self.reached && matches!(self.fault, Fault::Transient | Fault::Garbled);
        let error = self.into_error();
        if unknown { Error { kind: ErrorKind::UnknownOutcome, ..error } } else { error }
    }
}

/// A code without the prefixes some services put before it (`Client.UnauthorizedOperation`).
fn bare(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code)
}

/// Codes from the EC2, EC2 Auto Scaling and EKS API references' lists of common errors.
fn fault(status: u16, code: Option<&str>, message: &str) -> Fault {
    use ErrorKind::{Busy, Credentials, Denied, NotFound, Other, Refused};
    match code.unwrap_or_default() {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "EC2ThrottledException"
        | "BandwidthLimitExceeded"
        | "SlowDown" => Fault::Throttled,
        "ResourceContention" | "ResourceContentionFault" => Fault::Contention,
        "ScalingActivityInProgress"
        | "ScalingActivityInProgressFault"
        | "ResourceInUse"
        | "ResourceInUseFault"
        | "InstanceRefreshInProgress" => Fault::Final(Busy),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "OptInRequired" => Fault::Final(Credentials),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "UnauthorizedAccess" | "NotAuthorized" => {
            Fault::Final(Denied)
        }
        "ResourceNotFoundException" | "NoSuchEntity" => Fault::Final(NotFound),
        "ValidationError" | "ValidationException" => validation(message),
        "LimitExceeded" | "LimitExceededFault" => Fault::Final(Refused),
        code if code.contains("NotFound") => Fault::Final(NotFound),
        _ => match status {
            429 => Fault::Throttled,
            401 => Fault::Final(Credentials),
            403 => Fault::Final(Denied),
            500.. => Fault::Transient,
            _ => Fault::Final(Other),
        },
    }
}

/// `ValidationError` is one code for many things; the message tells which.
fn validation(message: &str) -> Fault {
    const LIMITS: [&str; 5] = [
        "above max value",
        "below min value",
        "violate group's min size",
        "desiredSize equals minSize",
        "is not in InService",
    ];
    let lower = message.to_ascii_lowercase();
    let kind = if lower.contains("not found") || lower.contains("does not exist") {
        ErrorKind::NotFound
    } else if LIMITS.iter().any(|limit| message.contains(limit)) {
        ErrorKind::Refused
    } else {
        ErrorKind::Other
    };
    Fault::Final(kind)
}

/// Whether a signature was refused for its date. `RequestExpired` can mean expired credentials as well; the
/// answer's own time tells. (Amazon EC2 API reference, error codes; IAM user guide, "Troubleshooting signed
/// requests".)
fn is_skewed(code: &str, message: &str) -> bool {
    matches!(code, "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture")
        || message.contains("Signature expired")
        || message.contains("Signature not yet current")
}

/// What to do about refused credentials.
fn remedy(code: &str, message: &str) -> &'static str {
    match code {
        "RequestTimeTooSkewed" | "RequestInTheFuture" => CLOCK,
        _ if message.contains("Signature expired") || message.contains("Signature not yet current") => CLOCK,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "the AWS credentials have expired, get new ones, for example with `aws sso login`"
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" => {
            "check AWS_SECRET_ACCESS_KEY, and that this machine's clock is right"
        }
        "OptInRequired" => "the account is not subscribed to this service, or the region is not enabled for it",
        _ => {
            "AWS does not accept these credentials, check AWS_PROFILE or AWS_ACCESS_KEY_ID, and that the region is enabled for the account"
        }
    }
}

/// The action in `… is not authorized to perform: autoscaling:SetDesiredCapacity on resource: …`; it can be
/// another one than the operation's own.
fn denied_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '-')).unwrap_or(rest.len());
    let action = &rest[..end];
    action.split_once(':').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty()).then_some(action)
}

/// The first error of type `T` among `error` and its causes.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |e| (*e).source()).find_map(|e| e.downcast_ref::<T>())
}

/// The causes of `error` in one line, without the transport's generic labels and without repetition.
fn chain(error: &(dyn StdError + 'static)) -> String {
    const LABELS: [&str; 4] = ["dispatch failure", "io error", "other", "response error"];
    let mut text = String::new();
    for part in std::iter::successors(Some(error), |e| (*e).source()) {
        // The credentials chain lists what it tried on lines of their own.
        let part = part.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let part = part.replace("the credential provider was not enabled: ", "").replace(":; ", ": ");
        if part.is_empty() || LABELS.contains(&part.as_str()) || text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: &str, message: &str) -> ErrorKind {
        Failure::service("autoscaling:X", status, Some(code), Some(message)).into_error().kind
    }

    #[test]
    fn validation_errors_are_told_apart_by_their_message() {
        for (message, expected) in [
            ("New SetDesiredCapacity value 3 is above max value 2 for the AutoScalingGroup.", ErrorKind::Refused),
            ("New SetDesiredCapacity value 1 is below min value 2 for the AutoScalingGroup.", ErrorKind::Refused),
            (
                "Currently, desiredSize equals minSize (3). Terminating instance without replacement will violate \
                 group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower \
                 group's min size.",
                ErrorKind::Refused,
            ),
            ("Instance Id not found - No managed instance found for instance ID i-0ab", ErrorKind::NotFound),
            ("AutoScalingGroup name not found - AutoScalingGroup 'x' not found", ErrorKind::NotFound),
            ("1 validation error detected: Value '-1' at 'maxSize' failed to satisfy constraint", ErrorKind::Other),
        ] {
            assert_eq!(kind(400, "ValidationError", message), expected, "{message}");
        }
    }

    #[test]
    fn throttling_is_known_by_its_code_whatever_the_status() {
        assert_eq!(kind(400, "Throttling", "Rate exceeded"), ErrorKind::Throttled);
        assert_eq!(kind(503, "RequestLimitExceeded", "Request limit exceeded."), ErrorKind::Throttled);
        assert_eq!(kind(429, "TooManyRequestsException", ""), ErrorKind::Throttled);
        assert_eq!(kind(400, "ScalingActivityInProgress", "activity x is in progress"), ErrorKind::Busy);
        assert_eq!(kind(500, "ResourceContention", "pending update"), ErrorKind::Busy);
        assert_eq!(kind(400, "ResourceContention", "pending update"), ErrorKind::Busy);
        assert_eq!(kind(503, "ServiceUnavailable", ""), ErrorKind::Unavailable);
        assert_eq!(kind(400, "InvalidLaunchTemplateId.NotFound", "lt-1"), ErrorKind::NotFound);
    }

    #[test]
    fn a_denial_names_the_action_the_service_names() {
        let denied = |message| {
            Failure::service("ec2:DescribeLaunchTemplateVersions", 403, Some("UnauthorizedOperation"), Some(message))
                .into_error()
        };
        let error = denied(
            "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/r/s is not authorized \
             to perform: ssm:GetParameters on resource: arn:aws:ssm:us-west-2::parameter/x because no identity-based \
             policy allows the ssm:GetParameters action",
        );
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(&*error.operation, "ssm:GetParameters");
        assert!(error.to_string().contains("allow ssm:GetParameters"), "{error}");
        assert_eq!(
            &*denied("You are not authorized to perform this operation.").operation,
            "ec2:DescribeLaunchTemplateVersions"
        );
    }

    #[test]
    fn only_a_request_that_reached_the_service_has_an_unknown_outcome() {
        let failure = |fault, reached| Failure { fault, action: "a:B".into(), message: String::new(), reached };
        assert_eq!(failure(Fault::Transient, true).into_error_once().kind, ErrorKind::UnknownOutcome);
        assert_eq!(failure(Fault::Garbled, true).into_error_once().kind, ErrorKind::UnknownOutcome);
        assert_eq!(failure(Fault::Transient, false).into_error_once().kind, ErrorKind::Unavailable);
        assert_eq!(failure(Fault::Throttled, true).into_error_once().kind, ErrorKind::Throttled);
        assert!(failure(Fault::Throttled, true).patience_once().is_some());
        assert!(failure(Fault::Transient, true).patience_once().is_none());
        assert!(failure(Fault::Transient, false).patience_once().is_none());
        assert!(failure(Fault::Contention, true).patience_once().is_none());
    }
}
