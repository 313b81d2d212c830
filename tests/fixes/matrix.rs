//! Every fix of the catalogue in every case: applied, there already in each form it may have, in another manager's
//! hands, on an add-on that EKS manages, taken back, and a rollout that does harm.

use std::collections::BTreeSet;
use std::time::Duration;

use fastnode::cloud::addons::{AddonChange, Addons};
use fastnode::cluster::manifests::{Manifests, Sending};
use fastnode::fixes::{Came, Catalogue, Course, Options, Proposal, State, Way};
use serde_json::{Value, json};

use crate::bench::{Bench, FAULTY, Seen, changes, is_applied, key, managed, on_virtual_time, with_elsewhere};

/// A way in words: what a user reads of it.
fn way(proposal: &Proposal) -> String {
    match (&proposal.way, &proposal.state) {
        (Some(way), _) => way.to_string(),
        (None, State::Present(how)) => format!("already there: {how}"),
        (None, State::Unfit(why)) => format!("does not apply: {why}"),
        (None, state) => format!("nothing to do: {state:?}"),
    }
}

/// A fix, and what is expected of it.
struct Row {
    fix: &'static str,
    set: &'static str,
    /// On a DaemonSet that nobody manages: the way, and lines of the diff; none where nothing can be applied.
    applied: (&'static str, &'static [&'static str]),
    /// The forms in which it may be there already: what is done to the cluster, and what is said then.
    there: &'static [(&'static str, Form, &'static str)],
    /// What another manager applies, and what is said then. With `--take-ownership` it goes all the same, unless the
    /// last says no.
    foreign: (fn() -> Value, &'static str, bool),
    /// What is said where EKS manages the DaemonSet as an add-on, and whether it can be done.
    managed: (&'static str, bool),
    /// It is taken back to what was there before; else what is said.
    back: Result<(), &'static str>,
}

/// A form in which a fix is there already.
enum Form {
    /// The scenario says so.
    Scenario(fn(&str) -> String),
    /// The pod template's spec is changed so.
    Template(fn(&mut Value)),
}
use Form::{Scenario, Template};

fn node_name(variable: &str) -> Value {
    json!({ "name": variable, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.nodeName" } } })
}

fn proxy(command: &[&str], args: &[&str], variable: &str) -> impl Fn(&mut Value) {
    let (command, args, variable) = (json!(command), json!(args), node_name(variable));
    move |pod| {
        let container = &mut pod["containers"][0];
        container["command"] = command.clone();
        if args != json!([]) {
            container["args"] = args.clone();
        }
        container["env"] = json!([variable]);
    }
}

fn init(command: &[&str]) -> impl Fn(&mut Value) {
    let own = json!({ "name": "own", "image": "busybox:1", "command": command });
    move |pod| match pod["initContainers"].as_array_mut() {
        Some(list) => list.push(own.clone()),
        None => pod["initContainers"] = json!([own]),
    }
}

fn endpoint(variable: Value) -> impl Fn(&mut Value) {
    move |pod| pod["containers"][0]["env"].as_array_mut().unwrap().push(variable.clone())
}

fn tolerating(tolerations: Value) -> impl Fn(&mut Value) {
    move |pod| pod["tolerations"] = tolerations.clone()
}

const SHELL: &[&str] = &["sh", "-c", "until nc -z $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT; do sleep 1; done"];
const LITERAL: &[&str] = &["sh", "-c", "until nc -z 172.20.0.1 443; do sleep 1; done"];
const NAMED: &[&str] = &["sh", "-c", "until curl -ks https://kubernetes.default.svc/livez; do sleep 1; done"];
const OWN: &[&str] = &["fastnode", "await", "tcp", "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"];
const OWN_FIXED: &[&str] = &["fastnode", "await", "tcp", "--fixed", "172.20.0.1:443"];

/// Waiters of any hand.
const WAITERS: [(&str, Form, &str); 5] = [
    ("a waiter of ours", Template(|pod| init(OWN)(pod)), "already there: init container own"),
    ("one with the address", Template(|pod| init(OWN_FIXED)(pod)), "already there: init container own"),
    ("a shell with the variable", Template(|pod| init(SHELL)(pod)), "already there: init container own"),
    ("a shell with the address", Template(|pod| init(LITERAL)(pod)), "already there: init container own"),
    ("a shell with the name", Template(|pod| init(NAMED)(pod)), "already there: init container own"),
];

/// The same of aws-node, which needs none of it where it knows the endpoint.
const CNI_WAITERS: [(&str, Form, &str); 6] = {
    let [a, b, c, d, e] = WAITERS;
    [a, b, c, d, e, ("the endpoint", Template(|pod| endpoint(url())(pod)), "already there: CLUSTER_ENDPOINT is set")]
};

fn url() -> Value {
    json!({ "name": "CLUSTER_ENDPOINT", "value": "https://a.test" })
}

/// A manifest that somebody else applies.
fn of(set: &str, pod: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": set, "namespace": "kube-system" },
        "spec": { "template": { "spec": pod } } })
}

fn leftover(set: &str, name: &str) -> Value {
    of(set, json!({ "initContainers": [{ "name": name, "image": "busybox:1", "command": ["true"] }] }))
}

const TAKEN: &str = "argocd sets spec.template.spec.";

fn rows() -> [Row; 8] {
    [
        Row {
            fix: "kube-proxy-hostname-override",
            set: "kube-proxy",
            applied: (
                "a patch of what kubectl-client-side-apply set",
                &["+        - --hostname-override=$(NODE_NAME)", "+        - name: NODE_NAME"],
            ),
            there: &[
                (
                    "one word",
                    Template(|pod| proxy(&["kube-proxy", "--hostname-override=$(NODE_NAME)"], &[], "NODE_NAME")(pod)),
                    "already there: --hostname-override=$(NODE_NAME), from spec.nodeName",
                ),
                (
                    "two words",
                    Template(|pod| {
                        proxy(&["kube-proxy", "--hostname-override", "$(NODE_NAME)"], &[], "NODE_NAME")(pod)
                    }),
                    "already there: --hostname-override=$(NODE_NAME)",
                ),
                (
                    "another variable, in args",
                    Template(|pod| proxy(&["kube-proxy"], &["--hostname-override=$(MY_NODE)"], "MY_NODE")(pod)),
                    "already there: --hostname-override=$(MY_NODE)",
                ),
                (
                    "a shell",
                    Template(|pod| {
                        let script = "exec kube-proxy --hostname-override=\"${MY_NODE}\" --v=2";
                        proxy(&["/bin/sh", "-c", script], &[], "MY_NODE")(pod);
                    }),
                    "already there: --hostname-override=${MY_NODE}",
                ),
                (
                    "the configuration file",
                    Scenario(|text| format!("proxy_config = {{ hostnameOverride = '$(NODE_NAME)' }}\n{text}")),
                    "already there: hostnameOverride: $(NODE_NAME) in config of ConfigMap kube-system/kube-proxy-config",
                ),
            ],
            foreign: (
                || of("kube-proxy", json!({ "containers": [{ "name": "kube-proxy", "command": ["kube-proxy"] }] })),
                "argocd sets spec.template.spec.containers[kube-proxy].command by server-side apply",
                true,
            ),
            managed: (
                "EKS manages spec.template.spec.containers[kube-proxy].command with the add-on kube-proxy",
                false,
            ),
            back: Ok(()),
        },
        Row {
            fix: "aws-node-wait",
            set: "aws-node",
            applied: (
                "server-side apply of keys that nobody owns",
                &["+        - $(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"],
            ),
            there: &CNI_WAITERS,
            foreign: (|| leftover("aws-node", "fastnode-wait-aws-node"), TAKEN, true),
            managed: ("server-side apply of keys that nobody owns", true),
            back: Ok(()),
        },
        Row {
            fix: "aws-node-wait-address",
            set: "aws-node",
            applied: ("server-side apply of keys that nobody owns", &["+        - 172.20.0.1:443"]),
            there: &CNI_WAITERS,
            foreign: (|| leftover("aws-node", "fastnode-wait-aws-node-wait-address"), TAKEN, true),
            managed: ("server-side apply of keys that nobody owns", true),
            back: Ok(()),
        },
        Row {
            fix: "cluster-endpoint",
            set: "aws-node",
            applied: (
                "server-side apply of keys that nobody owns",
                &["+        - name: CLUSTER_ENDPOINT", "+          value: https://simulated.invalid"],
            ),
            there: &[
                ("a value", Template(|pod| endpoint(url())(pod)), "already there: CLUSTER_ENDPOINT is set"),
                (
                    "a reference",
                    Template(|pod| {
                        let from = json!({ "configMapKeyRef": { "name": "cluster", "key": "endpoint" } });
                        endpoint(json!({ "name": "CLUSTER_ENDPOINT", "valueFrom": from }))(pod);
                    }),
                    "already there: CLUSTER_ENDPOINT is set",
                ),
                (
                    "a whole ConfigMap",
                    Template(|pod| {
                        let from = json!({ "prefix": "CLUSTER_", "configMapRef": { "name": "cluster-facts" } });
                        pod["containers"][0]["envFrom"] = json!([from]);
                    }),
                    "already there: CLUSTER_ENDPOINT is set by ConfigMap kube-system/cluster-facts",
                ),
            ],
            foreign: (
                || {
                    let empty = json!({ "name": "CLUSTER_ENDPOINT", "value": "" });
                    of("aws-node", json!({ "containers": [{ "name": "aws-node", "env": [empty] }] }))
                },
                TAKEN,
                true,
            ),
            managed: ("configuration values of the add-on vpc-cni", true),
            back: Ok(()),
        },
        Row {
            fix: "wait-for:kube-system/kiam-agent",
            set: "kiam-agent",
            applied: (
                "server-side apply of keys that nobody owns",
                &["+        - $(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)"],
            ),
            there: &WAITERS,
            foreign: (|| leftover("kiam-agent", "fastnode-wait-for"), TAKEN, true),
            // EKS has no such add-on: it is as it is elsewhere.
            managed: ("server-side apply of keys that nobody owns", true),
            back: Ok(()),
        },
        Row {
            // A driver that does not tolerate its taint yet.
            fix: "startup-taint:kube-system/ebs-csi-node",
            set: "ebs-csi-node",
            applied: (
                "a patch of what kubectl-client-side-apply set",
                &["+        key: ebs.csi.aws.com/agent-not-ready"],
            ),
            // What is there is the toleration; the taint itself is left to do by hand, whoever tolerates it.
            there: &[
                (
                    "everything",
                    Template(|pod| tolerating(json!([{ "operator": "Exists" }]))(pod)),
                    "by hand: kube-system/ebs-csi-node takes ebs.csi.aws.com/agent-not-ready:NoExecute off a node itself",
                ),
                (
                    "every effect",
                    Template(|pod| {
                        tolerating(json!([{ "key": "ebs.csi.aws.com/agent-not-ready", "operator": "Exists" }]))(pod);
                    }),
                    "by hand: ",
                ),
                (
                    "its value",
                    Template(|pod| {
                        let taint = json!({ "key": "ebs.csi.aws.com/agent-not-ready", "operator": "Equal",
                            "value": "true", "effect": "NoExecute" });
                        tolerating(json!([taint]))(pod);
                    }),
                    "by hand: ",
                ),
                (
                    "for a while",
                    Template(|pod| {
                        let a_while = json!({ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
                        tolerating(json!([a_while]))(pod);
                    }),
                    "by hand: ",
                ),
            ],
            foreign: (
                || of("ebs-csi-node", json!({ "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }] })),
                "argocd sets spec.template.spec.tolerations by server-side apply",
                true,
            ),
            managed: ("EKS manages spec.template.spec.tolerations with the add-on aws-ebs-csi-driver", false),
            back: Ok(()),
        },
        Row {
            fix: "addon-update:kube-system/kube-proxy",
            set: "kube-proxy",
            applied: ("does not apply: EKS does not manage kube-system/kube-proxy as an add-on", &[]),
            there: &[
                (
                    "the default version",
                    Scenario(|text| old_addon(text).replace("v1.23.8-eksbuild.2", "v1.24.0-eksbuild.2")),
                    "already there: kube-proxy is at v1.24.0-eksbuild.2",
                ),
                (
                    "a newer one",
                    Scenario(|text| old_addon(text).replace("v1.23.8-eksbuild.2", "v1.24.3-eksbuild.2")),
                    "already there: kube-proxy is at v1.24.3-eksbuild.2",
                ),
            ],
            // It is not a field that somebody owns: EKS preserves what others have changed, and says so by its version.
            foreign: (
                || of("kube-proxy", json!({ "containers": [{ "name": "kube-proxy", "command": ["kube-proxy"] }] })),
                "update of the add-on kube-proxy from v1.23.8-eksbuild.2 to v1.24.0-eksbuild.2",
                true,
            ),
            managed: ("update of the add-on kube-proxy from v1.23.8-eksbuild.2 to v1.24.0-eksbuild.2", true),
            back: Err("an add-on's older version is no way back"),
        },
        Row {
            fix: "wait-for:kube-system/aws-node",
            set: "aws-node",
            applied: ("server-side apply of keys that nobody owns", &["+        name: fastnode-wait-for"]),
            there: &WAITERS,
            foreign: (|| leftover("aws-node", "fastnode-wait-for"), TAKEN, true),
            managed: ("server-side apply of keys that nobody owns", true),
            back: Ok(()),
        },
    ]
}

/// kube-proxy as an add-on of an older version.
fn old_addon(text: &str) -> String {
    text.replace("name = 'kube-proxy'\n", "name = 'kube-proxy'\naddon = true\nversion = 'v1.23.8-eksbuild.2'\n")
}

/// The cluster on which a row's fix is missing, and can be applied where it can at all.
fn lacking(row: &Row) -> String {
    let text = FAULTY.replace("name = 'ebs-csi-node'\ncritical = true", "name = 'ebs-csi-node'");
    if row.fix.starts_with("addon-update") { old_addon(&text) } else { text }
}

/// With new pods of the row's DaemonSet that never start: they come after one that no node of the group has.
fn harmful(row: &Row) -> String {
    let name = format!("name = '{}'\n", row.set);
    with_elsewhere(&lacking(row)).replace(&name, &format!("{name}after = ['aside']\n"))
}

fn annotation(object: &Value, row: &Row) -> Value {
    let fix = row.fix.split(':').next().unwrap();
    object["metadata"]["annotations"][format!("fastnode.dev/fix-{fix}")].clone()
}

/// What people write of an object.
fn written(object: &Value) -> (&Value, &Value) {
    (&object["spec"], &object["metadata"]["annotations"])
}

async fn change(bench: &Bench, row: &Row, change: fn(&mut Value)) {
    let mut pod = bench.read(row.set).await["spec"]["template"]["spec"].clone();
    change(&mut pod);
    let patch = json!([{ "op": "replace", "path": "/spec/template/spec", "value": pod }]);
    bench.sim.cluster.patch_daemonset(&key(row.set), &patch, Sending::default()).await.unwrap();
}

#[test]
fn the_table_has_every_fix_of_the_catalogue() {
    let all = Catalogue::shipped().unwrap();
    let known: BTreeSet<&str> = all.iter().map(|fix| fix.fix.as_str()).collect();
    let rows = rows();
    let told: BTreeSet<&str> = rows.iter().map(|row| row.fix.split(':').next().unwrap()).collect();
    assert_eq!(told, known);
}

#[test]
fn applied() {
    on_virtual_time(async || {
        for row in rows() {
            let text = if row.applied.1.is_empty() { FAULTY.to_owned() } else { lacking(&row) };
            let bench = Bench::new(&text, &[]);
            let (words, lines) = row.applied;
            let proposal = bench.propose(row.fix).await;
            assert!(way(&proposal).starts_with(words), "{}: {}", row.fix, way(&proposal));
            let shown = changes(&proposal.diff);
            lines.iter().for_each(|line| assert!(shown.contains(line), "{}: {line} in\n{}", row.fix, proposal.diff));
            if !proposal.is_open() {
                assert!(lines.is_empty() && bench.remedy.apply(&proposal).await.is_ok(), "{}", row.fix);
                continue;
            }
            let seen = Seen::begin(&bench.sim).await;
            let course = Course { remedy: &bench.remedy, onlooker: &seen, patience: Duration::from_secs(300) };
            assert_eq!(course.apply(&proposal).await.unwrap(), Came::InPlace(3), "{}", row.fix);
            assert!(is_applied(&bench.propose(row.fix).await), "{}", row.fix);
        }
    });
}

#[test]
fn already_there() {
    on_virtual_time(async || {
        for row in rows() {
            assert!(!row.there.is_empty(), "{}", row.fix);
            for (what, form, words) in row.there {
                let bench = match form {
                    Scenario(scenario) => Bench::new(&scenario(FAULTY), &[]),
                    Template(_) => Bench::new(&lacking(&row), &[]),
                };
                bench.sim.put_config_map(&key("cluster-facts"), [("ENDPOINT", "https://a.test")]);
                if let Template(template) = form {
                    change(&bench, &row, *template).await;
                }
                let before = bench.read(row.set).await;
                let proposal = bench.propose(row.fix).await;
                assert!(way(&proposal).starts_with(words), "{}, {what}: {}", row.fix, way(&proposal));
                assert!(!proposal.is_open() && proposal.diff.is_empty(), "{}, {what}", row.fix);
                let _ = bench.remedy.apply(&proposal).await;
                assert_eq!(written(&bench.read(row.set).await), written(&before), "{}, {what}", row.fix);
                let back = bench.no_way_back(row.fix).await;
                assert!(back.contains("not applied to"), "{}, {what}: {back}", row.fix);
            }
        }
    });
}

#[test]
fn in_another_managers_hands() {
    on_virtual_time(async || {
        for row in rows() {
            let bench = Bench::new(&lacking(&row), &[]);
            let (manifest, words, taken) = row.foreign;
            bench.sim.apply_as("argocd", &key(row.set), &manifest()).unwrap();
            let before = bench.read(row.set).await;
            let proposal = bench.propose(row.fix).await;
            assert!(way(&proposal).contains(words), "{}: {}", row.fix, way(&proposal));
            if proposal.is_open() {
                // What nobody sets again is not in the way.
                assert!(row.fix.starts_with("addon-update"), "{}", row.fix);
                continue;
            }
            assert!(way(&proposal).starts_with("not possible so: "), "{}", way(&proposal));
            let error = bench.remedy.apply(&proposal).await.unwrap_err().to_string();
            assert!(error.contains("argocd") && error.contains("--take-ownership"), "{error}");
            assert_eq!(written(&bench.read(row.set).await), written(&before), "{}", row.fix);
            assert!(taken);
            let taking = Options { take_ownership: true, ..Options::default() };
            let proposal = bench.apply(row.fix, taking).await;
            assert!(matches!(&proposal.way, Some(Way::TakeOver { owners }) if owners.contains(&"argocd".to_owned())));
            bench.revert(row.fix).await;
            assert_eq!(bench.read(row.set).await["spec"], before["spec"], "{}", row.fix);
            // What is put back is nobody's: Argo CD's next sync meets no conflict with us.
            let after = bench.read(row.set).await;
            let ours = after["metadata"]["managedFields"].as_array().unwrap().iter();
            assert_eq!(ours.filter(|entry| entry["manager"] == "fastnode").count(), 0, "{}: {after}", row.fix);
        }
    });
}

#[test]
fn an_addon_that_is_being_updated_is_left() {
    on_virtual_time(async || {
        let row = &rows()[6];
        let bench = Bench::new(&lacking(row), &[]);
        let change = AddonChange { configuration: Some(r#"{"mode":"iptables"}"#.into()), version: None };
        bench.sim.cloud.update_addon("test", "kube-proxy", &change).await.unwrap();
        let proposal = bench.propose(row.fix).await;
        assert_eq!(way(&proposal), "not possible so: kube-proxy is being updated by somebody right now");
        assert!(bench.remedy.apply(&proposal).await.is_err());
    });
}

#[test]
fn on_an_addon_that_eks_manages() {
    on_virtual_time(async || {
        for row in rows() {
            let drivers = managed().replace(
                "name = 'ebs-csi-node'\ncritical = true",
                "name = 'ebs-csi-node'\naddon = true\nversion = 'v1.35.0-eksbuild.1'",
            );
            let bench = if row.fix.starts_with("addon-update") { lacking(&row) } else { drivers };
            let bench = Bench::new(&bench, &[]);
            let before = bench.read(row.set).await;
            let (words, open) = row.managed;
            let proposal = bench.propose(row.fix).await;
            assert!(way(&proposal).contains(words), "{}: {}", row.fix, way(&proposal));
            assert_eq!(proposal.is_open(), open, "{}", row.fix);
            if !open {
                assert!(way(&proposal).contains("fastnode fix addon-update:"), "{}", way(&proposal));
                assert!(bench.remedy.apply(&proposal).await.is_err());
                assert_eq!(written(&bench.read(row.set).await), written(&before));
                continue;
            }
            bench.remedy.apply(&proposal).await.unwrap();
            let after = bench.propose(row.fix).await;
            assert!(is_applied(&after) && after.way.is_none(), "{}: {:?}", row.fix, after.state);
            // What EKS owns it still owns.
            let owner = |object: &Value| {
                let all = object["metadata"]["managedFields"].as_array().unwrap().clone();
                all.into_iter().find(|entry| entry["manager"] == "eks")
            };
            assert_eq!(owner(&before).is_some(), owner(&bench.read(row.set).await).is_some(), "{}", row.fix);
        }
    });
}

#[test]
fn taken_back() {
    on_virtual_time(async || {
        for row in rows() {
            let bench = Bench::new(&lacking(&row), &[]);
            let before = bench.read(row.set).await;
            bench.apply(row.fix, Options::default()).await;
            let applied = bench.read(row.set).await;
            assert!(annotation(&applied, &row).is_string(), "{}", row.fix);
            match row.back {
                Err(why) => {
                    assert!(bench.no_way_back(row.fix).await.contains(why), "{}", row.fix);
                    assert_eq!(bench.read(row.set).await["spec"], applied["spec"]);
                }
                Ok(()) => {
                    bench.revert(row.fix).await;
                    let after = bench.read(row.set).await;
                    assert_eq!(after["spec"], before["spec"], "{}", row.fix);
                    assert_eq!(annotation(&after, &row), Value::Null, "{}", row.fix);
                    assert_eq!(bench.propose(row.fix).await.state, State::Missing, "{}", row.fix);
                }
            }
        }
    });
}

#[test]
fn a_rollout_that_does_harm() {
    on_virtual_time(async || {
        for row in rows() {
            let bench = Bench::new(&harmful(&row), &[]);
            let before = bench.read(row.set).await;
            let seen = Seen::begin(&bench.sim).await;
            let course = Course { remedy: &bench.remedy, onlooker: &seen, patience: Duration::from_secs(60) };
            let proposal = bench.propose(row.fix).await;
            let came = course.apply(&proposal).await.unwrap();
            let Came::Harm { why, back } = &came else { panic!("{}: {came:?}", row.fix) };
            assert!(why.contains(&format!("kube-system/{}", row.set)) && why.contains("not ready 1m"), "{why}");
            let after = bench.read(row.set).await;
            match row.back {
                Err(refusal) => {
                    assert!(matches!(back, Err(said) if said.contains(refusal)), "{}: {back:?}", row.fix);
                    assert!(annotation(&after, &row).is_string());
                }
                Ok(()) => {
                    assert!(back.is_ok(), "{}: {back:?}", row.fix);
                    assert_eq!(after["spec"], before["spec"], "{}", row.fix);
                    assert_eq!(annotation(&after, &row), Value::Null, "{}", row.fix);
                }
            }
        }
    });
}
