//! Logs and Events: what is left of how containers and nodes came up.

use jiff::Timestamp;
use serde::Deserialize;

use super::wire::Call;
use super::{KubeCluster, pod_path, unreadable};
use crate::cluster::evidence::{EventRecord, Evidence, LOG_BYTES, LOG_LINES, LogLine, LogRun};
use crate::cluster::{ErrorKind, Result};
use crate::model::{ObjectKey, Text, Uid};

/// Events a page.
const PAGE: usize = 500;
/// Pages that are read at most: a cluster in such trouble is told by fewer than 20,000 warnings.
const PAGES: usize = 40;

impl Evidence for KubeCluster {
    async fn logs(&self, pod: &ObjectKey, container: &str, run: LogRun) -> Result<Vec<LogLine>> {
        let previous = if run == LogRun::Previous { "&previous=true" } else { "" };
        let path = format!(
            "{}/log?container={container}&timestamps=true&tailLines={LOG_LINES}&limitBytes={LOG_BYTES}{previous}",
            pod_path(pod)
        );
        match self.call(Call::get_once("get pods/log", path)).await {
            Ok(body) => Ok(lines(&body)),
            // 400: the container has no such run, or has not started yet (`validateContainerLogStatus`,
            // `k8s.io/kubernetes` pkg/kubelet). 404: the pod is gone, and its logs with it.
            Err(error) if matches!(error.kind, ErrorKind::Other | ErrorKind::NotFound) => {
                tracing::debug!(%pod, container, "no log: {error}");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn warnings(&self) -> Result<Vec<EventRecord>> {
        self.events("type%3DWarning").await
    }

    async fn starts(&self) -> Result<Vec<EventRecord>> {
        self.events("involvedObject.kind%3DNode%2Creason%3DStarting").await
    }
}

impl KubeCluster {
    /// The Events that a field selector (percent-encoded) leaves.
    async fn events(&self, selector: &str) -> Result<Vec<EventRecord>> {
        const VERB: &str = "list events";
        let mut events = Vec::new();
        let mut next = String::new();
        for _ in 0..PAGES {
            let mut path = format!("/api/v1/events?fieldSelector={selector}&limit={PAGE}");
            if !next.is_empty() {
                path.push_str("&continue=");
                path.push_str(&next);
            }
            let body = self.call(Call::get(VERB, path)).await?;
            let list: EventList = serde_json::from_slice(&body).map_err(|error| unreadable(VERB, &error))?;
            events.extend(list.items.unwrap_or_default().into_iter().map(EventRecord::from));
            next = list.metadata.next.unwrap_or_default();
            if next.is_empty() {
                break;
            }
        }
        Ok(events)
    }
}

/// The lines of a log read with `timestamps=true`, each after its time as RFC 3339 in the node's own zone. What
/// has no time is the runtime's own word on why there is no log.
fn lines(body: &[u8]) -> Vec<LogLine> {
    String::from_utf8_lossy(body).lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<LogLine> {
    let (time, text) = line.split_once(' ').unwrap_or((line, ""));
    Some(LogLine { time: time.parse().ok()?, text: text.trim_end().into() })
}

#[derive(Deserialize)]
struct EventList {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<EventJson>>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventJson {
    involved_object: Involved,
    #[serde(rename = "type")]
    kind: Option<Text>,
    reason: Option<Text>,
    message: Option<Text>,
    count: Option<u32>,
    first_timestamp: Option<Timestamp>,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
    source: Option<Source>,
    reporting_component: Option<Text>,
}

#[derive(Deserialize)]
struct Involved {
    kind: Option<Text>,
    namespace: Option<Text>,
    name: Option<Text>,
    uid: Option<Uid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    count: Option<u32>,
    last_observed_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Source {
    component: Option<Text>,
}

impl From<EventJson> for EventRecord {
    fn from(event: EventJson) -> Self {
        let or_nothing = |text: Option<Text>| text.unwrap_or_else(|| "".into());
        let Involved { kind, namespace, name, uid } = event.involved_object;
        let (repeats, seen) = event.series.map_or((None, None), |s| (s.count, s.last_observed_time));
        let component = event.source.and_then(|s| s.component).filter(|c| !c.is_empty());
        Self {
            kind: or_nothing(kind.clone()),
            about: match kind.as_deref() {
                // A Node's Events lie in namespace `default`; the Node itself is in none.
                Some("Node") => ObjectKey { namespace: "".into(), name: or_nothing(name) },
                _ => ObjectKey { namespace: or_nothing(namespace), name: or_nothing(name) },
            },
            uid,
            warning: event.kind.as_deref() == Some("Warning"),
            reason: or_nothing(event.reason),
            message: or_nothing(event.message),
            count: repeats.or(event.count).unwrap_or(1).max(1),
            first: event.first_timestamp.or(event.event_time),
            last: seen.or(event.last_timestamp).or(event.event_time),
            source: or_nothing(component.or(event.reporting_component)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lines_time_is_read_in_any_zone_and_what_has_none_is_no_line() {
        let read = lines(
            "2026-11-20T19:11:13.401000001+09:00 E1120 first\n2026-11-20T10:11:14Z  second \n\
             2026-11-20T10:11:15.5Z\nunable to retriece container logs for containerd://0a\n"
                .as_bytes(),
        );
        let texts: Vec<_> = read.iter().map(|l| (l.time.to_string(), &*l.text)).collect();
        let expected = [
            ("2026-11-20T10:11:13.401000001Z".to_owned(), "E1120 first"),
            ("2026-11-20T10:11:14Z".to_owned(), " second"),
            ("2026-11-20T10:11:15.5Z".to_owned(), ""),
        ];
        assert_eq!(texts, expected);
    }
}
