//! Whether a fix that is in place has helped, told from the nodes there are.

use std::time::Duration;

use fastnode::cloud::Cloud;
use fastnode::fixes::record::Mark;
use fastnode::fixes::{Course, Options, Standing, standing};
use fastnode::policy::Policy;
use serde_json::Value;

use crate::bench::{Bench, FAULTY, Seen, on_virtual_time};

/// The cluster of both faults in which an early aws-node exits, and dependents wait on Services.
fn faulty() -> String {
    FAULTY.replace("name = 'aws-node'\n", "name = 'aws-node'\nversion = 'v1.7.10-eksbuild.1'\n")
}

/// The group grows by as many nodes, which have the time to start.
async fn grow(bench: &Bench, by: u32) {
    let group = bench.sim.cloud.groups("test").await.unwrap().remove(0).group;
    bench.sim.cloud.set_desired(&group.name, group.desired + by).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
}

/// A cluster whose nodes have all been launched as they are launched now.
async fn grown() -> (Bench, Seen) {
    let bench = Bench::new(&faulty(), &[]);
    let old = bench.sim.cloud.groups("test").await.unwrap().remove(0).instances;
    grow(&bench, 2).await;
    for instance in old {
        bench.sim.cloud.terminate(&instance.id, true).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let seen = Seen::begin(&bench.sim).await;
    (bench, seen)
}

async fn apply(bench: &Bench, seen: &Seen, fix: &str) {
    let set = bench.remedy.catalogue().find(fix).unwrap().daemonset;
    let baseline = standing::baseline(&Policy::default(), &seen.now(), &set).map(|(start, _)| start);
    let options = Options { baseline, ..Options::default() };
    let proposal = bench.remedy.propose(fix, &options).await.unwrap();
    let course = Course { remedy: &bench.remedy, onlooker: seen, patience: Duration::from_secs(300) };
    course.apply(&proposal).await.unwrap();
}

fn told(bench: &Bench, seen: &Seen) -> Vec<(String, Standing)> {
    let (policy, snapshot) = (Policy::default(), seen.now());
    let all = standing::marked(bench.remedy.catalogue(), &snapshot);
    let mut told: Vec<_> =
        all.map(|(fix, mark, _)| (standing::standing(&policy, &snapshot, &fix, &mark), fix.name)).collect();
    told.sort_by(|a, b| a.1.cmp(&b.1));
    told.into_iter().map(|(standing, fix)| (fix, standing)).collect()
}

#[test]
fn the_next_new_node_verifies_it_whoever_looks() {
    on_virtual_time(async || {
        let (bench, seen) = grown().await;
        let fix = "kube-proxy-hostname-override";
        apply(&bench, &seen, fix).await;
        assert_eq!(told(&bench, &seen), [(fix.to_owned(), Standing::Unseen)]);
        grow(&bench, 1).await;
        let [(_, Standing::Judged(effect))] = told(&bench, &seen)[..] else { panic!("{:?}", told(&bench, &seen)) };
        assert!(effect.helped && effect.before_s.unwrap() > effect.after_s + 30.0, "{effect}");
        let lines = standing::lines(&Policy::default(), &seen.now(), bench.remedy.catalogue());
        assert!(lines[0].contains("kube-proxy-hostname-override") && lines[0].contains(": verified: "), "{lines:?}");
        // Written down it outlives the nodes that have shown it.
        bench.remedy.note(fix, effect).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(told(&bench, &seen), [(fix.to_owned(), Standing::Judged(effect))]);
        let marked = seen
            .now()
            .daemonsets
            .values()
            .flat_map(|set| Mark::all(set).map(|(_, m)| m.effect).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        assert_eq!(marked, [Some(effect)]);
        bench.revert(fix).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(told(&bench, &seen), []);
    });
}

#[test]
fn what_is_noted_changes_nothing_but_the_record_and_can_still_be_taken_back() {
    on_virtual_time(async || {
        for (fix, set) in [("kube-proxy-hostname-override", "kube-proxy"), ("aws-node-wait", "aws-node")] {
            let bench = Bench::new(FAULTY, &[]);
            let before = bench.read(set).await;
            bench.apply(fix, Options::default()).await;
            let applied = bench.read(set).await;
            let effect =
                fastnode::fixes::judge(fastnode::fixes::Start { seconds: 31.0, restarts: 0 }, &Default::default());
            bench.remedy.note(fix, effect).await.unwrap();
            let noted = bench.read(set).await;
            assert_eq!(
                (&noted["spec"], &noted["metadata"]["generation"]),
                (&applied["spec"], &applied["metadata"]["generation"])
            );
            let record: Value = serde_json::from_str(
                noted["metadata"]["annotations"][format!("fastnode.dev/fix-{fix}")].as_str().unwrap(),
            )
            .unwrap();
            assert_eq!(record["effect"]["helped"], true);
            bench.revert(fix).await;
            let after = bench.read(set).await;
            assert_eq!(
                (&after["spec"], &after["metadata"]["annotations"]),
                (&before["spec"], &before["metadata"]["annotations"])
            );
            let error = bench.remedy.note(fix, effect).await.unwrap_err().to_string();
            assert!(error.contains("not there any more"), "{error}");
        }
    });
}

#[test]
fn one_without_effect_is_told_with_the_way_back() {
    on_virtual_time(async || {
        // Nobody's host has another name here: the fix is missing, and helps nothing.
        let (bench, seen) = {
            let bench = Bench::new(&FAULTY.replace("dhcp_domain = 'corp.example'\n", ""), &[]);
            grow(&bench, 1).await;
            let seen = Seen::begin(&bench.sim).await;
            (bench, seen)
        };
        apply(&bench, &seen, "kube-proxy-hostname-override").await;
        grow(&bench, 1).await;
        let lines = standing::lines(&Policy::default(), &seen.now(), bench.remedy.catalogue());
        assert!(lines[0].contains(": no effect: "), "{lines:?}");
        assert!(lines[0].ends_with("kube-proxy-hostname-override --revert takes it back"), "{lines:?}");
    });
}

#[test]
fn without_a_node_that_shows_how_it_started_nothing_is_claimed() {
    on_virtual_time(async || {
        let bench = Bench::new(FAULTY, &[]);
        bench.apply("aws-node-wait", Options::default()).await;
        grow(&bench, 1).await;
        let seen = Seen::begin(&bench.sim).await;
        assert_eq!(told(&bench, &seen), [("aws-node-wait".to_owned(), Standing::Incomparable)]);
    });
}

#[test]
fn of_two_fixes_one_after_the_other_only_what_was_seen_alone_is_credited() {
    on_virtual_time(async || {
        let (bench, seen) = grown().await;
        apply(&bench, &seen, "kube-proxy-hostname-override").await;
        grow(&bench, 1).await;
        let alone = told(&bench, &seen)[0].1;
        let Standing::Judged(first) = alone else { panic!("{alone:?}") };
        apply(&bench, &seen, "aws-node-wait").await;
        grow(&bench, 2).await;
        // The second has renewed the pods by which the node between them had shown the first.
        let [(_, second), (_, first_now)] = &told(&bench, &seen)[..] else { panic!("{:?}", told(&bench, &seen)) };
        assert_eq!(*first_now, Standing::Overtaken);
        let Standing::Judged(second) = second else { panic!("{second:?}") };
        assert_eq!(second.before_s, Some(first.after_s), "the second is compared with nodes that had the first");
    });
}
