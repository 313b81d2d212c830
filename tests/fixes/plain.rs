//! On a cluster whose DaemonSets nobody manages: applied, already there, taken back, and the diff that was shown.

use fastnode::cluster::manifests::{Manifests, Sending};
use fastnode::fixes::{Options, State, Way, diff};
use serde_json::{Value, json};

use crate::bench::{Bench, FAULTY, changes, is_applied, key, on_virtual_time};

const OWN: &str = "
fix: kiam-ready
summary: kiam-agent starts once its rule and the CNI's file are there
reason: it needs both
target: { daemonset: kube-system/kiam-agent }
patch:
  wait:
    for:
      - file: /etc/cni/net.d/10-aws.conflist
      - iptables: -A PREROUTING -d 169.254.169.254/32
      - node-condition: NetworkUnavailable=False
    timeout: 3m
revert: restore
";

/// Every fix of a DaemonSet's own spec, and its target.
const FIXES: [(&str, &str); 6] = [
    ("kube-proxy-hostname-override", "kube-proxy"),
    ("aws-node-wait", "aws-node"),
    ("aws-node-wait-address", "aws-node"),
    ("cluster-endpoint", "aws-node"),
    ("wait-for:kiam-agent", "kiam-agent"),
    ("kiam-ready", "kiam-agent"),
];

#[test]
fn each_is_applied_by_exactly_the_diff_that_was_shown_and_its_way_back_leaves_the_spec_as_it_was() {
    on_virtual_time(async || {
        for (fix, set) in FIXES {
            let bench = Bench::new(FAULTY, &[OWN]);
            let before = bench.read(set).await;
            let proposal = bench.apply(fix, Options::default()).await;
            assert_eq!(proposal.state, State::Missing, "{fix}");
            let after = bench.read(set).await;
            assert_eq!(diff::objects(&key(set).to_string(), &before, &after), proposal.diff, "{fix}");
            assert!(is_applied(&bench.propose(fix).await), "{fix}");
            let undo = bench.remedy.propose_revert(fix).await.unwrap();
            bench.remedy.revert(&undo).await.unwrap();
            let back = bench.read(set).await;
            assert_eq!(back["spec"], before["spec"], "{fix}");
            assert_eq!(diff::objects(&key(set).to_string(), &before, &back), "", "{fix}");
            assert_eq!(diff::objects(&key(set).to_string(), &after, &back), undo.diff, "{fix}");
            assert_eq!(bench.propose(fix).await.state, State::Missing, "{fix}");
        }
    });
}

#[test]
fn what_is_applied_is_applied_once() {
    on_virtual_time(async || {
        for (fix, set) in FIXES {
            let bench = Bench::new(FAULTY, &[OWN]);
            bench.apply(fix, Options::default()).await;
            let applied = bench.read(set).await;
            let again = bench.propose(fix).await;
            assert_eq!((again.way.clone(), again.diff.as_str()), (None, ""), "{fix}");
            bench.remedy.apply(&again).await.unwrap();
            assert_eq!(bench.read(set).await["metadata"]["generation"], applied["metadata"]["generation"], "{fix}");
        }
    });
}

#[test]
fn what_somebody_else_has_brought_in_is_left_as_it_is() {
    on_virtual_time(async || {
        let sound = FAULTY.replace("hostname_override = false", "").replace("makes_ready", "waits = true\nmakes_ready");
        let bench = Bench::new(&sound, &[]);
        for (fix, form) in [
            ("kube-proxy-hostname-override", "--hostname-override=$(NODE_NAME)"),
            ("aws-node-wait", "init container"),
            ("aws-node-wait-address", "init container"),
        ] {
            let proposal = bench.propose(fix).await;
            assert!(
                matches!(&proposal.state, State::Present(how) if how.contains(form)),
                "{fix}: {:?}",
                proposal.state
            );
            assert_eq!(proposal.way, None);
            assert!(bench.no_way_back(fix).await.contains("not applied"), "{fix}");
        }
    });
}

