//! The AWS adapter on the wire: what it sends, how it reads answers, and what it never sends twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod addons;
mod answers;
mod balancers;
mod evidence;
mod refusals;
mod skew;
mod sockets;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use answers::*;
use fastnode::cloud::{Cloud, ErrorKind};
use fastnode::model::{
    ActivityStatus, Attachment, GroupName, InstanceId, LaunchSource, Lifecycle, Override, Process, Target, TemplateRef,
    Text, Zone,
};
use wire::{Reply, Wire};

fn group(name: &str) -> GroupName {
    name.into()
}

fn attached(attachments: &BTreeSet<Attachment>) -> Vec<&str> {
    attachments.iter().map(|attachment| &*attachment.0).collect()
}

fn template(id: &str, version: &str) -> TemplateRef {
    TemplateRef { id: id.into(), version: version.into(), resolved: None, image: None }
}

fn resolved(id: &str, version: &str, number: &str, image: &str) -> TemplateRef {
    TemplateRef { resolved: Some(number.into()), image: Some(image.into()), ..template(id, version) }
}

#[tokio::test(start_paused = true)]
async fn one_filtered_call_gives_all_groups_of_the_cluster() {
    let wire = Wire::new([groups(
        &[
            tagged("kops", "k8s.io/cluster/demo", "owned"),
            tagged("managed", "eks:cluster-name", "demo"),
            tagged("of-another", "eks:cluster-name", "demo-2"),
            tagged("not-ours", "kubernetes.io/cluster/demo", "no"),
        ],
        None,
    )]);
    let cloud = wire.cloud();
    let found = cloud.groups("demo").await.unwrap();
    let names: Vec<&str> = found.iter().map(|state| state.group.name.as_str()).collect();
    assert_eq!(names, ["kops", "managed"]);
    let sent = wire.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].get("Action"), "DescribeAutoScalingGroups");
    assert_eq!(sent[0].get("MaxRecords"), "100");
    assert_eq!(sent[0].get("Filters.member.1.Name"), "tag-key");
    assert_eq!(sent[0].get("Filters.member.1.Values.member.1"), "kubernetes.io/cluster/demo");
    assert_eq!(sent[0].get("Filters.member.1.Values.member.2"), "k8s.io/cluster/demo");
    assert_eq!(sent[0].get("Filters.member.1.Values.member.3"), "eks:cluster-name");
    assert_eq!(sent[0].get("Filters.member.2.Name"), "", "a second filter would be joined by AND");
}

