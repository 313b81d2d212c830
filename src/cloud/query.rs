//! AWS's query protocol on the SDK's own runtime, for the services whose SDK would cost more than a few calls
//! justify: EC2, by far the largest of all, and Elastic Load Balancing.
//!
//! Requests are form-encoded and signed here; connections, time-outs and the error types are the runtime's, so
//! that failures are judged in one place for all services.
//! (Amazon EC2 API reference, "Query requests"; Elastic Load Balancing API reference, "Making query requests".)

use std::fmt;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use jiff::Timestamp;

use super::aws::call::{Caller, Probe};
use super::aws::credentials::Held;
use super::aws::failure::{Failure, Fault};
use super::signing::SigningTime;
use super::{ErrorKind, Result};
use crate::model::Text;

const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Where a service is, and how requests to it are signed.
#[derive(Debug)]
pub(in crate::cloud) struct Service {
    operation: Operation<Query, String, ErrorMetadata>,
    credentials: Held,
    url: String,
    /// The name in its signatures, `ec2`.
    name: &'static str,
    region: Text,
    time: SigningTime,
}

/// A signed request, ready to go. Its `Debug` leaves the signature and the session token out.
struct Query {
    probe: Probe,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Hands the probe that comes with a query on to the moment of sending.
#[derive(Debug)]
struct Watch;

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if let Some(query) = context.input().downcast_ref::<Query>() {
            cfg.interceptor_state().store_put(query.probe.clone());
        }
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        match cfg.load::<Probe>().cloned() {
            Some(probe) => probe.read_before_transmit(context, components, cfg),
            None => Ok(()),
        }
    }
}

/// A page of an answer.
pub(in crate::cloud) struct Page<T> {
    /// What it holds.
    pub(in crate::cloud) items: Vec<T>,
    /// Where the next one begins.
    pub(in crate::cloud) next: Option<String>,
}

/// What is read from an answer.
pub(in crate::cloud) type Decoded<T> = std::result::Result<T, XmlDecodeError>;
/// The parameters of an action.
pub(in crate::cloud) type Parameters = Vec<(String, String)>;

impl Service {
    /// The service that signs as `name`, at `endpoint`.
    pub(in crate::cloud) fn new(
        name: &'static str,
        endpoint: &str,
        region: &str,
        credentials: Held,
        time: SigningTime,
        http: Option<SharedHttpClient>,
        timeouts: TimeoutConfig,
    ) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let mut builder = Operation::builder()
            .service_name(name)
            .operation_name("Query")
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .no_auth()
            .no_retry()
            .with_connection_poisoning()
            .interceptor(Watch)
            .timeout_config(timeouts);
        if let Some(http) = http {
            builder = builder.http_client(http);
        }
        let operation = builder.serializer(serialize).deserializer(deserialize).build();
        Self { operation, credentials, url: format!("{endpoint}/"), name, region: region.into(), time }
    }

    /// Every page of an action, named as IAM does, in a version of the service's API.
    pub(in crate::cloud) async fn all<T>(
        &self,
        caller: &Caller,
        operation: &'static str,
        version: &str,
        mut parameters: Parameters,
        read: fn(&str) -> Decoded<Page<T>>,
    ) -> Result<Vec<T>> {
        let action = operation.rsplit(':').next().unwrap_or(operation);
        parameters.extend([("Action".into(), action.into()), ("Version".into(), version.into())]);
        let first = parameters.len();
        let mut items = Vec::new();
        loop {
            let body = encode(&parameters);
            let page: Page<T> = caller
                .repeatable(operation, async |probe| {
                    let now = self.time.now();
                    let credentials =
                        self.credentials.get(now).await.map_err(|error| Failure::credentials(operation, &error))?;
                    let query = self.sign(probe.clone(), &credentials, now, body.clone()).map_err(|cause| Failure {
                        fault: Fault::Final(ErrorKind::Other),
                        action: operation.into(),
                        message: format!("failed to sign the request: {cause}"),
                        reached: false,
                    })?;
                    let answer = self.operation.invoke(query).await.map_err(|error| {
                        let failure = probe.judge(&error);
                        if failure.fault == Fault::Final(ErrorKind::Credentials) {
                            self.credentials.forget();
                        }
                        failure
                    })?;
                    complete(&answer, action).and_then(read).map_err(|cause| Failure {
                        fault: Fault::Garbled,
                        action: operation.into(),
                        message: format!("failed to read the answer: {cause}"),
                        reached: true,
                    })
                })
                .await?;
            items.extend(page.items);
            let Some(next) = page.next else { return Ok(items) };
            parameters.truncate(first);
            parameters.push(("NextToken".into(), next));
        }
    }

    fn sign(
        &self,
        probe: Probe,
        credentials: &Credentials,
        now: Timestamp,
        body: String,
    ) -> std::result::Result<Query, BoxError> {
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.name)
            .time(now.into())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let content_type = [("content-type", CONTENT_TYPE)];
        let signable = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", self.url.as_str(), content_type.into_iter(), signable)?;
        let (headers, _) = sign(request, &params)?.into_parts().0.into_parts();
        let headers = headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect();
        Ok(Query { probe, body, headers })
    }
}