#[test]
fn what_somebody_has_changed_since_is_not_taken_back() {
    on_virtual_time(async || {
        for (fix, set) in FIXES {
            let bench = Bench::new(FAULTY, &[OWN]);
            let proposal = bench.apply(fix, Options::default()).await;
            let applied = bench.read(set).await;
            let containers = "/spec/template/spec/containers/0";
            let inits = applied["spec"]["template"]["spec"]["initContainers"].as_array().map_or(0, Vec::len);
            let (path, value) = match (fix, proposal.remedial.fix.patch) {
                ("kube-proxy-hostname-override", _) => {
                    (format!("{containers}/command"), json!(["kube-proxy", "--v=4"]))
                }
                ("cluster-endpoint", _) => {
                    let env = applied["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
                    let at = env.iter().position(|variable| variable["name"] == "CLUSTER_ENDPOINT").unwrap();
                    (format!("{containers}/env/{at}/value"), json!("https://elsewhere.test"))
                }
                _ => (format!("/spec/template/spec/initContainers/{}/image", inits - 1), json!("fastnode:9")),
            };
            let patch = json!([{ "op": "replace", "path": path, "value": value }]);
            bench.sim.cluster.patch_daemonset(&key(set), &patch, Sending::default()).await.unwrap();
            let changed = bench.read(set).await;
            assert!(bench.no_way_back(fix).await.contains("has been changed since"), "{fix}");
            assert_eq!(bench.read(set).await["spec"], changed["spec"], "{fix}");
        }
    });
}

#[test]
fn nothing_is_written_on_an_object_that_is_not_the_one_of_the_diff() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let proposal = bench.propose("aws-node-wait").await;
        bench.apply("cluster-endpoint", Options::default()).await;
        let error = bench.remedy.apply(&proposal).await.unwrap_err().to_string();
        assert!(error.contains("has changed since the diff was made"), "{error}");
        let undo = bench.remedy.propose_revert("cluster-endpoint").await.unwrap();
        bench.revert("cluster-endpoint").await;
        let error = bench.remedy.revert(&undo).await.unwrap_err().to_string();
        assert!(error.contains("has changed since the diff was made"), "{error}");
    });
}

#[test]
fn two_fixes_of_one_object_leave_each_other_alone() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let before = bench.read("aws-node").await;
        bench.apply("aws-node-wait", Options::default()).await;
        let with_one = bench.read("aws-node").await;
        bench.apply("cluster-endpoint", Options::default()).await;
        assert!(is_applied(&bench.propose("aws-node-wait").await));
        bench.revert("cluster-endpoint").await;
        assert_eq!(bench.read("aws-node").await["spec"], with_one["spec"]);
        bench.revert("aws-node-wait").await;
        assert_eq!(bench.read("aws-node").await["spec"], before["spec"]);
    });
}

#[test]
fn a_waiter_holds_no_shell_and_says_what_it_waits_for() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[OWN]);
        bench.apply("kiam-ready", Options::default()).await;
        let spec = bench.read("kiam-agent").await["spec"]["template"]["spec"].clone();
        let inits = spec["initContainers"].as_array().unwrap();
        let commands: Vec<String> = inits
            .iter()
            .map(|init| {
                init["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            commands,
            [
                "fastnode await file /etc/cni/net.d/10-aws.conflist --timeout 3m",
                "fastnode await iptables -A PREROUTING -d 169.254.169.254/32 --timeout 3m",
                "fastnode await condition NetworkUnavailable=False --node $(NODE_NAME) --timeout 3m",
            ]
        );
        assert_eq!(inits[0]["volumeMounts"][0]["mountPath"], "/etc/cni/net.d");
        assert_eq!(spec["volumes"][0]["hostPath"]["path"], "/etc/cni/net.d");
        assert_eq!(inits[1]["securityContext"]["capabilities"]["add"], json!(["NET_ADMIN", "NET_RAW"]));
        let names: Vec<&Value> = inits.iter().map(|init| &init["name"]).collect();
        assert_eq!(names, ["fastnode-wait-kiam-ready", "fastnode-wait-kiam-ready-2", "fastnode-wait-kiam-ready-3"]);
    });
}

#[test]
fn the_fixed_address_is_that_of_the_service() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let proposal = bench.propose("aws-node-wait-address").await;
        assert!(changes(&proposal.diff).contains(&"+        - 172.20.0.1:443"), "{}", proposal.diff);
        assert!(changes(&proposal.diff).contains(&"+        - --fixed"), "{}", proposal.diff);
    });
}

