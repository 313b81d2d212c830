//! Signatures whose date is refused: corrected by the answer's own time, and sent again.

use fastnode::cloud::{Cloud, ErrorKind};

use super::answers::*;
use super::wire::{Reply, Wire};

/// An hour ahead of the tests' clock.
const THEIRS: &str = "Fri, 20 Nov 2026 11:11:12 GMT";
const EXPIRED: &str = "Signature expired: 20261120T101112Z is now earlier than 20261120T105612Z";

fn dated(reply: Reply) -> Reply {
    match reply {
        Reply::Http(status, body) => Reply::Dated(THEIRS, status, body),
        other => other,
    }
}

fn dates(wire: &Wire) -> Vec<String> {
    wire.sent().iter().map(|sent| sent.headers["x-amz-date"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_corrected_by_the_answer_once_and_for_all_services() {
    let refused = error(403, "SignatureDoesNotMatch", EXPIRED);
    let wire = Wire::new([dated(refused), groups(&[], None), instances(&[], None), done("SetDesiredCapacity")]);
    let cloud = wire.cloud();
    cloud.groups("demo").await.unwrap();
    cloud.instances(&["i-0a1".into()]).await.unwrap();
    cloud.set_desired(&"workers".into(), 3).await.unwrap();
    let dates = dates(&wire);
    assert_eq!(dates[0], "20261120T101112Z");
    assert!(dates[1..].iter().all(|date| date.starts_with("20261120T1111")), "{dates:?}");

    let token = cloud.token_source("demo").token().await.unwrap();
    let url = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &token[11..]).unwrap();
    assert!(String::from_utf8(url).unwrap().contains("X-Amz-Date=20261120T1111"));
}

#[tokio::test(start_paused = true)]
async fn ec2s_refusal_of_a_date_is_corrected_too() {
    let refused = ec2_error(400, "RequestExpired", "Request has expired.");
    let wire = Wire::new([dated(refused), instances(&[], None)]);
    wire.cloud().instances(&["i-0a1".into()]).await.unwrap();
    assert!(dates(&wire)[1].starts_with("20261120T1111"), "{:?}", dates(&wire));
}

#[tokio::test(start_paused = true)]
async fn a_write_refused_for_its_date_did_not_happen_and_is_sent_again() {
    let wire = Wire::new([dated(error(403, "RequestTimeTooSkewed", "skewed")), terminating("i-0a1")]);
    wire.cloud().terminate(&"i-0a1".into(), false).await.unwrap();
    assert_eq!(wire.sent().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_date_that_cannot_be_corrected_is_explained_and_not_sent_again() {
    // No date in the answer, or one that agrees with ours.
    for reply in [
        error(403, "SignatureDoesNotMatch", EXPIRED),
        match error(403, "SignatureDoesNotMatch", EXPIRED) {
            Reply::Http(status, body) => Reply::Dated("Fri, 20 Nov 2026 10:11:20 GMT", status, body),
            other => other,
        },
    ] {
        let wire = Wire::new([reply]);
        let error = wire.cloud().groups("demo").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Credentials);
        assert!(
            error
                .message
                .ends_with("this machine's clock is off by more than AWS tolerates, set it, for example with NTP"),
            "{error}"
        );
    }
}
