//! Ways to a cluster: EKS with AWS credentials alone, a kubeconfig, or the pod's service account.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ::kube::client::ClientBuilder;
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::LocalBoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Error, ErrorKind, Result};
use crate::cloud::EksCluster;
use crate::cloud::token::TokenSource;

/// How long a connection may take to open, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Where the kubelet puts a pod's service account token.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A source of bearer tokens.
pub trait Tokens {
    /// A token that is valid for at least the next minute; `fresh` asks for a new one because the last was
    /// refused. The error says what to do about it.
    fn token(&self, fresh: bool) -> LocalBoxFuture<'_, std::result::Result<String, String>>;
}

impl Tokens for TokenSource {
    fn token(&self, fresh: bool) -> LocalBoxFuture<'_, std::result::Result<String, String>> {
        Box::pin(async move {
            if fresh {
                self.forget().await;
            }
            self.token().await.map_err(|error| error.to_string())
        })
    }
}

/// Which way is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// `eks:DescribeCluster` and a token made from the AWS credentials.
    Eks,
    /// A kubeconfig; `path` `None` is `KUBECONFIG` or `~/.kube/config`.
    Kubeconfig {
        /// The file.
        path: Option<PathBuf>,
        /// The context; `None` is the file's current one.
        context: Option<String>,
    },
    /// The pod's service account.
    InCluster,
}

impl Way {
    /// A kubeconfig or context that is named goes first, then the service account in a pod, else EKS.
    ///
    /// `kubeconfig` and `context` are what the user named in whatever layer, `KUBECONFIG` included.
    pub fn choose(kubeconfig: Option<&Path>, context: Option<&str>, in_pod: bool) -> Self {
        if kubeconfig.is_some() || context.is_some() {
            let path = kubeconfig.map(Path::to_path_buf);
            Self::Kubeconfig { path, context: context.map(str::to_owned) }
        } else if in_pod {
            Self::InCluster
        } else {
            Self::Eks
        }
    }

    /// Whether this process runs in a pod with a service account.
    pub fn in_pod() -> bool {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
            && Path::new(SERVICE_ACCOUNT_TOKEN).exists()
    }
}

/// All that is needed to connect.
pub enum Access {
    /// An EKS cluster as `eks:DescribeCluster` shows it.
    Eks {
        /// Endpoint and CA.
        cluster: EksCluster,
        /// Its tokens.
        tokens: Rc<dyn Tokens>,
    },
    /// A kubeconfig; see [`Way::Kubeconfig`].
    Kubeconfig {
        /// The file.
        path: Option<PathBuf>,
        /// The context.
        context: Option<String>,
    },
    /// The pod's service account.
    InCluster,
}

/// A client for one cluster.
pub struct Connection {
    /// The client. Its own retries are off: a blocked budget must not hide in them.
    pub client: Client,
    /// The API server's URL, for messages.
    pub host: String,
    /// Tokens to send; `None` where the client brings its credentials itself.
    pub tokens: Option<Rc<dyn Tokens>>,
}

impl Access {
    /// Makes a client; sends nothing yet. Must be called inside a tokio runtime.
    ///
    /// An exec plugin of a kubeconfig runs here, synchronously.
    ///
    /// # Errors
    /// A kubeconfig that cannot be read or lacks the context, a CA that is no certificate, a malformed
    /// endpoint, or no service account: each names the file or value.
    pub async fn connect(self) -> Result<Connection> {
        let (mut config, tokens) = match self {
            Self::Eks { cluster, tokens } => (eks(&cluster)?, Some(tokens)),
            Self::Kubeconfig { path, context } => (kubeconfig(path.as_deref(), context).await?, None),
            Self::InCluster => {
                let config =
                    Config::incluster().map_err(|error| failed("use the pod's service account", chain(&error)))?;
                (config, None)
            }
        };
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_LIMIT);
        let host = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = ClientBuilder::try_from(config)
            .map_err(|error| failed("make a client", format!("for {host}: {}", chain(&error))))?
            .build();
        Ok(Connection { client, host, tokens })
    }
}

fn eks(cluster: &EksCluster) -> Result<Config> {
    const VERB: &str = "use the EKS cluster";
    let endpoint = cluster.endpoint.parse().map_err(|error| {
        failed(VERB, format!("the endpoint {:?} of {} is not a URL: {error}", cluster.endpoint, cluster.name))
    })?;
    let certificate = |why: String| Error {
        kind: ErrorKind::Certificate,
        verb: VERB.into(),
        message: format!("the certificate authority of {} is not base64 of PEM certificates: {why}", cluster.name),
        retry_after: None,
    };
    let pem = STANDARD.decode(cluster.ca.trim()).map_err(|error| certificate(error.to_string()))?;
    let roots = CertificateDer::pem_slice_iter(&pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| certificate(error.to_string()))?;
    if roots.is_empty() {
        return Err(certificate("it holds none".into()));
    }
    let mut config = Config::new(endpoint);
    config.root_cert = Some(roots);
    Ok(config)
}

async fn kubeconfig(path: Option<&Path>, context: Option<String>) -> Result<Config> {
    let name = path.map_or_else(|| "the default kubeconfig".to_owned(), |p| p.display().to_string());
    let verb = format!("use {name}");
    let refuse = |error: ::kube::config::KubeconfigError| failed(&verb, chain(&error));
    let file = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(refuse)?;
    if let Some(context) = context.as_deref().filter(|c| file.contexts.iter().all(|known| known.name != *c)) {
        let known: Vec<&str> = file.contexts.iter().map(|known| known.name.as_str()).collect();
        return Err(failed(&verb, format!("there is no context {context:?} in it, only {known:?}")));
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(refuse)
}

fn failed(verb: &str, message: String) -> Error {
    Error { kind: ErrorKind::Other, verb: verb.into(), message, retry_after: None }
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
