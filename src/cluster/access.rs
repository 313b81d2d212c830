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
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
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
    /// The API server's URL, for messages, and the proxy on the way to it.
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
    /// endpoint or proxy, or no service account: each names the file or value.
    pub async fn connect(self) -> Result<Connection> {
        let mut named_proxy = false;
        let (mut config, tokens) = match self {
            Self::Eks { cluster, tokens } => (eks(&cluster)?, Some(tokens)),
            Self::Kubeconfig { path, context } => {
                let config;
                (config, named_proxy) = kubeconfig(path.as_deref(), context).await?;
                (config, None)
            }
            Self::InCluster => {
                let config =
                    Config::incluster().map_err(|error| failed("use the pod's service account", chain(&error)))?;
                (config, None)
            }
        };
        // A kubeconfig's own `proxy-url` stands; kube's reading of the variables does not, because it looks for
        // the proxy in NO_PROXY instead of the server, and only with a kubeconfig.
        if !named_proxy {
            config.proxy_url = proxy_for(&config.cluster_url, |name| std::env::var(name).ok())?;
        }
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_LIMIT);
        let mut host = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        if let Some(proxy) = config.proxy_url.as_ref().and_then(Uri::host) {
            host.push_str(&format!(" (through proxy {proxy})"));
        }
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

/// The proxy that the environment names for `server`, by the same rules as for AWS: `HTTPS_PROXY`, else
/// `ALL_PROXY`, unless `NO_PROXY` names the server (each in capitals or not).
fn proxy_for(server: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Uri>> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let https = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some((name, value)) = https.iter().find_map(|name| Some((name, set(name)?))) else { return Ok(None) };
    let no = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
    let value = if value.contains("://") { value } else { format!("http://{value}") };
    let proxy: Uri = value.parse().map_err(|error| failed("use the proxy", format!("{name} is not a URL: {error}")))?;
    let matcher = Matcher::builder().https(value).no(no).build();
    Ok(matcher.intercept(server).map(|_| proxy))
}

/// The configuration, and whether the file names a proxy of its own.
async fn kubeconfig(path: Option<&Path>, context: Option<String>) -> Result<(Config, bool)> {
    let name = path.map_or_else(|| "the default kubeconfig".to_owned(), |p| p.display().to_string());
    let verb = format!("use {name}");
    let refuse = |error: ::kube::config::KubeconfigError| failed(&verb, chain(&error));
    let file = path.map_or_else(Kubeconfig::read, Kubeconfig::read_from).map_err(refuse)?;
    if let Some(context) = context.as_deref().filter(|c| file.contexts.iter().all(|known| known.name != *c)) {
        let known: Vec<&str> = file.contexts.iter().map(|known| known.name.as_str()).collect();
        return Err(failed(&verb, format!("there is no context {context:?} in it, only {known:?}")));
    }
    let named_proxy = has_proxy(&file, context.as_deref().or(file.current_context.as_deref()));
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(refuse)?;
    Ok((config, named_proxy))
}

fn has_proxy(file: &Kubeconfig, context: Option<&str>) -> bool {
    let context = file.contexts.iter().find(|c| Some(c.name.as_str()) == context).and_then(|c| c.context.as_ref());
    let cluster = context.and_then(|c| file.clusters.iter().find(|known| known.name == c.cluster));
    cluster.and_then(|c| c.cluster.as_ref()?.proxy_url.as_ref()).is_some_and(|url| !url.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(server: &str, variables: &[(&str, &str)]) -> Result<Option<String>> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        proxy_for(&server.parse().unwrap(), variable).map(|proxy| proxy.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_environments_proxy_is_used_unless_it_excludes_the_server() {
        let server = "https://ABC.gr7.us-west-2.eks.amazonaws.com";
        let found = |variables: &[(&str, &str)]| proxy(server, variables).unwrap();
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("HTTPS_PROXY", "")]), None);
        assert_eq!(found(&[("HTTP_PROXY", "http://p:3128")]), None, "it is for plain HTTP");
        assert_eq!(found(&[("https_proxy", "http://p:3128")]).as_deref(), Some("http://p:3128/"));
        assert_eq!(found(&[("HTTPS_PROXY", "p:3128")]).as_deref(), Some("http://p:3128/"));
        assert_eq!(found(&[("ALL_PROXY", "http://p:3128")]).as_deref(), Some("http://p:3128/"));
        let excluded = |no| found(&[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", no)]).is_none();
        assert!(excluded("10.0.0.0/8,.eks.amazonaws.com"));
        assert!(excluded("*"));
        assert!(!excluded("10.0.0.0/8,p"), "the proxy's own name excludes nothing");
        let variables = [("HTTPS_PROXY", "http://p:3128"), ("no_proxy", "10.100.0.0/16")];
        assert_eq!(proxy("https://10.100.0.1", &variables).unwrap(), None);
    }

    #[test]
    fn a_proxy_that_is_none_is_named_by_its_variable() {
        let error = proxy("https://api.test", &[("HTTPS_PROXY", "http://p p")]).unwrap_err().to_string();
        assert!(error.starts_with("failed to use the proxy: HTTPS_PROXY is not a URL"), "{error}");
    }
}
