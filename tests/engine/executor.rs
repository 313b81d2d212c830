//! Actions to calls: order, preconditions, and no call sent blind a second time.

use std::rc::Rc;
use std::time::Duration;

use fastnode::clock::Clock;
use fastnode::cloud::{ErrorKind, GroupState};
use fastnode::cluster::{self, ConfigRecord};
use fastnode::execute::{Effect, Executor, Fault, Outcome, Record};
use fastnode::lock::Guard;
use fastnode::model::{Ledger, ObjectKey, Step};
use fastnode::observe::RotationRecord;
use fastnode::plan::Action;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::fakes::{FakeCloud, FakeCluster, START, group, instance, run};

struct Rig {
    cloud: Rc<FakeCloud>,
    cluster: Rc<FakeCluster>,
    record: Record<FakeCluster>,
    executor: Executor<FakeCloud, FakeCluster>,
    outcomes: mpsc::Receiver<Outcome>,
}

async fn rig(guard: Guard) -> Rig {
    let state = GroupState { group: group("g", 3), instances: vec![instance("i-1", "g"), instance("i-2", "g")] };
    let cloud = Rc::new(FakeCloud::with(vec![state]));
    let cluster = Rc::new(FakeCluster::default());
    let record = RotationRecord {
        id: "r1".into(),
        started: START,
        targets: Default::default(),
        protection: Default::default(),
        skipped: Default::default(),
        failed: Default::default(),
        ending: None,
        mended: Default::default(),
    };
    let config = ConfigRecord { name: "fastnode-r1".into(), ..ConfigRecord::default() };
    let record = Record::begin(cluster.clone(), "kube-system", record, config).await.unwrap();
    let ports = (cloud.clone(), cluster.clone(), Clock::starting_at(START));
    let (executor, outcomes) = Executor::new(ports, "c".into(), guard, record.clone(), 7);
    Rig { cloud, cluster, record, executor, outcomes }
}

async fn locked() -> Rig {
    rig(Guard::until(Instant::now() + Duration::from_secs(3600), Clock::starting_at(START))).await
}

impl Rig {
    async fn act(&mut self, action: Action) -> Outcome {
        self.executor.begin(action);
        self.outcomes.recv().await.unwrap()
    }

    fn log(&self) -> Vec<String> {
        self.cloud.log.borrow().clone()
    }
}

fn step(from: u32, to: u32, instance: Option<&str>) -> (Ledger, Ledger) {
    let step = Step { from, to, instance: instance.map(Into::into), at: START };
    let before = Ledger { step: Some(step), ..Ledger::settled(from.saturating_sub(to)) };
    (before, Ledger::settled(to.saturating_sub(from)))
}

fn terminate(decrement: bool) -> Action {
    let decrement = decrement.then(|| Box::new(step(3, 2, Some("i-1"))));
    Action::Terminate { instance: "i-1".into(), group: "g".into(), node: None, decrement }
}

fn resize() -> Action {
    let (before, after) = step(3, 4, None);
    Action::Resize { group: "g".into(), from: 3, to: 4, before, after }
}

fn evict() -> Action {
    Action::Evict { node: "n".into(), pod: ObjectKey::new("ns", "p"), uid: "u".into() }
}

fn leaves(outcome: &Outcome) -> bool {
    outcome.effects.iter().any(|e| matches!(e, Effect::Terminating(id) if id.as_str() == "i-1"))
}

#[test]
fn a_termination_that_got_no_reply_is_read_and_never_sent_again() {
    run(async {
        let mut rig = locked().await;
        rig.cloud.failures.borrow_mut().push_back((ErrorKind::UnknownOutcome, true));
        let outcome = rig.act(terminate(false)).await;
        assert!(outcome.result.is_ok(), "it is seen to be terminating");
        assert!(leaves(&outcome));
        assert_eq!(rig.log(), ["terminate i-1 false", "groups"]);
    });
}

#[test]
fn a_termination_that_was_lost_on_its_way_is_left_to_the_planner() {
    run(async {
        let mut rig = locked().await;
        rig.cloud.failures.borrow_mut().push_back((ErrorKind::UnknownOutcome, false));
        let outcome = rig.act(terminate(false)).await;
        assert!(outcome.result.is_err());
        assert!(!leaves(&outcome));
        assert!(outcome.effects.iter().any(|e| matches!(e, Effect::Groups(..))), "what was read is handed along");
        assert_eq!(rig.cloud.sent("terminate"), 1);
    });
}

#[test]
fn a_decrement_is_announced_before_and_confirmed_after() {
    run(async {
        let mut rig = locked().await;
        let outcome = rig.act(terminate(true)).await;
        assert!(outcome.result.is_ok());
        let (before, after) = step(3, 2, Some("i-1"));
        let tag = |l: &Ledger| format!("tag fastnode:surge={}", l.to_tag());
        assert_eq!(rig.log(), [tag(&before), "terminate i-1 true".to_owned(), tag(&after)]);
        assert!(outcome.effects.iter().any(|e| matches!(e, Effect::Desired(_, 2))));
    });
}

