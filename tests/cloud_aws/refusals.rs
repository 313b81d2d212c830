//! Failures: what is sent again, what never is, and what each refusal is called.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use fastnode::cloud::aws::AwsCloud;
use fastnode::cloud::{Cloud, Error, ErrorKind};
use fastnode::model::{Process, Target, TemplateRef};
use tokio::time::{Duration, Instant};

use super::answers::*;
use super::wire::{Reply, Wire, clock, credentials};

const TERMINATE: &str = "autoscaling:TerminateInstanceInAutoScalingGroup";

/// Sends one terminate and one set_desired, each answered by `reply`, and gives the errors; checks that
/// neither was sent twice.
async fn once(reply: impl Fn() -> Reply) -> [Error; 2] {
    let wire = Wire::new([reply(), reply()]);
    let cloud = wire.cloud();
    let errors = [
        cloud.terminate(&"i-0a1".into(), false).await.unwrap_err(),
        cloud.set_desired(&"workers-a".into(), 3).await.unwrap_err(),
    ];
    let counts = BTreeMap::from([(TERMINATE.into(), 1), ("autoscaling:SetDesiredCapacity".into(), 1)]);
    assert_eq!(cloud.calls(), counts);
    assert_eq!(wire.sent().len(), 2);
    errors
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_reply_is_lost_is_never_sent_again() {
    for reply in [
        || Reply::Dropped,
        || Reply::Silent,
        || error(500, "InternalFailure", "An internal error has occurred"),
        || error(503, "ServiceUnavailable", ""),
        || Reply::Http(502, "<html>bad gateway</html>".into()),
    ] as [fn() -> Reply; 5]
    {
        for failure in once(reply).await {
            assert_eq!(failure.kind, ErrorKind::UnknownOutcome, "{failure}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_termination_answered_by_something_unreadable_is_an_unknown_outcome() {
    for answer in [
        "<TerminateInstanceInAutoScalingGroupResponse><TerminateInstanceInAutoScalingGroupResult><Activ",
        "<html>captive portal</html>",
        "",
    ] {
        let wire = Wire::new([ok(answer)]);
        let cloud = wire.cloud();
        let failure = cloud.terminate(&"i-0a1".into(), false).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::UnknownOutcome, "{answer}: {failure}");
        assert_eq!(cloud.calls(), BTreeMap::from([(TERMINATE.into(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_went_out_is_known_not_to_have_happened() {
    for error in once(|| Reply::Refused).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_write_did_not_happen_and_is_sent_again() {
    let wire = Wire::new([error(400, "Throttling", "Rate exceeded"), terminating("i-0a1")]);
    let cloud = wire.cloud();
    cloud.terminate(&"i-0a1".into(), false).await.unwrap();
    assert_eq!(cloud.calls(), BTreeMap::from([(TERMINATE.into(), 2)]));
}

#[tokio::test(start_paused = true)]
async fn refused_writes_are_facts_and_not_sent_again() {
    let minimum = "Currently, desiredSize equals minSize (3). Terminating instance without replacement will violate \
                   group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower \
                   group's min size.";
    let maximum = "New SetDesiredCapacity value 3 is above max value 2 for the AutoScalingGroup.";
    let gone = "Instance Id not found - No managed instance found for instance ID: i-0a1";
    let busy = "Scaling activity 74bb1e34 is in progress and blocks this action";
    for (code, message, kind) in [
        ("ValidationError", minimum, ErrorKind::Refused),
        ("ValidationError", maximum, ErrorKind::Refused),
        ("ValidationError", gone, ErrorKind::NotFound),
        ("ScalingActivityInProgress", busy, ErrorKind::Busy),
        ("ResourceContention", "You already have a pending update to an Auto Scaling resource", ErrorKind::Busy),
    ] {
        for failure in once(|| error(400, code, message)).await {
            assert_eq!(failure.kind, kind, "{failure}");
            assert_eq!(failure.message, format!("{code}: {message}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_and_idempotent_writes_are_sent_again_after_passing_faults() {
    let faults = || {
        [
            error(400, "Throttling", "Rate exceeded"),
            error(500, "ResourceContention", "pending"),
            error(503, "ServiceUnavailable", ""),
            Reply::Dropped,
            Reply::Refused,
        ]
    };
    let wire =
        Wire::new(faults().into_iter().chain([groups(&[], None)]).chain(faults()).chain([done("SuspendProcesses")]));
    let cloud = wire.cloud();
    assert!(cloud.groups("demo").await.unwrap().is_empty());
    cloud.suspend(&"workers-a".into(), &BTreeSet::from([Process("AZRebalance".into())])).await.unwrap();
    assert_eq!(wire.left(), 0);
    let counts = BTreeMap::from([
        ("autoscaling:DescribeAutoScalingGroups".into(), 6),
        ("autoscaling:SuspendProcesses".into(), 6),
    ]);
    assert_eq!(cloud.calls(), counts);
}

#[tokio::test(start_paused = true)]
async fn sending_again_ends_within_its_time() {
    let wire = Wire::new((0..100).map(|_| error(400, "Throttling", "Rate exceeded")));
    let started = Instant::now();
    let failure = wire.cloud().groups("demo").await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Throttled);
    let elapsed = started.elapsed();
    assert!(elapsed > Duration::from_secs(40) && elapsed <= Duration::from_secs(60), "{elapsed:?}");
    assert!(wire.left() > 80, "the pause between two sends grows");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_nobody_answers_at_is_told_soon() {
    let wire = Wire::new((0..100).map(|_| Reply::Refused));
    let cloud = wire.cloud();
    told_soon(&cloud, "eks:DescribeCluster", async |cloud| cloud.cluster("demo").await.map(drop)).await;
    told_soon(&cloud, "ec2:DescribeInstances", async |cloud| cloud.instances(&["i-0a1".into()]).await.map(drop)).await;
    assert_eq!(cloud.calls().values().sum::<u64>(), wire.sent().len() as u64);
}

async fn told_soon(cloud: &AwsCloud, operation: &str, ask: impl AsyncFn(&AwsCloud) -> Result<(), Error>) {
    let started = Instant::now();
    let failure = ask(cloud).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Unavailable);
    assert_eq!(failure.to_string(), format!("failed to call {operation}: connection refused"));
    assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_is_given_up_on() {
    let wire = Wire::new([Reply::Silent, Reply::Silent]);
    let started = Instant::now();
    let failure = wire.cloud().groups("demo").await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Unavailable);
    assert!(started.elapsed() <= Duration::from_secs(100), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn ec2_faults_are_judged_as_the_others_are() {
    let template = |version: &str| {
        Target::Template(TemplateRef {
            id: "lt-0123456789abcdef0".into(),
            version: version.into(),
            resolved: None,
            image: None,
        })
    };
    let wire = Wire::new([
        ec2_error(503, "RequestLimitExceeded", "Request limit exceeded."),
        Reply::Dropped,
        ok("<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet>"),
        versions(&[version("lt-0123456789abcdef0", 3, true, "ami-3")]),
        ec2_error(
            403,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to \
             perform: ec2:DescribeLaunchTemplateVersions because no identity-based policy allows it",
        ),
        ec2_error(400, "InvalidLaunchTemplateId.NotFound", "The specified launch template does not exist."),
    ]);
    let cloud = wire.cloud();
    cloud.resolve(&template("3")).await.unwrap();
    assert_eq!(cloud.calls(), BTreeMap::from([("ec2:DescribeLaunchTemplateVersions".into(), 4)]));
    let denied = cloud.resolve(&template("3")).await.unwrap_err();
    assert_eq!((denied.kind, &*denied.operation), (ErrorKind::Denied, "ec2:DescribeLaunchTemplateVersions"));
    assert_eq!(cloud.resolve(&template("3")).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn expired_and_unknown_credentials_say_what_to_do() {
    let wire = Wire::new([
        error(403, "ExpiredToken", "The security token included in the request is expired"),
        error(403, "InvalidClientTokenId", "The security token included in the request is invalid"),
        Reply::Http(403, r#"{"__type":"UnrecognizedClientException","message":"invalid"}"#.into()),
        ec2_error(401, "AuthFailure", "AWS was not able to validate the provided access credentials"),
    ]);
    let cloud = wire.cloud();
    let failures = [
        (cloud.groups("demo").await.unwrap_err(), "aws sso login"),
        (cloud.terminate(&"i-0a1".into(), false).await.unwrap_err(), "AWS_PROFILE"),
        (cloud.cluster("demo").await.unwrap_err(), "AWS_PROFILE"),
        (cloud.instances(&["i-0a1".into()]).await.unwrap_err(), "AWS_PROFILE"),
    ];
    for (failure, remedy) in failures {
        assert_eq!(failure.kind, ErrorKind::Credentials, "{failure}");
        assert!(failure.to_string().contains(remedy), "{failure}");
    }
    assert_eq!(wire.left(), 0, "none was sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_denial_names_the_iam_action() {
    let wire = Wire::new([error(
        403,
        "AccessDenied",
        "User: arn:aws:sts::1:assumed-role/ops/me is not authorized to perform: autoscaling:SuspendProcesses on \
         resource: arn:aws:autoscaling:us-west-2:1:autoScalingGroup:x because no identity-based policy allows the \
         autoscaling:SuspendProcesses action",
    )]);
    let processes = BTreeSet::from([Process("AZRebalance".into())]);
    let failure = wire.cloud().suspend(&"workers-a".into(), &processes).await.unwrap_err();
    assert_eq!((failure.kind, &*failure.operation), (ErrorKind::Denied, "autoscaling:SuspendProcesses"));
    assert!(failure.to_string().ends_with("allow autoscaling:SuspendProcesses for this identity in IAM"), "{failure}");
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("nothing in the chain")))
    }
}

#[tokio::test(start_paused = true)]
async fn without_credentials_nothing_is_sent() {
    let wire = Wire::new([]);
    let config = wire.config(SharedCredentialsProvider::new(NoCredentials));
    let cloud = AwsCloud::from_config(&config, clock()).unwrap();
    for failure in [
        cloud.groups("demo").await.unwrap_err(),
        cloud.terminate(&"i-0a1".into(), false).await.unwrap_err(),
        cloud.instances(&["i-0a1".into()]).await.unwrap_err(),
    ] {
        assert_eq!(failure.kind, ErrorKind::Credentials, "{failure}");
        assert!(
            failure.to_string().contains("no AWS credentials found (nothing in the chain): set AWS_PROFILE"),
            "{failure}"
        );
    }
    assert!(cloud.calls().is_empty() && wire.sent().is_empty());
}

#[tokio::test]
async fn a_missing_region_names_the_flag_and_the_variable() {
    let config =
        SdkConfig::builder().behavior_version(BehaviorVersion::latest()).credentials_provider(credentials()).build();
    let failure = AwsCloud::from_config(&config, clock()).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Credentials);
    assert!(failure.to_string().contains("--region") && failure.to_string().contains("AWS_REGION"), "{failure}");
}
