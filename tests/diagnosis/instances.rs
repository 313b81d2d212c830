//! Signatures of instances and launches.

use fastnode::model::*;

use super::scene::Scene;
use super::worlds::*;

const NONE: [&str; 0] = [];
const ROLE: &str = "arn:aws:iam::111122223333:role/eks/node";

#[test]
fn an_instance_without_a_node_is_told_with_all_that_is_known() {
    let mut scene = Scene::new().unjoined(6).console("[   12.1] systemd[1]: Reached target\n[   14.9] login:\n");
    scene.evidence.states.insert("i-late".into(), "running".into());
    let finding = scene.finding();
    assert_eq!(&*finding.signature, "node-never-joined");
    assert_eq!(finding.instances.iter().map(InstanceId::as_str).collect::<Vec<_>>(), ["i-late"]);
    assert_eq!(finding.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(), [GROUP]);
    let lines: Vec<_> = finding.evidence.iter().map(|c| c.text.to_string()).collect();
    assert_eq!(
        lines,
        ["EC2 says it is running; launched 6m00s ago", "[   12.1] systemd[1]: Reached target", "[   14.9] login:"]
    );
    assert_eq!(Scene::new().unjoined(4).names(), NONE, "it is still on its way");
    let warming = Scene::new().unjoined(6).change(|s| instance_mut(s, "i-late").lifecycle = Lifecycle::Warmed);
    assert_eq!(warming.names(), NONE);
}

#[test]
fn a_role_that_may_not_join_is_the_reason() {
    let finding = Scene::new().unjoined(6).role(ROLE, &["arn:aws:iam::111122223333:role/admin"]).finding();
    assert_eq!(&*finding.signature, "node-not-admitted");
    assert_eq!(&*finding.evidence[0].text, format!("{ROLE} is in none of 1 access entries, nor in aws-auth"));
    for admitted in [ROLE, "arn:aws:iam::111122223333:role/node"] {
        assert_eq!(Scene::new().unjoined(6).role(ROLE, &[admitted]).names(), ["node-never-joined"], "{admitted}");
    }
    let other_account = "arn:aws:iam::999922223333:role/node";
    assert_eq!(Scene::new().unjoined(6).role(ROLE, &[other_account]).names(), ["node-not-admitted"]);
}

#[test]
fn consoles_tell_apart_what_kept_a_node_away() {
    for (line, name) in [
        ("kubelet[812]: E1123 server.go:310] Unable to register node: Unauthorized", "node-not-admitted"),
        ("kubelet[812]: Get \"https://X.eks.amazonaws.com\": dial tcp 10.0.9.4:443: i/o timeout", "node-out-of-reach"),
        ("nodeadm[640]: Could not resolve host: eks.us-west-2.amazonaws.com", "node-out-of-reach"),
        (
            "nodeadm[640]: {\"level\":\"fatal\",\"msg\":\"Command failed\",\"error\":\"unknown kind NodeConfg\"}",
            "node-bootstrap-failed",
        ),
        ("cloud-init[501]: WARNING]: Failed to run module scripts-user: error in part-001", "node-bootstrap-failed"),
        ("systemd[1]: Started kubelet.service - Kubernetes Kubelet.", "node-never-joined"),
        ("nodeadm[640]: {\"level\":\"info\",\"msg\":\"Done!\"}", "node-never-joined"),
        ("sshd[99]: pam: authentication for unauthorizedkeys", "node-never-joined"),
    ] {
        assert_eq!(Scene::new().unjoined(6).console(line).names(), [name], "{line}");
    }
}

#[test]
fn a_subnet_that_is_used_up_is_named_where_nothing_better_is_known() {
    let with = |free: u32| {
        let mut scene = Scene::new().unjoined(6).change(|s| {
            group_mut(s).subnets = ["subnet-1", "subnet-2"].map(Text::from).into();
        });
        scene.evidence.free_addresses = [("subnet-1".into(), free), ("subnet-2".into(), 40)].into();
        scene
    };
    let finding = with(0).finding();
    assert_eq!((&*finding.signature, &*finding.evidence[0].source), ("node-without-addresses", "subnet subnet-1"));
    assert_eq!(with(1).names(), ["node-never-joined"]);
}

#[test]
fn a_node_that_joined_while_warming() {
    let scene = |lifecycle, status| {
        Scene::new().change(move |s| {
            instance_mut(s, "i-new-0").lifecycle = lifecycle;
            let ready = node_mut(s, "new-0").conditions.get_mut("Ready").unwrap();
            ready.status = status;
            ready.message = Some("Kubelet stopped posting node status.".into());
        })
    };
    let finding = scene(Lifecycle::Warmed, ConditionStatus::Unknown).finding();
    assert_eq!(&*finding.signature, "joined-while-warming");
    assert_eq!(finding.nodes.len(), 1);
    assert_eq!(scene(Lifecycle::InService, ConditionStatus::Unknown).names(), ["not-functional"]);
    assert_eq!(scene(Lifecycle::Warmed, ConditionStatus::True).names(), NONE, "it runs, for now");
}

#[test]
fn launches_that_aws_refuses_are_told_by_their_kind() {
    for (message, name) in [
        ("Request limit exceeded. Launching EC2 instance failed. RequestLimitExceeded", Some("aws-requests-limited")),
        (
            "We currently do not have sufficient m7i.large capacity in the Availability Zone you requested (us-west-2a).",
            Some("no-instance-capacity"),
        ),
        ("InsufficientInstanceCapacity: none left. Launching EC2 instance failed.", Some("no-instance-capacity")),
        (
            "VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit.",
            Some("no-instance-capacity"),
        ),
        (
            "There are not enough free addresses in subnet 'subnet-1': InsufficientFreeAddressesInSubnet",
            Some("no-subnet-addresses"),
        ),
        ("The image id '[ami-1]' does not exist. Launching EC2 instance failed.", None),
    ] {
        let names = Scene::new().failed_launch(message, 5).names();
        assert_eq!(names.first().map(String::as_str), name, "{message}");
        assert!(Scene::new().failed_launch(message, 61).names().is_empty(), "an hour ago");
    }
}
