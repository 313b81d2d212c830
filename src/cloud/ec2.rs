//! The two EC2 reads fastnode makes, in EC2's query protocol on the SDK's own runtime.
//!
//! The SDK of EC2 is by far the largest of all and would more than double the build; two calls do not
//! justify it. Requests are form-encoded and signed here; connections, time-outs and the error types are
//! the runtime's, so that failures are judged in one place for all services.
//! (Amazon EC2 API reference, "Query requests" and the two actions' pages.)

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
use super::{ErrorKind, InstanceDetail, Result};
use crate::model::{InstanceId, Text};

const API_VERSION: &str = "2016-11-15";
const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
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
pub(in crate::cloud) struct Ec2 {
    operation: Operation<Query, String, ErrorMetadata>,
    credentials: Held,
    url: String,
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
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

type Decoded<T> = std::result::Result<T, XmlDecodeError>;
type Parameters = Vec<(String, String)>;

impl Ec2 {
    /// EC2 at `endpoint`.
    pub(in crate::cloud) fn new(
        endpoint: &str,
        region: &str,
        credentials: Held,
        time: SigningTime,
        http: Option<SharedHttpClient>,
        timeouts: TimeoutConfig,
    ) -> Self {
        let endpoint = endpoint.trim_end_matches('/');
        let mut builder = Operation::builder()
            .service_name("EC2")
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
        Self { operation, credentials, url: format!("{endpoint}/"), region: region.into(), time }
    }

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
        self.all(caller, "ec2:DescribeLaunchTemplateVersions", parameters, read_versions).await
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
            details.extend(self.all(caller, "ec2:DescribeInstances", parameters, read_instances).await?);
        }
        Ok(details)
    }

    /// Every page of an action.
    async fn all<T>(
        &self,
        caller: &Caller,
        operation: &'static str,
        mut parameters: Parameters,
        read: fn(&str) -> Decoded<Page<T>>,
    ) -> Result<Vec<T>> {
        let action = operation.trim_start_matches("ec2:");
        parameters.extend([("Action".into(), action.into()), ("Version".into(), API_VERSION.into())]);
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
            .name("ec2")
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

/// `lt-` and 8 or 17 hexadecimal digits; anything else is a name.
fn is_template_id(template: &str) -> bool {
    template
        .strip_prefix("lt-")
        .is_some_and(|digits| matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
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

fn children<'inp>(
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
fn text(mut tag: ScopedDecoder<'_, '_>) -> Decoded<Option<String>> {
    let text = try_data(&mut tag)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
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
    let mut document = Document::new(body);
    let mut page = Page { items: Vec::new(), next: None };
    children(document.root_element()?, |name, tag| match name {
        "reservationSet" => children(tag, |_, reservation| {
            children(reservation, |name, tag| {
                if name != "instancesSet" {
                    return Ok(());
                }
                children(tag, |_, item| {
                    page.items.push(read_instance(item)?);
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

/// The code and message of an error answer; of one that is no XML (a proxy's page), its beginning.
fn read_error(body: &str) -> ErrorMetadata {
    let (mut code, mut message) = (None, None);
    let mut document = Document::new(body);
    // An answer that cannot be read to its end still gives what came before.
    let _ = document.root_element().and_then(|root| {
        children(root, |name, errors| match name {
            "Errors" => children(errors, |_, error| {
                children(error, |name, tag| {
                    match name {
                        "Code" => code = text(tag)?,
                        "Message" => message = text(tag)?,
                        _ => {}
                    }
                    Ok(())
                })
            }),
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
    fn template_ids_and_names_are_told_apart() {
        assert!(is_template_id("lt-0123456789abcdef0"));
        assert!(is_template_id("lt-01234567"));
        assert!(!is_template_id("lt-workers"));
        assert!(!is_template_id("eks-a1b2"));
    }

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
