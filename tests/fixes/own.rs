//! Fixes of the user's own, and what is wrong with some: refused in clear words, with nothing half-applied.

use std::path::Path;
use std::rc::Rc;

use fastnode::cloud::Cloud;
use fastnode::cloud::addons::Addons;
use fastnode::fixes::{Catalogue, Options, Remedy, State, Way};
use serde_json::Value;

use crate::bench::{Bench, FAULTY, managed, on_virtual_time};

/// A file that is whole but for one line.
fn file(line: &str) -> String {
    let usual = [
        ("fix:", "fix: mine"),
        ("summary:", "summary: s"),
        ("reason:", "reason: r"),
        ("target:", "target: { daemonset: kube-system/kiam-agent }"),
        ("patch:", "patch: { env: { name: A, value: x } }"),
        ("revert:", "revert: restore"),
    ];
    let key = line.split(' ').next().unwrap();
    let mut lines: Vec<&str> = usual.iter().filter(|(start, _)| *start != key).map(|(_, line)| *line).collect();
    lines.push(line);
    lines.join("\n") + "\n"
}

fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yaml");
    std::fs::write(&path, text).unwrap();
    Catalogue::shipped().unwrap().with(&path).unwrap_err().to_string()
}

#[test]
fn a_file_is_refused_with_the_key_its_value_and_what_would_be_right() {
    let wait = |goal: &str| format!("patch: {{ wait: {{ for: [{goal}] }} }}");
    for (line, words) in [
        ("fix: Mine", "fix: \"Mine\" is not 1 to 40 lower-case"),
        ("summary: \"\"", "summary: it is empty"),
        ("target: { daemonset: a/b/c }", "target.daemonset: \"a/b/c\" is neither NAMESPACE/NAME nor any"),
        ("target: { daemonset: ../../secrets }", "is neither NAMESPACE/NAME nor any"),
        ("target: { deamonset: a }", "`deamonset`"),
        ("revert: never-ever", "never-ever"),
        ("verify: { sooner-by: soon }", "verify.sooner-by: \"soon\" is not a duration"),
        ("applies-when: { image-at-least: latest }", "\"latest\" is no version such as v1.12.1"),
        ("applies-when: { proxy-modes: [iptable] }", "\"iptable\" is none of iptables, ipvs, nftables"),
        ("patch: { env: { name: \"\", value: x } }", "patch.env.name: \"\" is no name of a variable"),
        ("patch: { env: { name: A=B, value: x } }", "\"A=B\" is no name of a variable"),
        ("patch: { env: { name: A, value: \"${host}\" } }", "another placeholder than ${endpoint}"),
        ("patch: { argument: { name: flag, env: A, field: spec.nodeName } }", "does not begin with a dash"),
        ("patch: { startup-taint: { effect: NoWay, keys: {} } }", "neither NoExecute nor NoSchedule"),
        (&wait(""), "patch.wait.for: it is empty"),
        (&wait("{ tcp: kube-dns }"), "\"kube-dns\" is not HOST:PORT"),
        (&wait("{ tcp: \"kube-dns:0\" }"), "is not HOST:PORT"),
        (&wait("{ tcp: \"${service:kubernetes}\" }"), "another placeholder than"),
        (&wait("{ file: run/x }"), "\"run/x\" is no absolute path of a file"),
        (&wait("{ iptables: \" \" }"), "patch.wait.for.iptables: it is empty"),
        (&wait("{ node-condition: Ready=Yes }"), "\"Ready=Yes\" is not TYPE, TYPE=True"),
        ("patch: { wait: { for: [{ file: /run/x }], timeout: 0s } }", "\"0s\" leaves it no time"),
    ] {
        let said = refused(&file(line));
        assert!(said.contains(words) && said.contains("mine.yaml"), "{line}: {said}");
    }
    assert!(refused(&(file("revert: restore") + "---\nfix: other\n")).contains("several documents"));
    assert!(refused("").contains("mine.yaml, line 1"));
    let empty = tempfile::tempdir().unwrap();
    let said = Catalogue::shipped().unwrap().with(Path::new(empty.path())).unwrap_err().to_string();
    assert!(said.contains("holds no .yaml file"), "{said}");
}

#[test]
fn a_daemonset_that_cannot_be_one_is_refused_before_anybody_is_asked() {
    let all = Catalogue::shipped().unwrap();
    for name in ["wait-for:a/b/c", "wait-for:kube-system/", "wait-for:../x", "wait-for:Kiam"] {
        let said = all.find(name).unwrap_err().to_string();
        assert!(said.contains("expected NAMESPACE/NAME"), "{name}: {said}");
    }
}

#[test]
fn a_patch_that_cannot_be_made_here_says_why_and_changes_nothing() {
    on_virtual_time(async || {
        for (line, words) in [
            ("target: { daemonset: kube-system/kiam-agent, container: nope }", "has no container nope"),
            ("target: { daemonset: kube-system/nobody }", "there is no DaemonSet kube-system/nobody"),
            ("patch: { env: { name: A, value: \"${service:default/nope}\" } }", "there is no Service default/nope"),
            ("applies-when: { host-network: true }", "its pods are on a network of their own"),
            ("applies-when: { kube-proxy: false }", "it is for clusters without kube-proxy"),
            ("applies-when: { image-at-least: v99.0.0 }", "is older than v99.0.0"),
        ] {
            let bench = Bench::new(FAULTY, &[&file(line)]);
            let before = bench.read("kiam-agent").await["spec"].clone();
            let proposal = bench.propose("mine").await;
            assert!(
                matches!(&proposal.state, State::Unfit(why) if why.contains(words)),
                "{line}: {:?}",
                proposal.state
            );
            assert!(!proposal.is_open());
            assert_eq!(bench.read("kiam-agent").await["spec"], before);
        }
    });
}

