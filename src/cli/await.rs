//! `fastnode await`: what an init container runs until something that its pod depends on is there.
//!
//! ```text
//!        the Service's variables are not there yet --> exit 75: start me over
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
const SERVICE: [&str; 3] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"];
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

/// What is asked for.
enum Asked {
    For(Goal),
    /// The kubelet has not filled this variable in.
    NotYet(&'static str),
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
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let goal = match goal(&args.what, variable)? {
        Asked::For(goal) => goal,
        Asked::NotYet(name) => {
            complain(&format!("{name} is not there yet: exit 75, start me over\n"));
            return Ok(Exit::StartOver);
        }
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

/// What is waited for, or that it is not filled in yet. `variable` is the environment.
fn goal(what: &AwaitFor, variable: impl Fn(&str) -> Option<String>) -> Result<Asked, Failure> {
    let wrong = |message: String| Failure::new(Exit::Usage, message);
    // Those of the Service are there together, once the kubelet has read it.
    let is_missing = |name: &str| variable(name).is_none_or(|value| value.is_empty());
    let text = match what {
        AwaitFor::Tcp { address, .. } => address,
        AwaitFor::File { path } => &path.to_string_lossy().into_owned(),
        AwaitFor::Iptables { rule } => rule,
        AwaitFor::Condition { node, .. } => node,
    };
    let awaited = |name: &str| SERVICE.into_iter().find(|service| *service == name && is_missing(service));
    if let Some(name) = unexpanded(text).find(|name| awaited(name).is_none()) {
        let why = "Kubernetes expands what the container has: expected it in the container's env";
        return Err(wrong(format!("failed to read {text:?}: $({name}) is not expanded; {why}")));
    }
    if let Some(name) = unexpanded(text).find_map(awaited) {
        return Ok(Asked::NotYet(name));
    }
    Ok(Asked::For(match what {
        AwaitFor::Tcp { address, fixed } => {
            let [host_variable, ..] = SERVICE;
            let set_to_nothing = variable(host_variable).is_some_and(|value| value.is_empty());
            if !fixed && set_to_nothing {
                return Ok(Asked::NotYet(host_variable));
            }
            let parts = address.trim().rsplit_once(':');
            let is_empty =
                address.trim().is_empty() || parts.is_some_and(|(host, port)| host.is_empty() || port.is_empty());
            let missing = SERVICE.into_iter().take(2).find(|name| is_missing(name));
            if let (true, false, Some(name)) = (is_empty, *fixed, missing) {
                return Ok(Asked::NotYet(name));
            }
            let (host, port) = parts
                .filter(|_| !is_empty)
                .ok_or_else(|| wrong(format!("failed to read the address {address:?}: expected HOST:PORT")))?;
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
            if node.trim().is_empty() {
                let why = "expected a Node's name, as the field spec.nodeName gives it";
                return Err(wrong(format!("failed to read --node: it is empty; {why}")));
            }
            Goal::Condition { node: node.clone(), kind: kind.to_owned(), status: status.to_owned() }
        }
    }))
}

/// The variables that Kubernetes left as they were written: `$(NAME)`.
fn unexpanded(text: &str) -> impl Iterator<Item = &str> {
    text.split("$(").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name)
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

    /// What is waited for, or `None` where the variables of the Service, host and port, are yet to be filled in.
    fn asked(what: &AwaitFor, service: [Option<&str>; 2]) -> Result<Option<String>, String> {
        let variable = |name: &str| {
            let [host, port] = service.map(|value| value.map(str::to_owned));
            if name == "KUBERNETES_SERVICE_HOST" { host } else { port.filter(|_| SERVICE.contains(&name)) }
        };
        match goal(what, variable).map_err(|failure| failure.message)? {
            Asked::For(goal) => Ok(Some(goal.to_string())),
            Asked::NotYet(_) => Ok(None),
        }
    }

    fn tcp(address: &str, fixed: bool, host: Option<&str>) -> Result<Option<String>, String> {
        asked(&AwaitFor::Tcp { address: address.to_owned(), fixed }, [host, host.map(|_| "443")])
    }

    #[test]
    fn only_the_services_own_variables_start_over_and_only_while_they_are_not_there() {
        let there = [Some("172.20.0.1"), Some("443")];
        let tcp = |address: &str| AwaitFor::Tcp { address: address.to_owned(), fixed: false };
        let service = "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)";
        for missing in [[None, None], [Some(""), Some("")]] {
            assert_eq!(asked(&tcp(service), missing), Ok(None));
            let rule = AwaitFor::Iptables { rule: "-d $(KUBERNETES_SERVICE_HOST)/32".to_owned() };
            assert_eq!(asked(&rule, missing), Ok(None));
        }
        assert_eq!(asked(&tcp("172.20.0.1:"), [Some("172.20.0.1"), None]), Ok(None), "the port is not there");
        for service in [there, [None, None]] {
            for (what, name) in [
                (tcp("$(TYPO_HOST):443"), "$(TYPO_HOST)"),
                (tcp("172.20.0.1:$(PORT)"), "$(PORT)"),
                (tcp("$(KUBERNETES_SERVICE_HOST):$(PORTT)"), "$("),
                (AwaitFor::File { path: "/run/$(NODE)/x".into() }, "$(NODE)"),
                (AwaitFor::Iptables { rule: "-d $(KIAM_HOST)/32".to_owned() }, "$(KIAM_HOST)"),
                (
                    AwaitFor::Condition { condition: "Ready".to_owned(), node: "$(NODE_NAME)".to_owned() },
                    "$(NODE_NAME)",
                ),
            ] {
                let why = asked(&what, service).unwrap_err();
                assert!(why.contains(name) && why.contains("the container's env"), "{why}");
            }
        }
        // It would start over for ever.
        for address in [service, ":443", "172.20.0.1:", ""] {
            assert!(asked(&tcp(address), there).is_err(), "{address:?}");
        }
        let nobody = AwaitFor::Condition { condition: "Ready".to_owned(), node: String::new() };
        assert!(asked(&nobody, [None, None]).unwrap_err().contains("--node"));
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
