//! The deregistration delays of what is attached to groups.

use std::collections::{BTreeMap, BTreeSet};

use fastnode::cloud::{Cloud, ErrorKind};
use fastnode::model::Attachment;

use super::answers::*;
use super::wire::{Reply, Wire};

const WEB: &str = "arn:aws:elasticloadbalancing:us-west-2:111122223333:targetgroup/web/6d0ecf831eec9f09";
const LATTICE: &str = "arn:aws:vpc-lattice:us-west-2:111122223333:targetgroup/tg-0c11d4dc16ed96bdb";

fn attachments(names: &[&str]) -> BTreeSet<Attachment> {
    names.iter().map(|name| Attachment((*name).into())).collect()
}

fn target_group(delay: u32) -> Reply {
    let member = |key: &str, value: &str| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let attributes =
        member("stickiness.enabled", "false") + &member("deregistration_delay.timeout_seconds", &delay.to_string());
    result("DescribeTargetGroupAttributes", &format!("<Attributes>{attributes}</Attributes>"))
}

fn classic(enabled: bool, timeout: u32) -> Reply {
    let draining = format!("<Enabled>{enabled}</Enabled><Timeout>{timeout}</Timeout>");
    result(
        "DescribeLoadBalancerAttributes",
        &format!(
            "<LoadBalancerAttributes><CrossZoneLoadBalancing><Enabled>true</Enabled></CrossZoneLoadBalancing>\
             <ConnectionDraining>{draining}</ConnectionDraining></LoadBalancerAttributes>"
        ),
    )
}

#[tokio::test(start_paused = true)]
async fn each_attachment_is_asked_for_its_delay_in_its_own_api() {
    let wire = Wire::new([target_group(45), classic(true, 120)]);
    let delays = wire.cloud().deregistration_delays(&attachments(&[WEB, LATTICE, "old-elb"])).await.unwrap();
    let expected = [(Attachment(WEB.into()), 45), (Attachment("old-elb".into()), 120)];
    assert_eq!(delays, BTreeMap::from(expected), "what belongs to another service has no such attribute");
    let sent = wire.sent();
    assert_eq!((sent[0].get("Action"), sent[0].get("Version")), ("DescribeTargetGroupAttributes", "2015-12-01"));
    assert_eq!(sent[0].get("TargetGroupArn"), WEB);
    assert_eq!((sent[1].get("Action"), sent[1].get("Version")), ("DescribeLoadBalancerAttributes", "2012-06-01"));
    assert_eq!(sent[1].get("LoadBalancerName"), "old-elb");
    for sent in sent {
        assert_eq!(sent.uri, "https://elasticloadbalancing.us-west-2.amazonaws.com/");
        assert!(sent.headers["authorization"].contains("/us-west-2/elasticloadbalancing/aws4_request"), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_classic_load_balancer_without_draining_keeps_nobody() {
    let wire = Wire::new([classic(false, 300)]);
    let delays = wire.cloud().deregistration_delays(&attachments(&["old-elb"])).await.unwrap();
    assert_eq!(delays, BTreeMap::from([(Attachment("old-elb".into()), 0)]));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_or_is_gone_is_left_out_and_what_fails_is_not() {
    let denied = error(
        403,
        "AccessDenied",
        "User: arn:aws:iam::1:user/x is not authorized to perform: \
         elasticloadbalancing:DescribeTargetGroupAttributes because no identity-based policy allows it",
    );
    let gone = error(400, "LoadBalancerNotFound", "There is no ACTIVE Load Balancer named 'old-elb'");
    let wire = Wire::new([denied, gone]);
    let cloud = wire.cloud();
    assert_eq!(cloud.deregistration_delays(&attachments(&[WEB, "old-elb"])).await.unwrap(), BTreeMap::new());

    let wire = Wire::new([error(400, "InvalidClientTokenId", "no such key")]);
    let failed = wire.cloud().deregistration_delays(&attachments(&[WEB])).await.unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Credentials);
    assert_eq!(&*failed.operation, "elasticloadbalancing:DescribeTargetGroupAttributes");
}
