//! EKS add-ons: what is asked, and that an update preserves what others have changed.

use fastnode::cloud::ErrorKind;
use fastnode::cloud::addons::{Addon, AddonChange, AddonUpdate, AddonVersion, Addons};
use serde_json::{Value, json};

use super::answers::ok;
use super::wire::{Reply, Wire};

fn json_ok(body: &Value) -> Reply {
    ok(body.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_addon_that_eks_manages_is_read_and_one_it_does_not_is_none() {
    let found = json!({ "addon": { "addonName": "vpc-cni", "addonVersion": "v1.20.0-eksbuild.1", "status": "DEGRADED",
        "configurationValues": "{\"env\":{}}",
        "health": { "issues": [{ "code": "ConfigurationConflict", "message": "conflicts found" }] } } });
    let missing = Reply::Http(404, json!({ "__type": "ResourceNotFoundException", "message": "No addon" }).to_string());
    let wire = Wire::new([json_ok(&found), missing]);
    let cloud = wire.cloud();
    let expected = Addon {
        name: "vpc-cni".into(),
        version: "v1.20.0-eksbuild.1".into(),
        status: "DEGRADED".into(),
        configuration: Some("{\"env\":{}}".into()),
        issues: vec!["ConfigurationConflict: conflicts found".into()],
    };
    assert_eq!(cloud.addon("demo", "vpc-cni").await.unwrap(), Some(expected));
    assert_eq!(cloud.addon("demo", "kube-proxy").await.unwrap(), None);
    assert!(wire.sent()[1].uri.ends_with("/clusters/demo/addons/kube-proxy"), "{}", wire.sent()[1].uri);
}

#[tokio::test(start_paused = true)]
async fn a_schema_is_read_as_json_and_a_broken_one_is_named() {
    let wire = Wire::new([
        json_ok(&json!({ "configurationSchema": "{\"type\":\"object\"}" })),
        json_ok(&json!({})),
        json_ok(&json!({ "configurationSchema": "{" })),
    ]);
    let cloud = wire.cloud();
    assert_eq!(cloud.addon_schema("vpc-cni", "v1").await.unwrap(), Some(json!({ "type": "object" })));
    assert_eq!(cloud.addon_schema("vpc-cni", "v1").await.unwrap(), None);
    let error = cloud.addon_schema("vpc-cni", "v1").await.unwrap_err();
    assert_eq!(&*error.operation, "eks:DescribeAddonConfiguration");
    assert!(error.message.contains("vpc-cni v1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn versions_come_page_by_page_with_the_default_of_that_kubernetes_version() {
    let page = |version: &str, default: bool, next: Option<&str>| {
        json_ok(&json!({ "addons": [{ "addonVersions": [{ "addonVersion": version, "compatibilities": [
            { "clusterVersion": "1.35", "defaultVersion": true },
            { "clusterVersion": "1.36", "defaultVersion": default }] }] }], "nextToken": next }))
    };
    let wire = Wire::new([page("v1.36.1-eksbuild.2", false, Some("t")), page("v1.36.0-eksbuild.1", true, None)]);
    let version = |version: &str, default| AddonVersion { version: version.into(), default };
    assert_eq!(
        wire.cloud().addon_versions("kube-proxy", "1.36").await.unwrap(),
        [version("v1.36.1-eksbuild.2", false), version("v1.36.0-eksbuild.1", true)]
    );
    assert!(wire.sent()[0].uri.contains("kubernetesVersion=1.36"));
}

#[tokio::test(start_paused = true)]
async fn an_update_preserves_and_is_sent_once() {
    let wire = Wire::new([json_ok(&json!({ "update": { "id": "u-1" } })), Reply::Dropped]);
    let cloud = wire.cloud();
    let change = AddonChange { version: None, configuration: Some("{\"env\":{\"A\":\"1\"}}".into()) };
    assert_eq!(&*cloud.update_addon("demo", "vpc-cni", &change).await.unwrap(), "u-1");
    let sent: Value = serde_json::from_str(&wire.sent()[0].body).unwrap();
    assert_eq!(sent["resolveConflicts"], "PRESERVE");
    assert_eq!(sent["configurationValues"], "{\"env\":{\"A\":\"1\"}}");
    assert_eq!(sent.get("addonVersion"), None);
    let error = cloud.update_addon("demo", "vpc-cni", &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownOutcome);
    assert_eq!(wire.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_update_tells_where_it_stands_and_why_it_failed() {
    let update = |status: &str, errors: Value| json_ok(&json!({ "update": { "status": status, "errors": errors } }));
    let why = json!([{ "errorCode": "ConfigurationConflict", "errorMessage": "spec.replicas" }]);
    let wire = Wire::new([update("InProgress", json!([])), update("Successful", json!([])), update("Failed", why)]);
    let cloud = wire.cloud();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(cloud.addon_update("demo", "vpc-cni", "u-1").await.unwrap());
    }
    let failed = AddonUpdate::Failed("ConfigurationConflict: spec.replicas".into());
    assert_eq!(seen, [AddonUpdate::InProgress, AddonUpdate::Successful, failed]);
}