#[test]
fn what_the_api_server_refuses_is_shown_in_its_words() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        let (cloud, cluster) = (Rc::new(bench.sim.cloud.clone()), Rc::new(bench.sim.cluster.clone()));
        let nameless = Some(String::new());
        let remedy =
            Remedy::new(cloud, cluster, bench.sim.clock, "test".into(), Catalogue::shipped().unwrap(), nameless);
        let before = bench.read("aws-node").await;
        let proposal = remedy.propose("aws-node-wait", &Options::default()).await.unwrap();
        let said = proposal.way.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains("the API server refuses it") && said.contains("image: Required value"), "{said}");
        assert!(remedy.apply(&proposal).await.is_err());
        assert_eq!(bench.read("aws-node").await["spec"], before["spec"]);
    });
}

#[test]
fn a_value_that_the_addon_refuses_leaves_nothing_behind() {
    on_virtual_time(async || {
        let text =
            file("patch: { env: { name: CLUSTER_ENDPOINT, value: nonsense, addon-values: [env.CLUSTER_ENDPOINT] } }")
                .replace("kiam-agent", "aws-node")
                + "addons: { aws-node: vpc-cni }\n";
        let bench = Bench::new(&managed(), &[&text]);
        let before = bench.read("aws-node").await;
        let proposal = bench.propose("mine").await;
        assert!(matches!(proposal.way, Some(Way::Configuration { .. })), "{:?}", proposal.way);
        let error = bench.remedy.apply(&proposal).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to change the add-on vpc-cni: InvalidParameterException"), "{error}");
        let after = bench.read("aws-node").await;
        assert_eq!(
            (&after["spec"], &after["metadata"]["annotations"]),
            (&before["spec"], &before["metadata"]["annotations"])
        );
        assert_eq!(bench.sim.cloud.addon("test", "vpc-cni").await.unwrap().unwrap().configuration, None);
    });
}

#[test]
fn the_mode_of_kube_proxy_decides_where_a_fix_says_so() {
    on_virtual_time(async || {
        let mine = file("applies-when: { kube-proxy: true, proxy-modes: [iptables] }");
        for (mode, fits) in [("iptables", true), ("", true), ("ipvs", false), ("nftables", false)] {
            let scenario = format!("proxy_config = {{ mode = '{mode}' }}\n{FAULTY}");
            let bench = Bench::new(&scenario, &[&mine]);
            let state = bench.propose("mine").await.state;
            assert_eq!(state == State::Missing, fits, "{mode}: {state:?}");
            // Service addresses are reachable in every mode once kube-proxy is ready.
            assert!(bench.propose("aws-node-wait").await.is_open(), "{mode}");
        }
    });
}

#[test]
fn a_daemonset_without_pods_is_changed_and_has_nothing_to_follow() {
    on_virtual_time(async || {
        let nowhere = format!("{FAULTY}[[daemonsets]]\nname = 'lonely'\ngroups = ['none']\n");
        let group = "[[groups]]\nname = 'none'\nnodes = 1\nmin = 0\nzones = ['us-west-2a']\n[[daemonsets]]";
        let bench = Bench::new(&nowhere.replacen("[[daemonsets]]", group, 1), &[]);
        let groups = bench.sim.cloud.groups("test").await.unwrap();
        let alone = groups.iter().find(|state| state.group.name.as_str() == "none").unwrap();
        bench.sim.cloud.terminate(&alone.instances[0].id, true).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        let before: Value = bench.read("lonely").await["spec"].clone();
        let proposal = bench.propose("wait-for:lonely").await;
        assert_eq!((proposal.pods, proposal.is_open()), (0, true));
        let seen = crate::bench::Seen::begin(&bench.sim).await;
        let patience = std::time::Duration::from_secs(60);
        let course = fastnode::fixes::Course { remedy: &bench.remedy, onlooker: &seen, patience };
        assert_eq!(course.apply(&proposal).await.unwrap(), fastnode::fixes::Came::InPlace(0));
        bench.revert("wait-for:lonely").await;
        assert_eq!(bench.read("lonely").await["spec"], before);
    });
}

#[test]
fn without_kube_proxy_nothing_waits_for_it_and_the_endpoint_still_fits() {
    on_virtual_time(async || {
        let cilium = FAULTY.replace("name = 'kube-proxy'", "name = 'cilium'").replace("needs = 'kube-proxy'", "");
        let bench = Bench::new(&cilium, &[]);
        for fix in ["aws-node-wait", "aws-node-wait-address", "wait-for:kiam-agent"] {
            let proposal = bench.propose(fix).await;
            assert!(matches!(&proposal.state, State::Unfit(why) if why.contains("no kube-proxy here")), "{fix}");
        }
        assert!(bench.propose("cluster-endpoint").await.is_open());
        let taint = bench.remedy.propose("startup-taint:cilium", &Options::default()).await.unwrap();
        assert!(taint.snippets[0].text.contains("node.cilium.io/agent-not-ready"), "{:?}", taint.snippets);
    });
}
