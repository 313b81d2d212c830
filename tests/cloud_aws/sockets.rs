//! The same on real sockets: the client the binary uses, not a stand-in, tells a connection that never came
//! about from a reply that was lost.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use fastnode::clock::Clock;
use fastnode::cloud::aws::AwsCloud;
use fastnode::cloud::{Cloud, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::wire::credentials;

fn cloud(port: u16, path: &str) -> AwsCloud {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-west-2"))
        .credentials_provider(credentials())
        .endpoint_url(format!("http://127.0.0.1:{port}{path}"))
        .build();
    AwsCloud::from_config(&config, Clock::wall()).unwrap()
}

/// Reads one request whole; its headers and body.
async fn request(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the request breaks off: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = cloud(port, "").terminate(&"i-0a1".into(), false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_lost_reply_is_an_unknown_outcome_and_one_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cloud = cloud(listener.local_addr().unwrap().port(), "");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = request(&mut stream).await;
        assert!(text.contains("Action=TerminateInstanceInAutoScalingGroup"), "{text}");
        drop(stream);
        // Whoever sends again does so on a new connection.
        listener.accept().await.unwrap();
        panic!("the request was sent again");
    };
    let id = "i-0a1".into();
    let error = tokio::select! {
        biased;
        () = server => unreachable!("the server waits for a second request"),
        outcome = cloud.terminate(&id, false) => outcome.unwrap_err(),
    };
    assert_eq!(error.kind, ErrorKind::UnknownOutcome, "{error}");
}

#[tokio::test]
async fn an_endpoint_override_holds_for_ec2_too_with_its_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cloud = cloud(listener.local_addr().unwrap().port(), "/aws/");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = request(&mut stream).await;
        let body = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        text
    };
    let ids = ["i-0a1".into()];
    let (text, found) = tokio::join!(server, cloud.instances(&ids));
    assert!(found.unwrap().is_empty());
    assert!(text.starts_with("POST /aws/ HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("authorization: AWS4-HMAC-SHA256 "), "{text}");
}
