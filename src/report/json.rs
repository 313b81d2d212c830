//! Events as JSON, one object a line: the contract's names, nothing that is not in it.

use serde::Serialize;
use serde_json::Value;

use crate::event::{Event, EventKind, VERSION};
use crate::model::Text;

#[derive(Serialize)]
struct Line<'a, K: Serialize> {
    v: u32,
    time: String,
    rotation: Option<&'a str>,
    #[serde(flatten)]
    kind: K,
}

#[derive(Serialize)]
struct WaitLine<'a> {
    kind: &'static str,
    subject: &'a crate::plan::Subject,
    #[serde(flatten)]
    reason: &'a crate::plan::WaitReason,
    culprit: String,
    since: Option<String>,
    until: Option<String>,
}

/// Writes events as lines; remembers the rotation's id.
#[derive(Debug, Default)]
pub struct JsonLines {
    rotation: Option<Text>,
}

impl JsonLines {
    /// The line of an event without its newline; `None` for those that only move bars.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        if let EventKind::RotationStarted { rotation, .. } = &event.kind {
            self.rotation = Some(rotation.clone());
        }
        let time = millis(event.time);
        let rotation = self.rotation.as_deref();
        let line = match &event.kind {
            EventKind::Progress { .. } | EventKind::Tick => return None,
            EventKind::Wait(wait) => {
                let kind = WaitLine {
                    kind: "wait",
                    subject: &wait.subject,
                    reason: &wait.reason,
                    culprit: wait.reason.to_string(),
                    since: wait.since.map(millis),
                    until: wait.until.map(millis),
                };
                serde_json::to_string(&Line { v: VERSION, time, rotation, kind })
            }
            kind => serde_json::to_string(&Line { v: VERSION, time, rotation, kind }),
        };
        // Every key is a string and no map is nested in a way JSON cannot hold, so this is unreachable; but a
        // report must never end a rotation.
        Some(line.unwrap_or_else(|e| Value::from(format!("failed to write an event: {e}")).to_string()))
    }
}

fn millis(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}