#[test]
fn a_decrement_that_was_refused_is_taken_back_in_the_ledger() {
    run(async {
        let mut rig = locked().await;
        rig.cloud.failures.borrow_mut().push_back((ErrorKind::Refused, false));
        assert!(rig.act(terminate(true)).await.result.is_err());
        assert_eq!(rig.log().last().unwrap(), &format!("tag fastnode:surge={}", Ledger::settled(1).to_tag()));
    });
}

#[test]
fn a_decrement_without_reply_leaves_its_step_in_hand() {
    run(async {
        let mut rig = locked().await;
        rig.cloud.failures.borrow_mut().push_back((ErrorKind::UnknownOutcome, true));
        let outcome = rig.act(terminate(true)).await;
        assert!(outcome.result.is_err(), "that it leaves does not tell by whose call");
        let (before, _) = step(3, 2, Some("i-1"));
        assert_eq!(rig.cloud.sent("tag"), 1);
        assert_eq!(rig.log()[0], format!("tag fastnode:surge={}", before.to_tag()));
    });
}

#[test]
fn desired_is_set_between_two_ledgers_and_an_unknown_outcome_is_read() {
    for failure in [None, Some((ErrorKind::UnknownOutcome, true))] {
        run(async {
            let mut rig = locked().await;
            rig.cloud.failures.borrow_mut().extend(failure);
            let outcome = rig.act(resize()).await;
            assert!(outcome.result.is_ok());
            assert_eq!(rig.cloud.sent("desired"), 1);
            let log: Vec<String> = rig.log().into_iter().filter(|l| l != "groups").collect();
            let (before, after) = step(3, 4, None);
            let tag = |l: &Ledger| format!("tag fastnode:surge={}", l.to_tag());
            assert_eq!(log, [tag(&before), "desired 4".to_owned(), tag(&after)]);
        });
    }
}

#[test]
fn desired_that_was_not_set_is_left_with_its_step_in_hand() {
    run(async {
        let mut rig = locked().await;
        rig.cloud.failures.borrow_mut().push_back((ErrorKind::UnknownOutcome, false));
        assert!(rig.act(resize()).await.result.is_err());
        assert_eq!((rig.cloud.sent("desired"), rig.cloud.sent("tag")), (1, 1));
    });
}

#[test]
fn nothing_is_sent_once_the_lock_is_not_certain() {
    run(async {
        let mut rig = rig(Guard::until(Instant::now(), Clock::starting_at(START))).await;
        for action in [terminate(true), resize(), evict()] {
            assert!(matches!(rig.act(action).await.result, Err(Fault::NotLocked)));
        }
        assert!(rig.log().is_empty());
        assert!(rig.cluster.log.borrow().is_empty());
    });
}

#[test]
fn evictions_are_posted_once_and_each_refusal_told_apart() {
    use cluster::ErrorKind::*;
    run(async {
        for (kind, leaves) in [
            (NotFound, true),
            (Conflict, true),
            (NamespaceTerminating, true),
            (BudgetExhausted, false),
            (BudgetUnobserved, false),
            (SeveralBudgets, false),
            (BudgetRefused, false),
            (Throttled, false),
            (Unavailable, false),
            (Forbidden, false),
        ] {
            let mut rig = locked().await;
            rig.cluster.evictions.borrow_mut().push_back(kind.clone());
            let outcome = rig.act(evict()).await;
            assert_eq!(outcome.result.is_ok(), leaves, "{kind:?}");
            assert_eq!(outcome.effects.len(), usize::from(leaves), "{kind:?}");
            assert_eq!(rig.cluster.log.borrow().len(), 1, "{kind:?} is not sent again by the executor");
        }
    });
}

#[test]
fn protection_is_never_changed_before_the_record_says_how_it_was() {
    run(async {
        let mut rig = locked().await;
        let protect = Action::Protect { group: "g".into(), instances: vec!["i-1".into()], protected: true };
        assert!(rig.act(protect.clone()).await.result.is_err());
        assert_eq!(rig.cloud.sent("protect"), 0);
        let record = Action::Record {
            targets: Default::default(),
            skipped: Default::default(),
            failed: Default::default(),
            protection: [("i-1".into(), false)].into(),
            ending: None,
        };
        assert!(rig.act(record).await.result.is_ok());
        assert!(rig.act(protect).await.result.is_ok());
        assert_eq!(rig.cloud.sent("protect"), 1);
    });
}

#[test]
fn two_hands_write_the_record_one_after_the_other() {
    run(async {
        let rig = locked().await;
        let (a, b) = (rig.record.clone(), rig.record.clone());
        let first = a.update(|r| _ = r.skipped.insert("n1".into(), "why".into()));
        let second = b.update(|r| _ = r.skipped.insert("n2".into(), "why".into()));
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(rig.record.current().skipped.len(), 2);
        // A person's edit in between costs neither.
        rig.cluster.configs.borrow_mut().get_mut("fastnode-r1").unwrap().version = Some("99".into());
        assert!(a.update(|r| _ = r.skipped.insert("n3".into(), "why".into())).await.is_ok());
        let data = rig.cluster.configs.borrow()["fastnode-r1"].data["record"].clone();
        assert_eq!(serde_json::from_str::<RotationRecord>(&data).unwrap().skipped.len(), 3);
    });
}