#[test]
fn a_startup_taint_is_for_the_bootstrap_and_its_toleration_for_the_driver() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let (fix, set) = ("startup-taint:ebs-csi-node", "ebs-csi-node");
        let before = bench.read(set).await;
        let proposal = bench.propose(fix).await;
        assert!(matches!(&proposal.way, Some(Way::ByHand { what }) if what.contains("launch template")));
        assert!(!proposal.is_open());
        let texts: Vec<&str> = proposal.snippets.iter().map(|snippet| snippet.text.as_str()).collect();
        let node_config: Value = serde_saphyr::from_str(texts[0]).unwrap();
        let flag = "--register-with-taints=ebs.csi.aws.com/agent-not-ready=true:NoExecute";
        assert_eq!(node_config["spec"]["kubelet"]["flags"], json!([flag]));
        let settings: toml::Table = texts[1].parse().unwrap();
        let taints = &settings["settings"]["kubernetes"]["node-taints"]["ebs.csi.aws.com/agent-not-ready"];
        assert_eq!(taints.as_array().unwrap()[0].as_str(), Some("true:NoExecute"));
        assert!(texts[2].contains(&format!("--kubelet-extra-args '{flag}'")));
        let taint: Value = serde_json::from_str(texts[3]).unwrap();
        assert_eq!(taint["effect"], "NO_EXECUTE");
        assert_eq!(bench.read(set).await["spec"], before["spec"]);
        let unknown = bench.propose("startup-taint:kiam-agent").await;
        assert!(matches!(&unknown.state, State::Unfit(why) if why.contains("ebs-csi-node")), "{:?}", unknown.state);
    });
}

#[test]
fn a_startup_taint_that_would_keep_nodes_from_being_ready_is_refused() {
    on_virtual_time(async || {
        // Its CNI tolerates what keeps pods away, not what evicts them.
        let text = FAULTY.replace("name = 'aws-node'\ncritical = true", "name = 'aws-node'");
        let proposal = Bench::new(&text, &[]).propose("startup-taint:ebs-csi-node").await;
        assert!(
            matches!(&proposal.state, State::Unfit(why) if why.starts_with("kube-system/aws-node does not tolerate")),
            "{:?}",
            proposal.state
        );
        assert!(proposal.snippets.is_empty());
    });
}

#[test]
fn what_is_not_there_or_does_not_fit_is_said_and_left() {
    on_virtual_time(async || {
        let bench = Bench::new(
            &FAULTY.replace("name = 'kube-proxy'", "name = 'other'").replace("needs = 'kube-proxy'", ""),
            &[],
        );
        for (fix, word) in [
            ("kube-proxy-hostname-override", "there is no DaemonSet kube-system/kube-proxy"),
            ("aws-node-wait", "there is no kube-proxy here"),
            ("addon-update:aws-node", "EKS does not manage kube-system/aws-node"),
        ] {
            let proposal = bench.propose(fix).await;
            assert!(matches!(&proposal.state, State::Unfit(why) if why.contains(word)), "{fix}: {:?}", proposal.state);
            assert!(!proposal.is_open());
        }
    });
}

#[test]
fn new_nodes_alone_take_it_up_until_it_is_settled() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let before = bench.read("aws-node").await;
        let options = Options { on_new_nodes_only: true, ..Options::default() };
        bench.apply("aws-node-wait", options.clone()).await;
        assert_eq!(bench.read("aws-node").await["spec"]["updateStrategy"]["type"], "OnDelete");
        assert_eq!(bench.remedy.propose("aws-node-wait", &options).await.unwrap().way, None);
        assert_eq!(bench.apply("aws-node-wait", Options::default()).await.way, Some(Way::Settle));
        let settled = bench.read("aws-node").await;
        assert_eq!(settled["spec"]["updateStrategy"], before["spec"]["updateStrategy"]);
        assert!(is_applied(&bench.propose("aws-node-wait").await));
        bench.revert("aws-node-wait").await;
        assert_eq!(bench.read("aws-node").await["spec"], before["spec"]);
        // And back at once, unsettled.
        bench.apply("aws-node-wait", options.clone()).await;
        bench.revert("aws-node-wait").await;
        assert_eq!(bench.read("aws-node").await["spec"], before["spec"]);
    });
}
