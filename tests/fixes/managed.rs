//! Where EKS manages the add-ons: its API where its schema allows it, keys that it does not own, and its lists as a
//! whole or not at all.

use fastnode::cloud::addons::{AddonChange, AddonUpdate, Addons};
use fastnode::fixes::{Error, Options, State, Way};
use serde_json::{Value, json};

use crate::bench::{Bench, is_applied, managed, on_virtual_time};

async fn configuration(bench: &Bench) -> Option<Value> {
    let addon = bench.sim.cloud.addon("test", "vpc-cni").await.unwrap().unwrap();
    addon.configuration.map(|text| serde_json::from_str(&text).unwrap())
}

async fn configure(bench: &Bench, values: &Value) {
    let change = AddonChange { version: None, configuration: Some(values.to_string().into()) };
    let id = bench.sim.cloud.update_addon("test", "vpc-cni", &change).await.unwrap();
    while bench.sim.cloud.addon_update("test", "vpc-cni", &id).await.unwrap() == AddonUpdate::InProgress {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

#[test]
fn a_variable_goes_into_the_addons_values_beside_those_that_are_there_and_out_again() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        let mine = json!({ "env": { "WARM_IP_TARGET": "2" }, "resources": {} });
        configure(&bench, &mine).await;
        let proposal = bench.apply("cluster-endpoint", Options::default()).await;
        assert!(
            matches!(&proposal.way, Some(Way::Configuration { addon, .. }) if addon == "vpc-cni"),
            "{:?}",
            proposal.way
        );
        assert!(proposal.diff.contains("+  CLUSTER_ENDPOINT: https://"), "{}", proposal.diff);
        let values = configuration(&bench).await.unwrap();
        assert!(values["env"]["CLUSTER_ENDPOINT"].as_str().unwrap().starts_with("https://"));
        assert_eq!(values["env"]["WARM_IP_TARGET"], "2");
        assert!(is_applied(&bench.propose("cluster-endpoint").await));
        bench.revert("cluster-endpoint").await;
        assert_eq!(configuration(&bench).await.unwrap(), mine);
        assert_eq!(
            bench.read("aws-node").await["metadata"]["annotations"]["fastnode.dev/fix-cluster-endpoint"],
            Value::Null
        );
    });
}

#[test]
fn what_goes_through_eks_restarts_every_pod_and_is_refused_for_new_nodes_alone() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        let options = Options { on_new_nodes_only: true, ..Options::default() };
        let proposal = bench.remedy.propose("cluster-endpoint", &options).await.unwrap();
        let Some(Way::Conflict { why }) = &proposal.way else { panic!("{:?}", proposal.way) };
        assert!(why.contains("--on-new-nodes-only"), "{why}");
        assert!(bench.remedy.apply(&proposal).await.is_err());
        assert_eq!(configuration(&bench).await, None);
    });
}

#[test]
fn what_eks_refuses_is_told_as_such_and_leaves_nothing_half_applied() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        // One update at a time.
        let change = AddonChange { version: None, configuration: Some("{}".into()) };
        bench.sim.cloud.update_addon("test", "vpc-cni", &change).await.unwrap();
        let proposal = bench.propose("cluster-endpoint").await;
        let error = bench.remedy.apply(&proposal).await.unwrap_err();
        assert!(matches!(&error, Error::Addon { addon, .. } if addon == "vpc-cni"), "{error:?}");
        assert!(error.to_string().contains("ResourceInUseException"), "{error}");
        let annotations = &bench.read("aws-node").await["metadata"]["annotations"];
        assert_eq!(annotations["fastnode.dev/fix-cluster-endpoint"], Value::Null);
    });
}

#[test]
fn values_that_somebody_has_changed_since_are_not_put_back() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        bench.apply("cluster-endpoint", Options::default()).await;
        let mut values = configuration(&bench).await.unwrap();
        values["env"]["WARM_ENI_TARGET"] = json!("3");
        configure(&bench, &values).await;
        assert!(bench.no_way_back("cluster-endpoint").await.contains("have been changed since"));
        assert_eq!(configuration(&bench).await.unwrap(), values);
    });
}

#[test]
fn a_new_key_of_a_managed_object_is_nobodys_and_outlives_an_update() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        let before = bench.read("aws-node").await;
        let proposal = bench.apply("aws-node-wait", Options::default()).await;
        assert_eq!(proposal.way, Some(Way::Apply));
        assert!(proposal.notes.iter().any(|note| note.contains("outlive its updates")), "{:?}", proposal.notes);
        configure(&bench, &json!({})).await;
        assert!(is_applied(&bench.propose("aws-node-wait").await));
        bench.revert("aws-node-wait").await;
        assert_eq!(bench.read("aws-node").await["spec"], before["spec"]);
    });
}

#[test]
fn a_list_that_eks_manages_is_taken_over_as_a_whole_or_not_at_all() {
    on_virtual_time(async || {
        let bench = Bench::new(&managed(), &[]);
        let fix = "kube-proxy-hostname-override";
        let before = bench.read("kube-proxy").await;
        let proposal = bench.propose(fix).await;
        match &proposal.way {
            Some(Way::Conflict { why }) => {
                for word in
                    ["containers[kube-proxy].command", "fastnode fix addon-update:kube-proxy", "--take-ownership"]
                {
                    assert!(why.contains(word), "{why}");
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(bench.remedy.apply(&proposal).await.unwrap_err().to_string().contains("refused to apply"));
        assert_eq!(bench.read("kube-proxy").await["spec"], before["spec"]);
        let taking = Options { take_ownership: true, ..Options::default() };
        let taken = bench.apply(fix, taking).await;
        assert!(taken.notes.iter().any(|note| note.contains("OVERWRITE")), "{:?}", taken.notes);
        let State::Applied(record) = bench.propose(fix).await.state else { panic!("it is not applied") };
        assert_eq!(record.owners, ["eks"]);
        assert_eq!(record.places[0].before.as_ref(), before.pointer("/spec/template/spec/containers/0/command"));
        bench.revert(fix).await;
        assert_eq!(bench.read("kube-proxy").await["spec"], before["spec"]);
    });
}

#[test]
fn an_update_of_the_addon_brings_the_override_and_is_no_way_back() {
    on_virtual_time(async || {
        let bench = Bench::new(
            &managed()
                .replace("v1.24.17", "v1.28.15")
                .replace("hostname_override = false", "hostname_override = false\nversion = 'v1.27.6-eksbuild.2'"),
            &[],
        );
        let fix = "addon-update:kube-proxy";
        let proposal = bench.apply(fix, Options::default()).await;
        assert!(
            matches!(&proposal.way, Some(Way::Version { from, .. }) if from == "v1.27.6-eksbuild.2"),
            "{:?}",
            proposal.way
        );
        let after = bench.propose(fix).await;
        assert!(is_applied(&after) && after.way.is_none(), "{after:?}");
        assert!(matches!(bench.propose("kube-proxy-hostname-override").await.state, State::Present(_)));
        assert!(bench.remedy.propose_revert(fix).await.is_err());
    });
}
