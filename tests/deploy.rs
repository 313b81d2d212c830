//! What is shipped for deployment agrees with the code: the image's sources, the IAM policy, the CronJob.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `service:Operation` in quotes, wherever one of these sources names one.
fn named_actions(sources: &[&str]) -> BTreeSet<String> {
    let text: String = sources.iter().map(|path| read(path).split("#[cfg(test)]").next().unwrap().to_owned()).collect();
    text.split('"').filter(|word| is_action(word)).map(str::to_owned).collect()
}

fn is_action(word: &str) -> bool {
    word.split_once(':').is_some_and(|(service, operation)| {
        ["autoscaling", "ec2", "eks", "elasticloadbalancing", "iam"].contains(&service)
            && operation.starts_with(|c: char| c.is_ascii_uppercase())
            && operation.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

/// The actions that a policy allows.
fn allowed_actions(policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(&read(policy)).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        match &statement["Action"] {
            Value::String(action) => drop(allowed.insert(action.clone())),
            actions => allowed.extend(actions.as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned())),
        }
    }
    allowed
}

#[test]
fn the_iam_policy_allows_exactly_what_is_called() {
    let mut allowed = allowed_actions("config/deploy/iam-policy.json");
    // EC2 resolves `resolve:ssm:` images in the caller's name.
    assert!(allowed.remove("ssm:GetParameters"));
    let sources = ["src/cloud/aws/mod.rs", "src/cloud/aws/resolve.rs", "src/cloud/ec2.rs", "src/cloud/elb.rs"];
    assert_eq!(allowed, named_actions(&sources));
}

#[test]
fn the_doctors_iam_policy_adds_exactly_what_only_a_diagnosis_calls() {
    let called = named_actions(&["src/cloud/aws/evidence.rs", "src/cloud/iam.rs"]);
    let rotation = allowed_actions("config/deploy/iam-policy.json");
    assert_eq!(allowed_actions("config/deploy/iam-policy-doctor.json"), &called - &rotation);
}

#[test]
fn the_iam_policy_of_fixes_allows_exactly_what_they_call() {
    assert_eq!(allowed_actions("config/deploy/iam-policy-fix.json"), named_actions(&["src/cloud/aws/addons.rs"]));
}

#[test]
fn the_image_is_built_from_all_that_the_manifest_names() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let container = read("Containerfile");
    let copied = |folder: &str| container.lines().any(|line| line == format!("COPY {folder} {folder}"));
    assert!(copied("src") && copied("config"));
    assert!(!manifest.contains_key("bench") || copied("benches"), "cargo refuses a manifest whose bench is missing");
    assert!(container.contains("COPY Cargo.toml Cargo.lock ./") && container.contains("--locked --release"));
}

#[test]
fn a_run_that_is_cut_off_is_continued_and_never_doubled() {
    let job = read("config/deploy/cronjob.yaml");
    for line in [
        "  concurrencyPolicy: Forbid",
        "          restartPolicy: Never",
        "          terminationGracePeriodSeconds: 60",
        "      backoffLimit: 3",
    ] {
        assert!(job.lines().any(|l| l == line), "{line}");
    }
}
