//! What people and programs see: the table, the JSON schema, the picture.

use fastnode::model::*;
use fastnode::policy::Policy;
use fastnode::readiness::stages::{Boots, Measurement, NodeStart};
use fastnode::report::text::Paint;
use fastnode::report::{measure, picture};

use crate::build::{Came, at, with};
use crate::worlds::*;

const PLAIN: Paint = Paint { color: false };

/// `new-0` with a late proxy and the restart that it caused; old nodes whose DaemonSets were updated since, or that
/// differ in other ways.
fn snapshot() -> fastnode::observe::Snapshot {
    let proxy = Came::up("kube-proxy", 2, 35);
    let cni = Came::failing("aws-node", 1, (3, 33), 45, 50);
    let mut snapshot = with(51, &[proxy, cni, Came::up("ebs-csi-node", 4, 9)]);
    node_mut(&mut snapshot, "old-0").labels.insert("kubernetes.io/os".into(), "windows".into());
    for name in ["old-1", "old-2", "old-3"] {
        let set = daemonset("kube-system", "aws-node");
        let mut pod = daemon_pod(&set, &snapshot.nodes[&NodeName::from(name)]);
        pod.created = began();
        snapshot.pods.insert(pod.uid.clone(), pod.into());
    }
    add_second(&mut snapshot);
    snapshot.reindex();
    snapshot
}

/// Another new node in zone b, without restarts, whose aws-node has not become Ready yet.
fn add_second(snapshot: &mut fastnode::observe::Snapshot) {
    add_node(snapshot, "new-1", "b", "2", minute(3));
    let cni = pod_mut(snapshot, "pod-aws-node-new-1");
    cni.flags.ready = false;
}

fn measured() -> Measurement {
    // Of new-1 no Event is left.
    let boots = [("new-0".into(), vec![at(-3)])].into();
    Measurement::of(&Policy::default(), &snapshot(), &boots, now())
}

#[test]
fn the_table_tells_stages_sets_path_and_worth() {
    insta::assert_snapshot!(measure::text(&measured(), 80, PLAIN));
}

#[test]
fn a_comparison_is_told_below() {
    let snapshot = snapshot();
    let mut before = measured();
    for figures in [&mut before.all].into_iter().chain(before.groups.values_mut()) {
        figures.stages.values_mut().for_each(|s| s.seconds.p50 += 40.0);
        figures.restarts += 3;
    }
    let mut now = measured();
    now.compare(&before, &Policy::default(), &snapshot);
    let text = measure::text(&now, 80, PLAIN);
    insta::assert_snapshot!(text.split_once("  before:").unwrap().1);
}

#[test]
fn where_no_node_shows_its_start_that_is_said_with_what_helps() {
    let mut snapshot = world();
    let uids: Vec<Uid> = snapshot.pods.keys().cloned().collect();
    for uid in uids {
        pod_mut(&mut snapshot, uid.as_str()).created = now();
    }
    snapshot.reindex();
    let measured = Measurement::of(&Policy::default(), &snapshot, &Boots::new(), now());
    insta::assert_snapshot!(measure::text(&measured, 80, PLAIN));
    assert!(picture::svg(&measured).contains("no node shows how it started"));
}

#[test]
fn no_line_is_wider_than_asked() {
    let mut measured = measured();
    measured.cluster = "a-cluster-with-a-name-that-goes-on-and-on-and-on-and-on".into();
    for width in [40, 60, 80, 120] {
        for line in measure::text(&measured, width, PLAIN).lines() {
            assert!(line.chars().count() <= width, "{} columns in {width}: {line}", line.chars().count());
        }
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let text = measure::text(&measured(), 80, Paint { color: true });
    assert_eq!(console::strip_ansi_codes(&text), measure::text(&measured(), 80, PLAIN));
}

#[test]
fn the_schema_is_stable() {
    let mut measured = measured();
    measured.starts.truncate(1);
    measured.all.daemonsets.retain(|name, _| name.ends_with("kube-proxy"));
    // The other tables are of the same kind.
    for figures in [&mut measured.groups, &mut measured.zones, &mut measured.instance_types, &mut measured.templates] {
        figures.clear();
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&measured).unwrap());
}

#[test]
fn the_picture_has_a_row_a_node_spans_marks_legend_and_axis() {
    insta::assert_snapshot!(picture::svg(&measured()));
}

#[test]
fn names_in_the_picture_are_escaped_and_nothing_is_loaded_from_elsewhere() {
    let mut measured = measured();
    measured.cluster = "a<b>&\"c\"".into();
    for page in [picture::svg(&measured), picture::html(&measured)] {
        assert!(page.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !page.contains("a<b>"), "{page}");
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(["http", "<script", "@import", "url("].iter().all(|word| !elsewhere.contains(word)));
        for tag in ["svg", "text", "rect", "title"] {
            let (opened, closed) =
                (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            let alone = page.matches(&format!("<{tag} ")).filter(|_| tag == "rect").count();
            assert!(opened == closed || alone > 0, "{tag}: {opened} opened, {closed} closed");
        }
    }
}

#[test]
fn five_hundred_nodes_have_five_hundred_rows() {
    let mut measured = measured();
    let one = measured.starts[0].clone();
    measured.starts = (0..500).map(|n| NodeStart { node: format!("many-{n}").into(), ..one.clone() }).collect();
    let svg = picture::svg(&measured);
    assert_eq!(svg.matches(">many-").count(), 500);
}
