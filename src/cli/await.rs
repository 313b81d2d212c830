//! `fastnode await`: what an init container runs until something that its pod depends on is there.
//!
//! ```text
//!            the address is empty or not filled in --> exit 75: start me over
//!  look at it --> there ----------------------------> exit 0
//!      ^   |----> cannot be looked at here ---------> exit 1
//!      |   not yet
//!      +-- interval ... time-out -------------------> exit 5: start me over, and look why
//! ```
//!
//! It needs no configuration, no AWS and (a node's condition aside) no cluster. As the first process of a
//! container it has to listen to SIGTERM by itself: the kernel gives that process no default action.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::args::{Await, AwaitFor};
use super::exit::Exit;
use super::failure::{Failure, chain};
use super::printer::complain;
use super::signals;
use crate::cluster::access::{Access, Connection};
use crate::units::seconds;

/// Set in every container once the kubelet knows the Service `default/kubernetes`.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(3);
/// How often it says that it still waits.
const SAY: Duration = Duration::from_secs(10);

/// What is waited for, checked.
enum Goal {
    Tcp(String),
    File(PathBuf),
    Iptables(String),
    Condition { node: String, kind: String, status: String },
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "a connection to {address}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Iptables(rule) => write!(f, "the iptables rule {rule:?}"),
            Self::Condition { node, kind, status } => write!(f, "node {node} to be {kind}={status}"),
        }
    }
}

/// What a look saw.
enum Sight {
    There,
    NotYet(String),
    /// Looking again would not help.
    Never(String),
}

/// Waits; the exit code is the answer.
///
/// # Errors
/// If what is asked for is not something to wait for, cannot be looked at, or does not come in time.
pub fn wait(args: &Await) -> Result<Exit, Failure> {
    let Some(goal) = goal(&args.what, std::env::var(SERVICE_HOST).ok().as_deref())? else {
        complain(&format!("{SERVICE_HOST} is not there yet: exit 75, start me over\n"));
        return Ok(Exit::StartOver);
    };
    let limit = duration("--timeout", &args.timeout)?;
    let interval = duration("--interval", &args.interval)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let interrupt = signals::listen()?;
        tokio::select! {
            biased;
            signal = signals::received(interrupt) => Ok(signal.into()),
            outcome = until(&goal, limit, interval) => outcome,
        }
    });
    // A name that is being resolved must not hold the end up.
    runtime.shutdown_background();
    outcome
}

/// What is waited for; `None` where Kubernetes has not filled the address in.
fn goal(what: &AwaitFor, service_host: Option<&str>) -> Result<Option<Goal>, Failure> {
    let wrong = |message: String| Failure::new(Exit::Usage, message);
    Ok(Some(match what {
        AwaitFor::Tcp { address, fixed } => {
            let service_empty = !fixed && service_host.is_some_and(str::is_empty);
            // A variable that is not set stays as it was written: $(NAME).
            if address.trim().is_empty() || address.contains("$(") || service_empty {
                return Ok(None);
            }
            let (host, port) = address
                .rsplit_once(':')
                .ok_or_else(|| wrong(format!("failed to read the address {address:?}: expected HOST:PORT")))?;
            if host.is_empty() || port.is_empty() {
                return Ok(None);
            }
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(wrong(format!("failed to read the address {address:?}: {port:?} is no port (1 to 65535)")));
            }
            // `10.0.0.1:443`, `name:443`, `[fd00::1]:443`; a bare IPv6 address is what Kubernetes expands to.
            let bare = host.contains(':') && !host.starts_with('[');
            Goal::Tcp(if bare { format!("[{host}]:{port}") } else { address.clone() })
        }
        AwaitFor::File { path } if path.as_os_str().is_empty() => {
            return Err(wrong("failed to read the path: it is empty".to_owned()));
        }
        AwaitFor::File { path } => Goal::File(path.clone()),
        AwaitFor::Iptables { rule } if rule.trim().is_empty() => {
            return Err(wrong("failed to read the rule: it is empty".to_owned()));
        }
        AwaitFor::Iptables { rule } => Goal::Iptables(rule.clone()),
        AwaitFor::Condition { condition, node } => {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            if kind.is_empty() || !["True", "False", "Unknown"].contains(&status) {
                let why = "expected TYPE or TYPE=True, TYPE=False, TYPE=Unknown";
                return Err(wrong(format!("failed to read the condition {condition:?}: {why}")));
            }
            if node.is_empty() || node.contains("$(") {
                return Ok(None);
            }
            Goal::Condition { node: node.clone(), kind: kind.to_owned(), status: status.to_owned() }
        }
    }))
}

fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let parsed = humantime::parse_duration(text).ok().filter(|d| !d.is_zero());
    let why = "is not a duration above 0 such as 500ms or 5m";
    parsed.ok_or_else(|| Failure::new(Exit::Usage, format!("failed to read {flag}: {text:?} {why}")))
}

async fn until(goal: &Goal, limit: Duration, interval: Duration) -> Result<Exit, Failure> {
    let connection = match goal {
        Goal::Condition { .. } => Some(connect().await?),
        _ => None,
    };
    let began = Instant::now();
    let mut said = None;
    loop {
        // A look may not outlast the time-out.
        let left = limit.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        let sight = timeout(LOOK.min(left), look(goal, connection.as_ref())).await;
        let waited = began.elapsed();
        let why = match sight {
            Ok(Sight::There) => {
                complain(&format!("{goal}: there after {}\n", seconds(waited.as_secs_f64())));
                return Ok(Exit::Done);
            }
            Ok(Sight::Never(why)) => return Err(Failure::new(Exit::Unexpected, why)),
            Ok(Sight::NotYet(why)) => why,
            Err(_) => "no answer".to_owned(),
        };
        if waited >= limit {
            let waited = seconds(waited.as_secs_f64());
            let message = format!("failed to see {goal} come within {waited}: {why}");
            return Err(Failure::new(Exit::Incomplete, message));
        }
        if said.is_none_or(|at: Instant| at.elapsed() >= SAY) {
            complain(&format!("waiting for {goal}, {}: {why}\n", seconds(waited.as_secs_f64())));
            said = Some(Instant::now());
        }
        sleep(interval.min(limit.saturating_sub(waited))).await;
    }
}

async fn look(goal: &Goal, connection: Option<&Connection>) -> Sight {
    match goal {
        Goal::Tcp(address) => match TcpStream::connect(address).await {
            Ok(_) => Sight::There,
            Err(error) => Sight::NotYet(error.to_string()),
        },
        Goal::File(path) => match tokio::fs::metadata(path).await {
            Ok(_) => Sight::There,
            Err(error) => Sight::NotYet(error.to_string()),
        },
        Goal::Iptables(rule) => iptables(rule).await,
        Goal::Condition { node, kind, status } => match connection {
            Some(connection) => condition(connection, node, kind, status).await,
            None => Sight::Never("failed to look at the node: there is no connection".to_owned()),
        },
    }
}

