//! The verb, as a user or a script meets it.

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use serde_json::Value;

use crate::bench::{FAULTY, with_elsewhere};

fn fastnode(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastnode"));
    command.env_clear().env("HOME", "/nonexistent").args(arguments);
    command
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn scenario() -> (tempfile::TempDir, String) {
    file("faulty.toml", &format!("name='faulty'\nabout='both faults'\ncluster='faulty'\n{FAULTY}"))
}

fn json(output: &[u8]) -> Vec<Value> {
    String::from_utf8(output.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_shows_the_diff_and_changes_nothing() {
    let (_folder, path) = scenario();
    let shown = fastnode(&["fix", "--simulate", &path]).assert().code(0);
    shown.stdout(contains("+        - --hostname-override=$(NODE_NAME)").and(contains("FIX --apply applies one")));
    let output = fastnode(&["fix", "--simulate", &path, "aws-node-wait", "-o", "json"]).output().unwrap();
    let [all] = json(&output.stdout).try_into().unwrap();
    assert_eq!((&all["v"], &all["fixes"][0]["outcome"]), (&1.into(), &"shown".into()));
    assert_eq!(all["fixes"][0]["change"]["way"], "apply");
}

#[test]
fn the_command_that_a_diagnosis_names_is_one_that_is_taken() {
    let output = fastnode(&["doctor", "--simulate", "article", "-o", "json"]).output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = all["findings"].as_array().unwrap();
    let commands: Vec<&str> = findings.iter().filter_map(|finding| finding["command"].as_str()).collect();
    assert!(commands.iter().any(|command| command.ends_with(" wait-for:kube-system/kiam-agent")), "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        fastnode(&arguments).args(["--simulate", "article"]).assert().code(0);
    }
}

#[test]
fn it_applies_follows_the_rollout_and_tells_of_it() {
    let (_folder, path) = scenario();
    let run = ["fix", "--simulate", &path, "--apply", "--yes", "-o", "json"];
    let output = fastnode(&run).args(["kube-proxy-hostname-override", "aws-node-wait"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json(&output.stdout);
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, ["fix.proposed", "fix.applied", "fix.proposed", "fix.applied"]);
    assert_eq!(lines[1]["pods"], 3);
    let fixes = lines.last().unwrap()["fixes"].as_array().unwrap();
    assert!(fixes.iter().all(|fix| fix["outcome"] == "applied"), "{fixes:?}");
}

/// A waiter for what never comes.
const VAIN: &str = "
fix: vain
summary: s
reason: r
target: { daemonset: kube-system/kiam-agent }
patch: { wait: { for: [{ file: /var/run/never }] } }
revert: restore
";

#[test]
fn what_does_harm_is_taken_back_by_itself() {
    let text = with_elsewhere(FAULTY)
        .replace("name = 'kiam-agent'\ncritical = true\nneeds = 'kube-proxy'", "name = 'kiam-agent'\nneeds = 'aside'");
    let text = format!("name='faulty'\nabout='both faults'\ncluster='faulty'\n{text}");
    let ((_one, path), (_two, fix)) = (file("faulty.toml", &text), file("vain.yaml", VAIN));
    let mut command = fastnode(&["fix", "--simulate", &path, "--fix-file", &fix, "vain", "--apply", "--yes"]);
    let output = command.args(["-o", "json", "--gate-timeout", "90s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stdout));
    let lines = json(&output.stdout);
    let reverted = lines.iter().find(|line| line["kind"] == "fix.reverted").unwrap();
    assert!(reverted["why"].as_str().unwrap().contains("not ready 1m3"), "{reverted}");
    assert_eq!(lines.last().unwrap()["fixes"][0]["outcome"], "rolled back");
}

#[test]
fn what_cannot_be_written_is_no_success() {
    let (_folder, path) = scenario();
    let run = ["fix", "--simulate", &path, "aws-node-wait", "--apply", "--yes"];
    for more in [["--events", "/dev/full"], ["--events", "/nonexistent/events.jsonl"]] {
        let ended = fastnode(&run).args(more).assert();
        let code = if more[1] == "/dev/full" { 1 } else { 2 };
        ended.code(code).stderr(contains(more[1]));
    }
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for format in ["human", "json"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fastnode"));
        let ended = command.env_clear().args(run).args(["-o", format]).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(1) && said.contains("standard output"), "{format}: {said}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_before_anything() {
    let (_folder, path) = scenario();
    let fix = |arguments: &[&str]| {
        let mut command = fastnode(&["fix", "--simulate", &path]);
        command.args(arguments).assert()
    };
    fix(&["--apply", "--yes"]).code(2).stderr(contains("<FIX>"));
    fix(&["aws-node-wait", "--apply"])
        .code(2)
        .stdout(is_empty())
        .stderr(contains("no terminal").and(contains("--yes")));
    fix(&["aws-nod-wait"]).code(2).stderr(contains("\"aws-nod-wait\"").and(contains("aws-node-wait, ")));
    fix(&["wait-for"]).code(2).stderr(contains("wait-for:kube-system/kiam-agent"));
    fix(&["addon-update:aws-node", "--apply", "--yes"]).code(3).stdout(contains("EKS does not manage"));
    fix(&["aws-node-wait", "--revert", "--yes"])
        .code(3)
        .stderr(contains("not applied to kube-system/aws-node by fastnode"));
    fix(&["aws-node-wait", "--waiter-image", "a b"]).code(2).stderr(contains("\"a b\" is no image"));
    fix(&["wait-for:a/b/c"]).code(2).stderr(contains("expected NAMESPACE/NAME"));
    fix(&["startup-taint:ebs-csi-node", "--apply", "--yes"])
        .code(3)
        .stdout(contains("        - --register-with-taints=ebs.csi.aws.com/agent-not-ready=true:NoExecute\n"));
}

/// A fix of the same DaemonSet as aws-node-wait, for something else.
const OTHER: &str = "
fix: other
summary: s
reason: r
target: { daemonset: kube-system/aws-node }
patch: { wait: { for: [{ tcp: '10.9.9.9:6379' }] } }
revert: restore
";

#[test]
fn two_fixes_of_one_daemonset_are_applied_in_turn_or_it_is_said_why_not() {
    let ((_one, path), (_two, other)) =
        (scenario(), file("other.yaml", &OTHER.replace("10.9.9.9:6379", "$(KUBERNETES_SERVICE_HOST):443")));
    let ((_three, apart), apply) = (file("apart.yaml", OTHER), ["fix", "--simulate", &path, "--apply", "--yes"]);
    let run = |fixes: &[&str]| {
        let output = fastnode(&apply).args(["-o", "json"]).args(fixes).output().unwrap();
        (output.status.code(), json(&output.stdout).pop().unwrap()["fixes"].clone())
    };
    let (code, fixes) = run(&["--fix-file", &apart, "aws-node-wait", "other"]);
    assert_eq!((code, &fixes[0]["outcome"], &fixes[1]["outcome"]), (Some(0), &"applied".into(), &"applied".into()));
    // The one makes the other needless.
    let (code, fixes) = run(&["--fix-file", &other, "other", "aws-node-wait"]);
    assert_eq!((code, &fixes[0]["outcome"]), (Some(0), &"applied".into()), "{fixes}");
    assert_eq!(fixes[1]["outcome"], "nothing to do");
    assert_eq!(fixes[1]["why"], "already there: init container fastnode-wait-other");
    let told = fastnode(&apply).args(["-o", "plain", "--fix-file", &other, "other", "aws-node-wait"]).assert().code(0);
    told.stdout(contains("aws-node-wait was not applied: already there: init container fastnode-wait-other"));
}

#[test]
fn where_one_of_several_cannot_be_applied_none_is() {
    let ((_one, path), (_two, nowhere)) = (scenario(), file("mine.yaml", &OTHER.replace("aws-node", "nope")));
    let run = ["fix", "--simulate", &path, "--apply", "--yes", "--fix-file", &nowhere];
    let all = ["kube-proxy-hostname-override", "other", "aws-node-wait"];
    let output = fastnode(&run).args(all).args(["-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let [told] = json(&output.stdout).try_into().unwrap();
    let outcomes: Vec<_> = told["fixes"].as_array().unwrap().iter().map(|fix| fix["outcome"].clone()).collect();
    assert_eq!(outcomes, ["nothing to do"; 3]);
    fastnode(&run).args(all).assert().code(3).stderr(contains("nothing was changed: other cannot be applied"));
}

#[test]
fn a_file_with_an_unknown_key_is_refused_with_its_place() {
    let ((_one, path), (_two, fix)) = (scenario(), file("mine.yaml", &VAIN.replace("reason:", "raeson:")));
    fastnode(&["fix", "--simulate", &path, "--fix-file", &fix])
        .assert()
        .code(2)
        .stderr(contains("mine.yaml, line 4").and(contains("`raeson`")).and(contains("reason")));
}

#[test]
fn the_catalogue_is_listed_without_a_cluster() {
    fastnode(&["fix", "--list"]).assert().code(0).stdout(contains("wait-for").and(contains("any DaemonSet")));
    let output = fastnode(&["fix", "--list", "-o", "json"]).output().unwrap();
    assert_eq!(json(&output.stdout)[0]["fixes"].as_array().unwrap().len(), 7);
}
