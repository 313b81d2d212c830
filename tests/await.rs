//! `fastnode await` as an init container meets it: a process of its own, its exit code the answer.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

const FASTNODE: &str = env!("CARGO_BIN_EXE_fastnode");
/// So short that a test that waits in vain is quick, and so long that a look gets its turn on a busy machine.
const SHORT: [&str; 4] = ["--timeout", "2s", "--interval", "20ms"];

fn waiting(arguments: &[&str]) -> Command {
    let mut command = Command::new(FASTNODE);
    command.env_clear().arg("await").args(arguments).args(SHORT);
    command
}

/// A port that nobody listens on: it was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The same in the background, with time enough for whatever the test does meanwhile.
fn begun(arguments: &[&str], path: Option<&Path>) -> Child {
    let mut command = Process::new(FASTNODE);
    command.env_clear().arg("await").args(arguments).args(["--timeout", "60s", "--interval", "20ms"]);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // It says that it waits once it has looked in vain.
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut first).unwrap();
    assert!(first.starts_with("waiting for "), "{first}");
    child
}

fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_listens_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    waiting(&["tcp", &address]).assert().code(0).stderr(contains("there after"));
    waiting(&["tcp", &address]).env("KUBERNETES_SERVICE_HOST", "127.0.0.1").assert().code(0);
    waiting(&["tcp", "--fixed", &address]).env("KUBERNETES_SERVICE_HOST", "").assert().code(0);
}

#[test]
fn where_nothing_listens_the_time_out_names_the_refusal() {
    let address = format!("127.0.0.1:{}", free_port());
    let why = contains(&address).and(contains("refused")).and(contains("failed to see a connection"));
    waiting(&["tcp", &address]).assert().code(5).stderr(why);
}

#[test]
fn what_comes_late_is_waited_for() {
    let port = free_port();
    let mut child = begun(&["tcp", &format!("127.0.0.1:{port}")], None);
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_empty_variable_means_start_me_over() {
    let unexpanded = "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)";
    for address in ["", ":", ":443", unexpanded] {
        waiting(&["tcp", address]).assert().code(75).stderr(contains("start me over"));
    }
    waiting(&["tcp", "10.100.0.1:443"]).env("KUBERNETES_SERVICE_HOST", "").assert().code(75);
}

#[test]
fn any_other_variable_that_is_not_expanded_is_a_mistake_that_is_named() {
    let why = |name: &'static str| contains(name).and(contains("is not there yet").not());
    waiting(&["tcp", "$(TYPO_HOST):443"]).assert().code(2).stderr(why("$(TYPO_HOST)"));
    waiting(&["condition", "Ready", "--node", "$(NODE_NAME)"]).assert().code(2).stderr(why("$(NODE_NAME)"));
    waiting(&["condition", "Ready", "--node", ""]).assert().code(2).stderr(why("--node"));
    let mut typo = waiting(&["tcp", ":443"]);
    typo.env("KUBERNETES_SERVICE_HOST", "10.100.0.1").env("KUBERNETES_SERVICE_PORT", "443");
    typo.env("KUBERNETES_SERVICE_PORT_HTTPS", "443").assert().code(2).stderr(why("expected HOST:PORT"));
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    for wrong in [&["tcp", "10.0.0.1"][..], &["tcp", "10.0.0.1:x"], &["file", ""], &["iptables", " "], &["tcp"], &[]] {
        waiting(wrong).assert().code(2);
    }
    waiting(&["condition", "Ready=Yes", "--node", "n"]).assert().code(2).stderr(contains("Ready=Yes"));
    Command::new(FASTNODE)
        .args(["await", "file", "/", "--interval", "0s"])
        .assert()
        .code(2)
        .stderr(contains("--interval").and(contains("0s")));
}

#[test]
fn it_needs_neither_settings_nor_a_home() {
    let mut command = waiting(&["file", "/"]);
    command.env("FASTNODE_CONFIG", "/nonexistent.toml").env("FASTNODE_SURGE", "nonsense").assert().code(0);
}

#[test]
fn a_file_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("10-aws.conflist");
    let text = path.display().to_string();
    waiting(&["file", &text]).assert().code(5).stderr(contains("10-aws.conflist").and(contains("No such file")));
    let mut child = begun(&["file", &text], None);
    std::fs::write(&path, "").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_rule_is_read_from_iptables_save() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::write(&rules, "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n").unwrap();
    program(
        folder.path(),
        "iptables-save",
        &format!("while read -r line; do echo \"$line\"; done < {}", rules.display()),
    );
    let rule = "-A PREROUTING -d 169.254.169.254/32 -p tcp";
    let with = |arguments: &[&str]| {
        let mut command = waiting(arguments);
        command.env("PATH", folder.path());
        command
    };
    with(&["iptables", "KUBE-SERVICES"]).assert().code(0);
    with(&["iptables", rule]).assert().code(5).stderr(contains("no such rule"));
    let mut child = begun(&["iptables", rule], Some(folder.path()));
    std::fs::write(&rules, format!("*nat\n{rule} -j DNAT --to-destination 10.0.0.7:8181\nCOMMIT\n")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    program(folder.path(), "iptables-save", "echo 'you must be root' >&2; exit 4");
    with(&["iptables", rule]).assert().code(5).stderr(contains("you must be root"));
}

#[test]
fn without_iptables_save_it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = waiting(&["iptables", "KUBE-SERVICES"]);
    command.env("PATH", folder.path()).assert().code(1).stderr(contains("no iptables-save on the PATH"));
    program(folder.path(), "nft", "exit 0");
    command.assert().code(1).stderr(contains("has nft and no iptables-save"));
}

#[test]
fn a_condition_needs_a_service_account() {
    waiting(&["condition", "NetworkUnavailable=False", "--node", "n"])
        .assert()
        .code(7)
        .stderr(contains("service account"));
}

#[test]
fn it_ends_when_its_pod_does() {
    // The first process of a container has no default action for SIGTERM.
    let mut child = begun(&["tcp", &format!("127.0.0.1:{}", free_port())], None);
    let pid = child.id().to_string();
    assert!(Process::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
