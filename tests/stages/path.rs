//! What a node was waiting for: who hands over to whom, and lookalikes that do not.

use crate::build::{Came, path, with};

#[test]
fn the_last_set_alone_is_followed_back_through_its_own_steps() {
    let slow = Came { made: 2, initialized: 10, ..Came::up("kube-proxy", 12, 40) };
    assert_eq!(
        path(&with(4, &[slow, Came::up("ebs-csi-node", 2, 9)])),
        [
            "0-2 kube-system/kube-proxy: pod to be made",
            "2-10 kube-system/kube-proxy: init containers",
            "10-12 kube-system/kube-proxy: containers to start",
            "12-40 kube-system/kube-proxy: Ready",
        ]
    );
}

#[test]
fn a_restart_is_charged_to_the_proxy_that_became_ready_between_the_bad_run_and_the_good_one() {
    let proxy = Came::up("kube-proxy", 2, 35);
    let cni = Came::failing("aws-node", 1, (3, 33), 45, 50);
    assert_eq!(
        path(&with(51, &[proxy, cni])),
        [
            "0-1 kube-system/kube-proxy: pod to be made",
            "1-2 kube-system/kube-proxy: containers to start",
            "2-35 kube-system/kube-proxy: Ready",
            "35-45 kube-system/aws-node: restarts",
            "45-50 kube-system/aws-node: Ready",
            "50-51 node: Ready",
        ]
    );
}

#[test]
fn a_proxy_that_was_ready_before_the_bad_run_began_is_not_its_cause() {
    let proxy = Came::up("kube-proxy", 1, 3);
    let cni = Came::failing("aws-node", 1, (5, 33), 45, 50);
    assert_eq!(
        path(&with(51, &[proxy, cni])),
        [
            "0-1 kube-system/aws-node: pod to be made",
            "1-5 kube-system/aws-node: containers to start",
            "5-45 kube-system/aws-node: restarts",
            "45-50 kube-system/aws-node: Ready",
            "50-51 node: Ready",
        ]
    );
}

#[test]
fn a_proxy_that_became_ready_after_the_good_run_began_is_not_its_cause() {
    let proxy = Came::up("kube-proxy", 2, 47);
    let cni = Came::failing("aws-node", 1, (3, 33), 45, 60);
    assert_eq!(path(&with(61, &[proxy, cni]))[2], "3-45 kube-system/aws-node: restarts");
}

#[test]
fn of_two_that_became_ready_meanwhile_the_proxy_is_blamed() {
    let proxy = Came::up("kube-proxy", 2, 35);
    let other = Came::up("ebs-csi-node", 2, 40);
    let kiam = Came::failing("kiam-agent", 1, (3, 33), 45, 50);
    let path = path(&with(4, &[proxy, other, kiam]));
    assert_eq!(
        path[2..],
        [
            "2-35 kube-system/kube-proxy: Ready",
            "35-45 kube-system/kiam-agent: restarts",
            "45-50 kube-system/kiam-agent: Ready"
        ]
    );
}

#[test]
fn of_several_restarts_only_the_last_bad_run_tells_who_was_missing() {
    let proxy = Came::up("kube-proxy", 2, 35);
    // The run that began at 60 failed with the proxy there: something else was missing.
    let kiam = Came::failing("kiam-agent", 3, (60, 70), 90, 95);
    let path = path(&with(4, &[proxy, kiam]));
    assert_eq!(path[1..], ["1-90 kube-system/kiam-agent: restarts", "90-95 kube-system/kiam-agent: Ready"]);
}

#[test]
fn a_long_wait_that_ends_as_another_set_is_ready_waited_for_it() {
    let proxy = Came::up("kube-proxy", 2, 35);
    let waits = Came { initialized: 37, ..Came::up("aws-node", 38, 41) };
    assert_eq!(
        path(&with(41, &[proxy, waits])),
        [
            "0-1 kube-system/kube-proxy: pod to be made",
            "1-2 kube-system/kube-proxy: containers to start",
            "2-35 kube-system/kube-proxy: Ready",
            "35-37 kube-system/aws-node: init containers",
            "37-38 kube-system/aws-node: containers to start",
            "38-41 kube-system/aws-node: Ready",
        ]
    );
}

#[test]
fn a_set_that_was_ready_in_the_middle_of_a_long_step_has_no_part_in_it() {
    let proxy = Came::up("kube-proxy", 2, 20);
    let slow = Came { initialized: 37, ..Came::up("aws-node", 38, 41) };
    assert_eq!(path(&with(41, &[proxy, slow]))[1], "1-37 kube-system/aws-node: init containers");
}

#[test]
fn the_proxy_waits_for_nobody_and_the_network_for_nobody_but_the_proxy() {
    let proxy = Came::up("kube-proxy", 2, 35);
    let driver = Came::up("ebs-csi-node", 2, 33);
    assert_eq!(path(&with(4, &[proxy, driver.clone()]))[2], "2-35 kube-system/kube-proxy: Ready");
    let cni = Came::failing("aws-node", 1, (3, 20), 34, 36);
    assert_eq!(path(&with(37, &[driver.clone(), cni]))[2], "3-34 kube-system/aws-node: restarts");
    let other = Came::failing("kiam-agent", 1, (3, 20), 34, 36);
    assert_eq!(path(&with(4, &[driver, other]))[2], "2-33 kube-system/ebs-csi-node: Ready");
}

#[test]
fn a_short_step_is_its_own_however_close_another_set_is() {
    let proxy = Came::up("kube-proxy", 1, 3);
    let cni = Came::up("aws-node", 1, 5);
    assert_eq!(path(&with(5, &[proxy, cni]))[1], "1-5 kube-system/aws-node: Ready");
}

#[test]
fn a_pod_of_the_pod_network_starts_with_the_nodes_network() {
    let cni = Came::up("aws-node", 2, 20);
    let dns = Came::up("node-local-dns", 25, 27);
    assert_eq!(
        path(&with(22, &[cni, dns])),
        [
            "0-1 kube-system/aws-node: pod to be made",
            "1-2 kube-system/aws-node: containers to start",
            "2-20 kube-system/aws-node: Ready",
            "20-22 node: Ready",
            "22-25 kube-system/node-local-dns: containers to start",
            "25-27 kube-system/node-local-dns: Ready",
        ]
    );
}

#[test]
fn no_kubelet_waits_for_the_proxy() {
    let proxy = Came::up("kube-proxy", 2, 35);
    assert_eq!(path(&with(36, &[proxy])), ["0-36 node: Ready"]);
    let handler = Came::up("aws-node-termination-handler", 2, 35);
    assert_eq!(path(&with(36, &[handler])), ["0-36 node: Ready"], "it is no network agent");
}

#[test]
fn sets_that_are_ready_in_one_second_hand_over_to_each_other_no_more_than_once() {
    let a = Came { initialized: 30, ..Came::up("aws-node", 30, 30) };
    let b = Came { initialized: 30, ..Came::up("kube-proxy", 30, 30) };
    let path = path(&with(30, &[a, b]));
    assert!(path.len() <= 3, "{path:?}");
}

#[test]
fn what_came_before_the_node_is_on_the_path_too() {
    let start = crate::build::start(&with(4, &[Came::up("aws-node", 2, 3)])).unwrap();
    assert_eq!(start.path[0].to_string(), "node: boot and registration");
    assert_eq!(start.path[0].seconds(), 15.0);
    assert_eq!(start.path.last().unwrap().to, start.moments.functional.unwrap());
}
