//! The lock: taken, kept, refused, lost and given back.

use std::rc::Rc;
use std::time::Duration;

use fastnode::clock::Clock;
use fastnode::lock::{Error, Lock};
use fastnode::model::marks::REQUEST;
use tokio::time::{Instant, sleep};

use crate::fakes::{FakeCluster, START, run};

async fn acquire(cluster: &Rc<FakeCluster>) -> Result<Lock<FakeCluster>, Error> {
    Lock::acquire(cluster.clone(), Clock::starting_at(START), "kube-system", "me", "r1").await
}

fn holder(cluster: &FakeCluster) -> Option<String> {
    cluster.lease.borrow().as_ref().and_then(|l| l.holder.clone())
}

#[test]
fn a_free_lock_is_taken_at_once_and_given_back() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        let lock = acquire(&cluster).await.unwrap();
        assert_eq!(holder(&cluster).as_deref(), Some("me"));
        assert!(lock.guard().may_act());
        let guard = lock.guard();
        lock.release(false).await.unwrap();
        assert_eq!(holder(&cluster), None);
        assert!(!guard.may_act(), "nothing is begun after the release");
    });
}

#[test]
fn a_silent_holder_is_waited_out_by_our_own_clock() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        // By its own word it renewed an hour ahead of us: words are not compared.
        cluster.write_lease(|l| {
            l.holder = Some("other".into());
            l.renewed = Some("1970-01-01T01:00:00Z".parse().unwrap());
        });
        let began = Instant::now();
        let lock = acquire(&cluster).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(15));
        assert_eq!(holder(&cluster).as_deref(), Some("me"));
        assert_eq!(cluster.lease.borrow().as_ref().unwrap().transitions, 1);
        drop(lock);
    });
}

#[test]
fn a_holder_that_renews_keeps_it_and_is_named() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        cluster.write_lease(|l| l.holder = Some("other".into()));
        let renewing = cluster.clone();
        tokio::task::spawn_local(async move {
            sleep(Duration::from_secs(4)).await;
            renewing.write_lease(|l| l.renewed = Some("1970-01-01T00:00:04Z".parse().unwrap()));
        });
        match acquire(&cluster).await {
            Err(Error::Held { holder, since, .. }) => assert_eq!((holder.as_str(), since), ("other", Some(START))),
            _ => panic!("taken from a living holder"),
        }
    });
}

#[test]
fn a_users_request_does_not_keep_a_dead_holder_alive() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        cluster.write_lease(|l| l.holder = Some("other".into()));
        let asking = cluster.clone();
        tokio::task::spawn_local(async move {
            sleep(Duration::from_secs(4)).await;
            asking.write_lease(|l| _ = l.annotations.insert(REQUEST.into(), "abort".into()));
        });
        assert!(acquire(&cluster).await.is_ok());
    });
}

#[test]
fn without_renewals_nothing_is_begun_after_ten_seconds() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        let lock = acquire(&cluster).await.unwrap();
        sleep(Duration::from_secs(60)).await;
        assert!(lock.guard().may_act(), "it is renewed");
        cluster.unreachable.set(true);
        sleep(Duration::from_secs(16)).await;
        assert!(!lock.guard().may_act());
        cluster.unreachable.set(false);
        sleep(Duration::from_secs(2)).await;
        assert!(lock.guard().may_act(), "nobody took it meanwhile");
    });
}

#[test]
fn a_lock_taken_by_another_is_lost_for_good() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        let lock = acquire(&cluster).await.unwrap();
        cluster.write_lease(|l| l.holder = Some("other".into()));
        sleep(Duration::from_secs(6)).await;
        assert!(!lock.guard().may_act());
        assert_eq!(lock.state().borrow().lost_to.as_deref(), Some("other"));
        lock.release(false).await.unwrap();
        assert_eq!(holder(&cluster).as_deref(), Some("other"), "not ours to give back");
    });
}

#[test]
fn a_request_on_the_lease_is_read_and_does_not_cost_the_lock() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        let lock = acquire(&cluster).await.unwrap();
        cluster.write_lease(|l| _ = l.annotations.insert(REQUEST.into(), "pause".into()));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(lock.state().borrow().request.as_deref(), Some("pause"));
        assert!(lock.guard().may_act());
        lock.release(false).await.unwrap();
        assert_eq!(*cluster.lease.borrow(), None, "the rotation has ended: nothing is left to hold");
    });
}

#[test]
fn a_pause_outlives_its_holder() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        cluster.write_lease(|l| _ = l.annotations.insert(REQUEST.into(), "pause".into()));
        let lock = acquire(&cluster).await.unwrap();
        assert_eq!(lock.state().borrow().request.as_deref(), Some("pause"));
        let lease = cluster.lease.borrow().clone().unwrap();
        assert_eq!(lease.annotations.get(REQUEST).map(|r| &**r), Some("pause"));
        lock.release(true).await.unwrap();
        let lease = cluster.lease.borrow().clone().unwrap();
        assert_eq!((lease.holder, lease.annotations.len()), (None, 1));
    });
}

#[test]
fn a_lock_whose_reply_was_lost_is_found_to_be_ours() {
    run(async {
        let cluster = Rc::new(FakeCluster::default());
        cluster.lost_replies.set(1);
        let lock = acquire(&cluster).await.unwrap();
        assert_eq!(holder(&cluster).as_deref(), Some("me"));
        sleep(Duration::from_secs(30)).await;
        assert!(lock.guard().may_act(), "it is renewed on the version that was found");
        cluster.lost_replies.set(1);
        lock.release(true).await.unwrap();
        assert_eq!(holder(&cluster), None);
    });
}