/// Asks `iptables-save`, whichever of its two back ends the image has.
async fn iptables(rule: &str) -> Sight {
    let output = Command::new("iptables-save").stdin(Stdio::null()).kill_on_drop(true).output().await;
    match output {
        Ok(output) if output.status.success() => {
            if has_rule(&String::from_utf8_lossy(&output.stdout), rule) {
                Sight::There
            } else {
                Sight::NotYet("no such rule".to_owned())
            }
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it says nothing").trim().to_owned();
            Sight::NotYet(format!("iptables-save ended with {}: {said}", output.status))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Sight::Never(if on_path("nft") {
            "failed to read the iptables rules: this image has nft and no iptables-save, and nft's own rules \
             cannot be waited for; name an image with iptables-save (iptables-nft reads rules kept by nft)"
                .to_owned()
        } else {
            "failed to read the iptables rules: there is no iptables-save on the PATH; name an image that has it"
                .to_owned()
        }),
        Err(error) => Sight::NotYet(format!("iptables-save cannot be run: {error}")),
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether a line of `iptables-save` holds the rule, however many blanks are between its words.
fn has_rule(saved: &str, rule: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rule = words(rule);
    saved.lines().filter(|line| !line.starts_with('#')).any(|line| words(line).contains(&rule))
}

async fn connect() -> Result<Connection, Failure> {
    // The only error is that a provider is installed already: then one is there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Access::InCluster.connect().await.map_err(|error| {
        Failure::new(Exit::Access, chain(&error)).hint("a node's condition is read with the pod's service account")
    })
}

async fn condition(connection: &Connection, node: &str, kind: &str, status: &str) -> Sight {
    let request = match Request::get(format!("/api/v1/nodes/{node}")).body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Sight::Never(format!("failed to ask for node {node:?}: {error}")),
    };
    match connection.client.request::<Value>(request).await {
        Ok(found) => {
            let conditions = found["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let seen = conditions.iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str());
            match seen {
                Some(seen) if seen == status => Sight::There,
                Some(seen) => Sight::NotYet(format!("it is {seen}")),
                None => Sight::NotYet("the node has no such condition".to_owned()),
            }
        }
        Err(kube::Error::Api(answer)) if answer.code == 403 => {
            let why = "the pod's service account may not get nodes";
            Sight::Never(format!("failed to read node {node}: {why} ({})", answer.message))
        }
        Err(error) => Sight::NotYet(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str, fixed: bool, host: Option<&str>) -> Result<Option<String>, String> {
        let what = AwaitFor::Tcp { address: address.to_owned(), fixed };
        goal(&what, host).map(|goal| goal.map(|goal| goal.to_string())).map_err(|failure| failure.message)
    }

    #[test]
    fn an_address_that_kubernetes_has_not_filled_in_starts_over() {
        for address in ["", " ", ":443", "10.100.0.1:", "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"] {
            assert_eq!(tcp(address, false, None), Ok(None), "{address:?}");
        }
        assert_eq!(tcp("10.100.0.1:443", false, Some("")), Ok(None), "the variable is there and empty");
        assert!(tcp("10.100.0.1:443", true, Some("")).unwrap().is_some(), "a fixed address needs no variable");
        assert!(tcp("10.100.0.1:443", false, None).unwrap().is_some());
    }

    #[test]
    fn addresses_are_read_in_every_form_and_wrong_ones_are_named() {
        assert_eq!(tcp("fd00::1:443", false, None).unwrap().unwrap(), "a connection to [fd00::1]:443");
        assert_eq!(tcp("[fd00::1]:443", false, None).unwrap().unwrap(), "a connection to [fd00::1]:443");
        assert!(tcp("10.0.0.1", false, None).unwrap_err().contains("expected HOST:PORT"));
        assert!(tcp("10.0.0.1:0", false, None).unwrap_err().contains("no port"));
        assert!(tcp("10.0.0.1:https", false, None).unwrap_err().contains("\"https\" is no port"));
    }

    #[test]
    fn a_rule_is_found_whatever_the_blanks_and_never_in_a_comment() {
        let saved = "# Generated by KUBE-MARK-MASQ\n*nat\n:KUBE-SERVICES - [0:0]\n\
                     -A PREROUTING  -d 169.254.169.254/32 -p tcp -j DNAT --to-destination 10.0.0.1:8181\n";
        assert!(has_rule(saved, "-d 169.254.169.254/32   -p tcp"));
        assert!(has_rule(saved, "KUBE-SERVICES"));
        assert!(!has_rule(saved, "KUBE-MARK-MASQ"));
        assert!(!has_rule(saved, "-d 169.254.169.253/32"));
    }
}