fn serialize(query: Query) -> std::result::Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(query.body));
    request.set_method("POST")?;
    request.set_uri("/")?;
    request.headers_mut().try_insert("content-type", CONTENT_TYPE)?;
    request.headers_mut().try_insert("user-agent", concat!("fastnode/", env!("CARGO_PKG_VERSION")))?;
    for (name, value) in query.headers {
        request.headers_mut().try_insert(name, value)?;
    }
    Ok(request)
}

fn deserialize(response: &HttpResponse) -> std::result::Result<String, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let body = std::str::from_utf8(body).map_err(|cause| OrchestratorError::response(cause.into()))?;
    if response.status().is_success() {
        Ok(body.to_owned())
    } else {
        Err(OrchestratorError::operation(read_error(body)))
    }
}

/// `application/x-www-form-urlencoded`, with everything outside RFC 3986's unreserved characters escaped.
fn encode(parameters: &[(String, String)]) -> String {
    fn push(out: &mut String, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    let mut out = String::new();
    for (key, value) in parameters {
        if !out.is_empty() {
            out.push('&');
        }
        push(&mut out, key);
        out.push('=');
        push(&mut out, value);
    }
    out
}

/// The decoder takes a document that breaks off for one that ends, so the end is checked first.
fn complete<'a>(body: &'a str, action: &str) -> Decoded<&'a str> {
    if body.trim_end().ends_with(&format!("</{action}Response>")) {
        Ok(body)
    } else {
        Err(XmlDecodeError::custom(format!("it is not a whole {action}Response")))
    }
}

/// Goes through the children of a tag.
pub(in crate::cloud) fn children<'inp>(
    mut scope: ScopedDecoder<'inp, '_>,
    mut each: impl FnMut(&str, ScopedDecoder<'inp, '_>) -> Decoded<()>,
) -> Decoded<()> {
    while let Some(tag) = scope.next_tag() {
        let name = tag.start_el().local().to_owned();
        each(&name, tag)?;
    }
    Ok(())
}

/// The text of a tag; `None` where it is empty.
pub(in crate::cloud) fn text(mut tag: ScopedDecoder<'_, '_>) -> Decoded<Option<String>> {
    let text = try_data(&mut tag)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

/// The code and message of an error answer; of one that is no XML (a proxy's page), its beginning.
fn read_error(body: &str) -> ErrorMetadata {
    let (mut code, mut message) = (None, None);
    let mut document = Document::new(body);
    // An answer that cannot be read to its end still gives what came before.
    let _ = document.root_element().and_then(|root| {
        let mut read = |error: ScopedDecoder<'_, '_>| {
            children(error, |name, tag| {
                match name {
                    "Code" => code = text(tag)?,
                    "Message" => message = text(tag)?,
                    _ => {}
                }
                Ok(())
            })
        };
        children(root, |name, tag| match name {
            // EC2 has a list of errors, the others one.
            "Errors" => children(tag, |_, error| read(error)),
            "Error" => read(tag),
            _ => Ok(()),
        })
    });
    if code.is_none() && message.is_none() && !body.trim().is_empty() {
        message = Some(body.trim().chars().take(200).collect());
    }
    let mut metadata = ErrorMetadata::builder();
    if let Some(code) = code {
        metadata = metadata.code(code);
    }
    if let Some(message) = message {
        metadata = metadata.message(message);
    }
    metadata.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped() {
        let parameters = [("Filter.1.Name".to_owned(), "a b&c=$Latest/é".to_owned())];
        assert_eq!(encode(&parameters), "Filter.1.Name=a%20b%26c%3D%24Latest%2F%C3%A9");
    }

    #[test]
    fn errors_are_read_from_xml_and_quoted_from_anything_else() {
        let error = read_error(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>UnauthorizedOperation</Code>\
             <Message>You are not authorized &amp; so on</Message></Error></Errors><RequestID>1</RequestID></Response>",
        );
        assert_eq!(
            (error.code(), error.message()),
            (Some("UnauthorizedOperation"), Some("You are not authorized & so on"))
        );
        let error = read_error(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
        );
        assert_eq!((error.code(), error.message()), (Some("AccessDenied"), Some("no")));
        let error = read_error("upstream connect error");
        assert_eq!((error.code(), error.message()), (None, Some("upstream connect error")));
        let error = read_error("");
        assert_eq!((error.code(), error.message()), (None, None));
    }

    #[test]
    fn an_answer_that_breaks_off_is_not_taken_for_a_short_one() {
        let whole = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>\n";
        assert!(complete(whole, "DescribeInstances").is_ok());
        assert!(complete(&whole[..40], "DescribeInstances").is_err());
        assert!(complete("<html></html>", "DescribeInstances").is_err());
    }
}
