//! A group as a case wants it, made in either world.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use fastnode::model::InstanceId;
use serde::{Deserialize, Serialize};

/// A group, and what goes wrong with it. It is in a cluster of its own name.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    pub name: &'static str,
    pub nodes: u32,
    pub min: u32,
    pub max: u32,
    pub zones: Vec<&'static str>,
    /// The first so many nodes are on version 1 of the template, of which 2 is the latest and the default.
    pub outdated: u32,
    pub version: &'static str,
    pub types: Vec<&'static str>,
    pub protected: bool,
    pub suspended: Vec<&'static str>,
    pub warm: u32,
    pub standby: u32,
    pub detaching: u32,
    /// Seconds until somebody completes the hook.
    pub launch_hook: Option<f64>,
    pub terminate_hook: Option<f64>,
    /// Zones that launch nothing, and until when, in seconds from the start.
    pub no_capacity: Vec<(&'static str, Option<f64>)>,
    /// The answer of the first call of this operation is lost.
    #[serde(skip)]
    pub lost_reply: Option<&'static str>,
}

impl Setup {
    /// Three nodes in one zone, all on the latest version.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            nodes: 3,
            min: 0,
            max: 6,
            zones: vec!["us-west-2a"],
            outdated: 0,
            version: "$Latest",
            types: vec!["m5.large"],
            protected: false,
            suspended: Vec::new(),
            warm: 0,
            standby: 0,
            detaching: 0,
            launch_hook: None,
            terminate_hook: None,
            no_capacity: Vec::new(),
            lost_reply: None,
        }
    }

    /// The same in the three zones a, b and c.
    pub fn zonal(name: &'static str) -> Self {
        Self { zones: vec!["us-west-2a", "us-west-2b", "us-west-2c"], ..Self::new(name) }
    }

    /// As a scenario of the simulator, whose times are the engine's.
    pub fn scenario(&self) -> String {
        let mut text = format!(
            "name = '{0}'\nabout = 'a case'\ncluster = '{0}'\ndaemonsets = []\n\
             [times]\nreaction_s = [0.3, 0.05]\nin_service_s = [0.7, 0.1]\nboot_s = [4.0, 0.3]\n\
             terminate_s = [2.5, 0.2]\nnode_gone_s = [0.1, 0.0]\naws_ms = [1.0, 5.0]\n\
             [[groups]]\nname = '{0}'\nnodes = {1}\nmin = {2}\nmax = {3}\nzones = {4:?}\noutdated = {5}\n\
             version = '{6}'\ninstance_types = {7:?}\nprotected = {8}\nsuspended = {9:?}\nwarm = {10}\n\
             standby = {11}\ndetaching = {12}\n",
            self.name,
            self.nodes,
            self.min,
            self.max,
            self.zones,
            self.outdated,
            self.version,
            self.types,
            self.protected,
            self.suspended,
            self.warm,
            self.standby,
            self.detaching,
        );
        for (key, hook) in [("launch_hook_s", self.launch_hook), ("terminate_hook_s", self.terminate_hook)] {
            if let Some(seconds) = hook {
                let _ = writeln!(text, "{key} = [{seconds:.1}, 0.0]");
            }
        }
        if self.lost_reply.is_some() {
            text += "[faults]\nlost_replies = 1.0\n";
        }
        for (zone, until) in &self.no_capacity {
            let until = until.map_or(String::new(), |until| format!("until_s = {until:.1}\n"));
            let _ = write!(text, "[[faults.no_capacity]]\nzone = '{zone}'\n{until}");
        }
        text
    }

    /// Made by the engine at `endpoint`; its warm instances.
    pub fn make(&self, endpoint: &str) -> Vec<InstanceId> {
        #[derive(Deserialize)]
        struct Made {
            instances: Vec<InstanceId>,
            warm: Vec<InstanceId>,
        }
        let made: Made = post(endpoint, "/fnstack/groups", &serde_json::to_string(self).unwrap());
        if let Some(operation) = self.lost_reply {
            // A call names its group, or the one instance it is about.
            let named = made.instances.iter().map(|id| id.as_str()).chain([self.name]);
            let fault =
                |only: &str| serde_json::json!({"operation": operation, "drop": true, "count": 1, "only": only});
            let faults: serde_json::Value = named.map(fault).collect();
            let _: serde_json::Value = post(endpoint, "/fnstack/faults", &faults.to_string());
        }
        made.warm
    }
}

/// Posts JSON to the harness's own endpoint, which speaks plain HTTP on loopback.
fn post<T: for<'de> Deserialize<'de>>(endpoint: &str, path: &str, body: &str) -> T {
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap_or_else(|e| panic!("failed to reach the engine at {host}: {e}"));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}
