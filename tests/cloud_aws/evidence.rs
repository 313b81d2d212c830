//! What is asked of AWS about an instance that never became a node.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastnode::cloud::ErrorKind;
use fastnode::cloud::evidence::Evidence;
use fastnode::model::{InstanceId, Text};

use super::answers::*;
use super::wire::{Reply, Wire};

const ROLE: &str = "arn:aws:iam::111122223333:role/eks/node";

fn id() -> InstanceId {
    "i-0a1".into()
}

fn console(output: &str) -> Reply {
    let mut encoded = STANDARD.encode(output);
    // EC2 wraps its lines.
    if encoded.len() > 8 {
        encoded.insert(8, '\n');
    }
    ok(format!(
        "<GetConsoleOutputResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId>\
         <instanceId>i-0a1</instanceId><timestamp>2026-11-20T10:00:00.000Z</timestamp><output>{encoded}</output>\
         </GetConsoleOutputResponse>"
    ))
}

fn profile(id: &str, name: &str) -> String {
    let arn = format!("arn:aws:iam::111122223333:instance-profile/team/{name}");
    instance(id, "running", "ip-10-0-0-1.ec2.internal")
        .replace("<tagSet>", &format!("<iamInstanceProfile><arn>{arn}</arn><id>AIPA</id></iamInstanceProfile><tagSet>"))
}

fn role(name: &str) -> Reply {
    result(
        "GetInstanceProfile",
        &format!(
            "<InstanceProfile><InstanceProfileName>{name}</InstanceProfileName><Arn>arn:aws:iam::1:instance-profile/x\
             </Arn><Roles><member><RoleName>node</RoleName><Arn>{ROLE}</Arn></member></Roles></InstanceProfile>"
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn the_latest_console_output_is_decoded_and_what_cannot_be_the_latest_is_asked_for_as_it_is() {
    let refused = ec2_error(400, "UnsupportedOperation", "This instance type does not support retrieving the latest");
    let wire = Wire::new([refused, console("nodeadm: Unauthorized\n"), console("")]);
    let cloud = wire.cloud();
    assert_eq!(cloud.console(&id()).await.unwrap().as_deref(), Some("nodeadm: Unauthorized\n"));
    assert_eq!(cloud.console(&id()).await.unwrap(), None, "nothing was written yet");
    let latest: Vec<_> = wire.sent().iter().map(|sent| sent.get("Latest").to_owned()).collect();
    assert_eq!(latest, ["true", "", "true"]);

    let wire = Wire::new([ec2_error(403, "UnauthorizedOperation", "You are not authorized")]);
    let denied = wire.cloud().console(&id()).await.unwrap_err();
    assert_eq!((denied.kind, &*denied.operation), (ErrorKind::Denied, "ec2:GetConsoleOutput"));
}

#[tokio::test(start_paused = true)]
async fn only_the_end_of_a_long_console_is_kept() {
    let wire = Wire::new([console(&format!("{}end", "x".repeat(100_000)))]);
    let output = wire.cloud().console(&id()).await.unwrap().unwrap();
    assert!(output.len() == 64 << 10 && output.ends_with("xend"));
}

#[tokio::test(start_paused = true)]
async fn a_role_is_asked_for_once_a_profile_at_the_partitions_own_iam() {
    let plain = instance("i-0a3", "running", "");
    let found = instances(&[profile("i-0a1", "node"), profile("i-0a2", "node"), plain], None);
    let wire = Wire::new([found, role("node")]);
    let ids: Vec<InstanceId> = ["i-0a1", "i-0a2", "i-0a3"].map(InstanceId::from).to_vec();
    let roles = wire.cloud().roles(&ids).await.unwrap();
    assert_eq!(roles, BTreeMap::from([("i-0a1".into(), Text::from(ROLE)), ("i-0a2".into(), ROLE.into())]));
    let asked = &wire.sent()[1];
    assert_eq!((asked.get("InstanceProfileName"), asked.get("Version")), ("node", "2010-05-08"));
    assert_eq!(asked.uri, "https://iam.amazonaws.com/");
    assert!(asked.headers["authorization"].contains("/us-east-1/iam/aws4_request"), "{asked:?}");

    let gone = error(404, "NoSuchEntity", "Instance Profile node cannot be found.");
    let wire = Wire::new([instances(&[profile("i-0a1", "node")], None), gone]);
    assert!(wire.cloud().roles(&[id()]).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn access_entries_come_in_pages() {
    let first = r#"{"accessEntries": ["arn:aws:iam::1:role/a"], "nextToken": "t"}"#;
    let wire = Wire::new([ok(first), ok(r#"{"accessEntries": ["arn:aws:iam::1:role/b"]}"#)]);
    let principals = wire.cloud().principals("prod").await.unwrap();
    let expected: BTreeSet<Text> = ["arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b"].map(Text::from).into();
    assert_eq!(principals, expected);
    assert!(wire.sent()[0].uri.contains("/clusters/prod/access-entries?maxResults=100"), "{}", wire.sent()[0].uri);
    assert!(wire.sent()[1].uri.contains("nextToken=t"));
}

#[tokio::test(start_paused = true)]
async fn free_addresses_are_those_of_the_subnets_that_ec2_knows() {
    let subnet = |id: &str, free: u32| {
        format!(
            "<item><subnetId>{id}</subnetId><state>available</state><availableIpAddressCount>{free}</availableIpAddressCount></item>"
        )
    };
    let wire = Wire::new([ok(format!(
        "<DescribeSubnetsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId>\
         <subnetSet>{}{}</subnetSet></DescribeSubnetsResponse>",
        subnet("subnet-1", 0),
        subnet("subnet-2", 251)
    ))]);
    let asked = ["subnet-1", "subnet-2", "subnet-3"].map(Text::from).into();
    let free = wire.cloud().free_addresses(&asked).await.unwrap();
    assert_eq!(free, BTreeMap::from([("subnet-1".into(), 0), ("subnet-2".into(), 251)]));
    let sent = &wire.sent()[0];
    assert_eq!((sent.get("Filter.1.Name"), sent.get("Filter.1.Value.3")), ("subnet-id", "subnet-3"));
}
