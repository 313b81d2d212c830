//! A transport that records requests and answers from a script.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use fastnode::clock::Clock;
use fastnode::cloud::aws::AwsCloud;

/// What the transport does with a request.
pub enum Reply {
    /// An answer.
    Http(u16, String),
    /// An answer with the service's time on it.
    Dated(&'static str, u16, String),
    /// The connection breaks after the request went out.
    Dropped,
    /// No connection comes about.
    Refused,
    /// Connected, and then nothing.
    Silent,
}

/// A request as it went out.
#[derive(Clone, Debug)]
pub struct Sent {
    pub uri: String,
    pub headers: BTreeMap<String, String>,
    pub form: BTreeMap<String, String>,
    pub body: String,
}

impl Sent {
    /// A parameter of the form; empty where it is missing.
    pub fn get(&self, key: &str) -> &str {
        self.form.get(key).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Script {
    replies: VecDeque<Reply>,
    sent: Vec<Sent>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Script>>);

impl Wire {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let script = Script { replies: replies.into_iter().collect(), sent: Vec::new() };
        Self(Arc::new(Mutex::new(script)))
    }

    /// The requests so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.lock().unwrap().sent.clone()
    }

    /// Replies nobody asked for.
    pub fn left(&self) -> usize {
        self.0.lock().unwrap().replies.len()
    }

    /// The adapter, speaking to this transport.
    pub fn cloud(&self) -> AwsCloud {
        AwsCloud::from_config(&self.config(credentials()), clock()).unwrap()
    }

    pub fn config(&self, provider: SharedCredentialsProvider) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-west-2"))
            .credentials_provider(provider)
            .http_client(self.clone())
            .build()
    }
}

pub fn credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        None,
        None,
        "test",
    ))
}

pub fn clock() -> Clock {
    Clock::starting_at("2026-11-20T10:11:12Z".parse().unwrap())
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut script = self.0.lock().unwrap();
        let body = std::str::from_utf8(request.body().bytes().unwrap()).unwrap();
        script.sent.push(Sent {
            uri: request.uri().to_owned(),
            headers: request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            form: form(body),
            body: body.to_owned(),
        });
        let reply = script.replies.pop_front().expect("a request the test does not expect");
        if !matches!(reply, Reply::Refused) {
            let place = request.extension::<CaptureSmithyConnection>().expect("a place to note the connection");
            place.set_connection_retriever(|| {
                Some(ConnectionMetadata::builder().proxied(false).poison_fn(|| {}).build())
            });
        }
        match reply {
            Reply::Http(status, body) => {
                HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
            }
            Reply::Dated(date, status, body) => {
                let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
                answer.headers_mut().insert("date", date);
                HttpConnectorFuture::ready(Ok(answer))
            }
            Reply::Dropped => broken(io::ErrorKind::ConnectionReset),
            Reply::Refused => broken(io::ErrorKind::ConnectionRefused),
            Reply::Silent => HttpConnectorFuture::new(std::future::pending()),
        }
    }
}

fn broken(kind: io::ErrorKind) -> HttpConnectorFuture {
    HttpConnectorFuture::ready(Err(ConnectorError::io(io::Error::from(kind).into())))
}

fn form(body: &str) -> BTreeMap<String, String> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(out).unwrap()
}