#[tokio::test(start_paused = true)]
async fn every_page_of_groups_is_read() {
    let page = |name, next| groups(&[tagged(name, "kubernetes.io/cluster/demo", "owned")], next);
    let wire = Wire::new([page("b", Some("t/1=")), page("a", Some("t2")), page("c", None)]);
    let cloud = wire.cloud();
    let found = cloud.groups("demo").await.unwrap();
    let names: Vec<&str> = found.iter().map(|state| state.group.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let tokens: Vec<String> = wire.sent().iter().map(|sent| sent.get("NextToken").to_owned()).collect();
    assert_eq!(tokens, ["", "t/1=", "t2"]);
    assert_eq!(cloud.calls(), BTreeMap::from([("autoscaling:DescribeAutoScalingGroups".into(), 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_group_is_read_in_full() {
    let wire = Wire::new([groups(&[FULL_GROUP.into()], None)]);
    let state = wire.cloud().groups("demo").await.unwrap().remove(0);
    let full = state.group;
    assert_eq!((full.min, full.max, full.desired), (1, 9, 3));
    assert_eq!(full.zones, [Zone::from("us-west-2a"), Zone::from("us-west-2c")]);
    assert_eq!(full.target, Target::Template(template("lt-0123456789abcdef0", "$Latest")));
    assert_eq!(full.suspended, BTreeSet::from([Process("AZRebalance".into())]));
    assert_eq!(full.tags.get("kubernetes.io/cluster/demo").map(|v| &**v), Some("owned"));
    assert_eq!(full.managed_by.as_deref(), Some("workers"));
    assert_eq!(full.operator.as_deref(), Some("eks.amazonaws.com"));
    assert!(full.new_instances_protected && full.warm_pool);
    assert_eq!(full.subnets.iter().map(|s| &**s).collect::<Vec<_>>(), ["subnet-1", "subnet-2"]);
    assert_eq!(attached(&full.attachments), ["arn:aws:elasticloadbalancing:us-west-2:1:targetgroup/x/1"]);
    assert!(!full.weighted && !full.refreshing);

    let [serving, leaving, warm] = state.instances.as_slice() else { panic!("three instances") };
    assert_eq!(serving.id, InstanceId::from("i-0a1"));
    assert_eq!(serving.group, full.name);
    assert_eq!(serving.zone, Zone::from("us-west-2a"));
    assert_eq!(&*serving.instance_type, "m6i.large");
    assert!(serving.healthy && serving.protected);
    assert_eq!(serving.source, LaunchSource::Template { id: "lt-0123456789abcdef0".into(), version: "6".into() });
    assert_eq!((&serving.lifecycle, &serving.image), (&Lifecycle::InService, &None));
    assert!(!leaving.healthy && !leaving.protected);
    assert_eq!(leaving.lifecycle, Lifecycle::Terminating);
    assert_eq!(leaving.source, LaunchSource::Configuration("old-lc".into()));
    assert_eq!((&warm.lifecycle, &warm.source), (&Lifecycle::Warmed, &LaunchSource::Unknown));
    assert_eq!(warm.image.as_deref(), Some("ami-1"));
}

#[tokio::test(start_paused = true)]
async fn a_mixed_policy_keeps_each_overrides_template_and_weights_are_noticed() {
    let wire = Wire::new([groups(&[MIXED_GROUP.into()], None)]);
    let mixed = wire.cloud().groups("demo").await.unwrap().remove(0).group;
    let launch = |kind: &str, template| Override { instance_type: Some(kind.into()), template };
    let own_image = TemplateRef { image: Some("ami-own".into()), ..template("lt-0aaaaaaaaaaaaaaa0", "$Default") };
    assert_eq!(
        mixed.target,
        Target::Mixed {
            base: template("lt-0aaaaaaaaaaaaaaa0", "$Default"),
            overrides: vec![
                launch("m6i.large", None),
                launch("m6g.large", Some(template("arm", "4"))),
                launch("m7i.large", Some(own_image)),
            ],
        }
    );
    assert!(mixed.weighted);
    assert!(mixed.attachments.is_empty() && !mixed.warm_pool && mixed.managed_by.is_none() && mixed.operator.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_a_service_operates_names_it() {
    let operated = tagged("operated", "kubernetes.io/cluster/demo", "owned");
    let operated = operated.replacen(
        "<AutoScalingGroupName>",
        "<Operator><Principal>batch.amazonaws.com</Principal></Operator><AutoScalingGroupName>",
        1,
    );
    let wire = Wire::new([groups(&[operated], None)]);
    let group = wire.cloud().groups("demo").await.unwrap().remove(0).group;
    assert_eq!(group.operator.as_deref(), Some("batch.amazonaws.com"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_asked_for_again_after_a_passing_fault() {
    let cluster = r#"{"cluster":{"name":"demo","endpoint":"https://a.test","certificateAuthority":{"data":"Q0E="}}}"#;
    let unavailable = Reply::Http(503, r#"{"message":"unavailable"}"#.into());
    let wire = Wire::new([Reply::Dropped, unavailable, ok(cluster)]);
    let cloud = wire.cloud();
    assert_eq!(&*cloud.cluster("demo").await.unwrap().endpoint, "https://a.test");
    assert_eq!(cloud.calls(), BTreeMap::from([("eks:DescribeCluster".into(), 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_template_is_resolved_by_one_call_images_included() {
    let id = "lt-0123456789abcdef0";
    let wire = Wire::new([versions(&[version(id, 7, false, "ami-7")])]);
    let cloud = wire.cloud();
    let target = cloud.resolve(&Target::Template(template(id, "$Latest"))).await.unwrap();
    assert_eq!(target, Target::Template(resolved(id, "$Latest", "7", "ami-7")));
    let sent = &wire.sent()[0];
    assert_eq!(sent.uri, "https://ec2.us-west-2.amazonaws.com/");
    assert_eq!(sent.get("Action"), "DescribeLaunchTemplateVersions");
    assert_eq!(sent.get("Version"), "2016-11-15");
    assert_eq!(sent.get("LaunchTemplateId"), id);
    assert_eq!(sent.get("LaunchTemplateVersion.1"), "$Latest");
    assert_eq!(sent.get("ResolveAlias"), "true");
    assert_eq!(cloud.calls(), BTreeMap::from([("ec2:DescribeLaunchTemplateVersions".into(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn each_distinct_template_of_a_mixed_policy_costs_one_call() {
    let (base, arm) = ("lt-0aaaaaaaaaaaaaaa0", "lt-0bbbbbbbbbbbbbbb0");
    let wire = Wire::new([
        versions(&[version(arm, 4, false, "ami-arm")]),
        versions(&[
            version(base, 5, true, "ami-5"),
            version(base, 9, false, "ami-9"),
            version(base, 2, false, "ami-2"),
        ]),
    ]);
    let launch = |template| Override { instance_type: None, template };
    let own_image = TemplateRef { image: Some("ami-own".into()), ..template(base, "$Default") };
    let target = Target::Mixed {
        base: template(base, "$Default"),
        overrides: vec![
            launch(None),
            launch(Some(template("arm", "4"))),
            launch(Some(template(base, "$Latest"))),
            launch(Some(template(base, "2"))),
            launch(Some(own_image)),
        ],
    };
    let done = wire.cloud().resolve(&target).await.unwrap();
    assert_eq!(
        done,
        Target::Mixed {
            base: resolved(base, "$Default", "5", "ami-5"),
            overrides: vec![
                launch(None),
                launch(Some(resolved(arm, "4", "4", "ami-arm"))),
                launch(Some(resolved(base, "$Latest", "9", "ami-9"))),
                launch(Some(resolved(base, "2", "2", "ami-2"))),
                launch(Some(resolved(base, "$Default", "5", "ami-own"))),
            ],
        }
    );
    let sent = wire.sent();
    assert_eq!((sent.len(), sent[0].get("LaunchTemplateName"), sent[0].get("LaunchTemplateId")), (2, "arm", ""));
    let nothing = Wire::new([]);
    let configuration = Target::Configuration("lc".into());
    assert_eq!(nothing.cloud().resolve(&configuration).await.unwrap(), configuration);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_is_not_found() {
    let id = "lt-0123456789abcdef0";
    let wire = Wire::new([versions(&[version(id, 7, true, "ami-7")])]);
    let error = wire.cloud().resolve(&Target::Template(template(id, "6"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().ends_with("launch template lt-0123456789abcdef0 has no version 6"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn instances_are_asked_for_two_hundred_at_a_time_and_unknown_ones_left_out() {
    let wire = Wire::new([
        instances(&[instance("i-0a1", "running", "ip-10-0-0-1.us-west-2.compute.internal")], Some("n1")),
        instances(&[instance("i-0a2", "terminated", "")], None),
        instances(&[], None),
    ]);
    let ids: Vec<InstanceId> = (0..201).map(|n| InstanceId::from(format!("i-{n:03x}"))).collect();
    let details = wire.cloud().instances(&ids).await.unwrap();
    assert_eq!(details.len(), 2);
    assert_eq!(details[0].id, InstanceId::from("i-0a1"));
    assert_eq!(details[0].launched_at, Some("2026-11-20T09:00:01Z".parse().unwrap()));
    assert_eq!(details[0].image.as_deref(), Some("ami-7"));
    assert_eq!(&*details[0].state, "running");
    assert_eq!(details[0].private_dns.as_deref(), Some("ip-10-0-0-1.us-west-2.compute.internal"));
    assert_eq!((&*details[1].state, &details[1].private_dns), ("terminated", &None));
    let sent = wire.sent();
    assert_eq!(sent[0].get("Filter.1.Name"), "instance-id");
    assert_eq!(sent[0].get("Filter.1.Value.200"), "i-0c7");
    assert_eq!(sent[0].get("Filter.1.Value.201"), "");
    assert_eq!(sent[1].get("NextToken"), "n1");
    assert_eq!((sent[2].get("NextToken"), sent[2].get("Filter.1.Value.1")), ("", "i-0c8"));
}

#[tokio::test(start_paused = true)]
async fn ec2_requests_are_signed_as_botocore_signs_them() {
    let wire = Wire::new([instances(&[], None)]);
    wire.cloud().instances(&["i-0a1".into()]).await.unwrap();
    let headers = &wire.sent()[0].headers;
    assert_eq!(headers["x-amz-date"], "20261120T101112Z");
    assert_eq!(
        headers["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/us-west-2/ec2/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date, \
         Signature=f656eb261b54527fcf402839e74b3b9e340d2dc4c5f5d1e810ebbbeb1c874289"
    );
}

#[tokio::test(start_paused = true)]
async fn activities_since_a_time_are_read_newest_first_and_no_page_too_many() {
    let act = |id, status, started| activity(id, status, started, "Launching a new EC2 instance: i-0a9");
    let wire = Wire::new([
        activities(
            &[
                // In progress comes first whenever it began, and says nothing of what follows.
                act("stuck", "InProgress", "2026-11-20T01:00:00Z"),
                act("newest", "Successful", "2026-11-20T10:09:00Z"),
            ],
            Some("n1"),
        ),
        activities(
            &[
                act("failed", "Failed", "2026-11-20T10:10:00.500Z"),
                act("exact", "Cancelled", "2026-11-20T10:00:00Z"),
                act("past", "Successful", "2026-11-20T09:59:59Z"),
            ],
            Some("n2"),
        ),
    ]);
    let since = "2026-11-20T10:00:00Z".parse().unwrap();
    let found = wire.cloud().activities(&group("workers-a"), since).await.unwrap();
    let read: Vec<(&str, ActivityStatus)> = found.iter().map(|a| (&*a.id, a.status)).collect();
    assert_eq!(
        read,
        [
            ("failed", ActivityStatus::Failed),
            ("newest", ActivityStatus::Successful),
            ("exact", ActivityStatus::Cancelled)
        ]
    );
    assert_eq!(found[0].instance, Some("i-0a9".into()));
    assert_eq!(found[0].started, "2026-11-20T10:10:00.5Z".parse().unwrap());
    assert!(found[0].cause.contains("a user request explicitly set group desired capacity"));
    let sent = wire.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].get("IncludeDeletedGroups"), sent[1].get("NextToken")), ("false", "n1"));
}

#[tokio::test(start_paused = true)]
async fn a_termination_gives_its_activity() {
    let wire = Wire::new([terminating("i-0a1")]);
    let activity = wire.cloud().terminate(&"i-0a1".into(), true).await.unwrap();
    assert_eq!(&*activity.id, "act-1");
    assert_eq!((activity.instance, activity.status), (Some("i-0a1".into()), ActivityStatus::InProgress));
    assert_eq!(activity.started, "2026-11-20T10:11:13.401Z".parse().unwrap());
    let sent = &wire.sent()[0];
    assert_eq!((sent.get("InstanceId"), sent.get("ShouldDecrementDesiredCapacity")), ("i-0a1", "true"));
}

#[tokio::test(start_paused = true)]
async fn writes_say_exactly_what_is_asked() {
    let wire = Wire::new(
        ["SetDesiredCapacity", "SuspendProcesses", "ResumeProcesses", "UpdateAutoScalingGroup", "CreateOrUpdateTags"]
            .map(done)
            .into_iter()
            .chain([done("DeleteTags")]),
    );
    let (cloud, name) = (wire.cloud(), group("workers-a"));
    let processes = BTreeSet::from([Process("AZRebalance".into()), Process("Launch".into())]);
    cloud.set_desired(&name, 4).await.unwrap();
    cloud.suspend(&name, &processes).await.unwrap();
    cloud.resume(&name, &BTreeSet::from([Process("Launch".into())])).await.unwrap();
    cloud.set_max(&name, 10).await.unwrap();
    cloud.tag(&name, &BTreeMap::from([("fastnode:surge".into(), "{\"v\":1}".into())])).await.unwrap();
    cloud.untag(&name, &BTreeSet::from(["fastnode:surge".into()])).await.unwrap();

    let expected: [&[(&str, &str)]; 6] = [
        &[("Action", "SetDesiredCapacity"), ("DesiredCapacity", "4"), ("HonorCooldown", "false")],
        &[
            ("Action", "SuspendProcesses"),
            ("ScalingProcesses.member.1", "AZRebalance"),
            ("ScalingProcesses.member.2", "Launch"),
        ],
        &[("Action", "ResumeProcesses"), ("ScalingProcesses.member.1", "Launch")],
        &[("Action", "UpdateAutoScalingGroup"), ("MaxSize", "10")],
        &[
            ("Action", "CreateOrUpdateTags"),
            ("Tags.member.1.Key", "fastnode:surge"),
            ("Tags.member.1.PropagateAtLaunch", "false"),
            ("Tags.member.1.ResourceId", "workers-a"),
            ("Tags.member.1.ResourceType", "auto-scaling-group"),
            ("Tags.member.1.Value", "{\"v\":1}"),
        ],
        &[
            ("Action", "DeleteTags"),
            ("Tags.member.1.Key", "fastnode:surge"),
            ("Tags.member.1.ResourceId", "workers-a"),
            ("Tags.member.1.ResourceType", "auto-scaling-group"),
        ],
    ];
    for (sent, expected) in wire.sent().iter().zip(expected) {
        let mut form = sent.form.clone();
        form.remove("Version");
        let name = form.remove("AutoScalingGroupName");
        assert!(name.is_none_or(|name| name == "workers-a"));
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(form, expected);
    }
    assert_eq!(cloud.calls().values().sum::<u64>(), 6);
}

#[tokio::test(start_paused = true)]
async fn protection_is_set_fifty_instances_at_a_time() {
    let wire = Wire::new([done("SetInstanceProtection"), done("SetInstanceProtection")]);
    let ids: Vec<InstanceId> = (0..51).map(|n| InstanceId::from(format!("i-{n:03x}"))).collect();
    wire.cloud().protect(&group("workers-a"), &ids, true).await.unwrap();
    let sent = wire.sent();
    assert_eq!((sent[0].get("InstanceIds.member.50"), sent[0].get("InstanceIds.member.51")), ("i-031", ""));
    assert_eq!((sent[1].get("InstanceIds.member.1"), sent[1].get("ProtectedFromScaleIn")), ("i-032", "true"));
}

#[tokio::test(start_paused = true)]
async fn nothing_named_is_nothing_sent() {
    // Suspend and resume without a process name would be for every process.
    let wire = Wire::new([]);
    let (cloud, name) = (wire.cloud(), group("workers-a"));
    cloud.suspend(&name, &BTreeSet::new()).await.unwrap();
    cloud.resume(&name, &BTreeSet::new()).await.unwrap();
    cloud.protect(&name, &[], true).await.unwrap();
    cloud.tag(&name, &BTreeMap::new()).await.unwrap();
    cloud.untag(&name, &BTreeSet::new()).await.unwrap();
    assert!(cloud.instances(&[]).await.unwrap().is_empty());
    assert!(cloud.refreshing(&[]).await.unwrap().is_empty());
    assert!(wire.sent().is_empty() && cloud.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn groups_under_an_instance_refresh_are_named() {
    let refresh = |status: &str| {
        let member = format!(
            "<member><InstanceRefreshId>1</InstanceRefreshId><AutoScalingGroupName>x</AutoScalingGroupName>\
             <Status>{status}</Status></member>"
        );
        result("DescribeInstanceRefreshes", &format!("<InstanceRefreshes>{member}</InstanceRefreshes>"))
    };
    let none = result("DescribeInstanceRefreshes", "<InstanceRefreshes/>");
    let wire = Wire::new([refresh("Baking"), refresh("Successful"), none, refresh("RollbackInProgress")]);
    let asked = ["a", "b", "c", "d"].map(GroupName::from);
    let cloud = wire.cloud();
    assert_eq!(cloud.refreshing(&asked).await.unwrap(), BTreeSet::from([group("a"), group("d")]));
    assert_eq!(cloud.calls(), BTreeMap::from([("autoscaling:DescribeInstanceRefreshes".into(), 4)]));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_read_and_one_without_an_endpoint_is_refused() {
    let active = r#"{"cluster":{"name":"demo","arn":"arn:aws:eks:us-west-2:1:cluster/demo","version":"1.36",
        "endpoint":"https://ABC.gr7.us-west-2.eks.amazonaws.com","status":"ACTIVE",
        "certificateAuthority":{"data":"LS0tLS1CRUdJTg=="}}}"#;
    let wire = Wire::new([ok(active), ok(r#"{"cluster":{"name":"demo","status":"CREATING"}}"#)]);
    let cloud = wire.cloud();
    let cluster = cloud.cluster("demo").await.unwrap();
    let fields: [&Text; 5] = [&cluster.name, &cluster.version, &cluster.endpoint, &cluster.ca, &cluster.status];
    assert_eq!(
        fields.map(|text| &**text),
        ["demo", "1.36", "https://ABC.gr7.us-west-2.eks.amazonaws.com", "LS0tLS1CRUdJTg==", "ACTIVE"]
    );
    assert_eq!(wire.sent()[0].uri, "https://eks.us-west-2.amazonaws.com/clusters/demo");
    let error = cloud.cluster("demo").await.unwrap_err();
    assert!(error.to_string().contains("is CREATING and has no API server endpoint"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_cluster_is_named_with_the_region() {
    let wire = Wire::new([Reply::Http(
        404,
        r#"{"__type":"ResourceNotFoundException","message":"No cluster found for name: demo."}"#.into(),
    )]);
    let error = wire.cloud().cluster("demo").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "failed to call eks:DescribeCluster: ResourceNotFoundException: No cluster found for name: demo. (region us-west-2)"
    );
}
