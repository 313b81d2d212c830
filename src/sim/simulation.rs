//! A running simulation: its ports, its driver task, and the handle all of them share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::model::NodeName;
use crate::policy::Policy;

use super::judge::Counts;
use super::pace::{Pace, Speed};
use super::scenario::Scenario;
use super::world::{Micros, ORIGIN, World};
use super::{SimCloud, SimCluster};

/// What the driver and every port share.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    world: Rc<RefCell<World>>,
    wake: Rc<Notify>,
    died: Rc<Notify>,
    started: Instant,
    life: u64,
    meter: Rc<Meter>,
}

/// What the simulator itself takes, by a clock that whoever measures brings along.
#[derive(Debug, Default)]
struct Meter {
    clock: Cell<Option<fn() -> Duration>>,
    spent: Cell<Duration>,
}

impl Meter {
    fn time<R>(&self, act: impl FnOnce() -> R) -> R {
        let Some(clock) = self.clock.get() else { return act() };
        let began = clock();
        let result = act();
        self.spent.set(self.spent.get() + clock().saturating_sub(began));
        result
    }
}

impl Handle {
    fn elapsed(&self) -> Micros {
        self.started.elapsed().as_micros() as Micros
    }

    /// Lets everything happen that is due by now, then does `act`.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut World) -> R) -> R {
        self.meter.time(|| {
            let mut world = self.world.borrow_mut();
            world.advance(self.elapsed());
            let result = act(&mut world);
            world.flush();
            if world.take_head_moved() {
                self.wake.notify_one();
            }
            result
        })
    }

    /// Returns only if this life of fastnode is still going on.
    pub(super) async fn alive(&self) {
        let over = {
            let world = self.world.borrow();
            world.crashed || world.life != self.life
        };
        if over {
            std::future::pending::<()>().await;
        }
    }

    /// Counts an action that changes something; true if the process dies at it.
    pub(super) fn counts_to_death(&self) -> bool {
        let mut world = self.world.borrow_mut();
        world.actions += 1;
        if world.crash_at != Some(world.actions) {
            return false;
        }
        world.crash_at = None;
        true
    }

    /// The process dies here: every request of this life hangs.
    pub(super) async fn die(&self) {
        self.world.borrow_mut().crashed = true;
        self.died.notify_one();
        std::future::pending::<()>().await;
    }
}

/// A world that runs, and the ports onto it.
#[derive(Debug)]
pub struct Simulation {
    /// The port to AWS.
    pub cloud: SimCloud,
    /// The port to Kubernetes.
    pub cluster: SimCluster,
    /// The simulation's clock.
    pub clock: Clock,
    pub(super) handle: Handle,
    pace: Rc<RefCell<Option<Pace>>>,
    driver: JoinHandle<()>,
}

impl World {
    /// Starts the world of a scenario. To be called on a [`super::runtime`], inside a `LocalSet`.
    pub fn start(scenario: &Scenario, seed: u64) -> Simulation {
        let clock = Clock::starting_at(ORIGIN);
        let handle = Handle {
            world: Rc::new(RefCell::new(Self::new(scenario, seed))),
            wake: Rc::new(Notify::new()),
            died: Rc::new(Notify::new()),
            started: Instant::now(),
            life: 0,
            meter: Rc::default(),
        };
        let pace = Rc::new(RefCell::new(None));
        let driver = tokio::task::spawn_local(drive(handle.clone(), pace.clone()));
        Simulation {
            cloud: SimCloud::new(handle.clone()),
            cluster: SimCluster::new(handle.clone()),
            clock,
            handle,
            pace,
            driver,
        }
    }
}

/// Lets events happen when they are due, until the simulation is dropped.
async fn drive(handle: Handle, pace: Rc<RefCell<Option<Pace>>>) {
    loop {
        let due = handle.with(|world| world.next_due());
        let due = due.map(|at| handle.started + Duration::from_micros(at));
        let slice = pace.borrow().as_ref().map(|p| Instant::now() + p.slice());
        let next = match (due, slice) {
            (Some(due), Some(slice)) => Some(due.min(slice)),
            (due, slice) => due.or(slice),
        };
        match next {
            Some(next) => tokio::select! {
                biased;
                () = handle.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            },
            None => handle.wake.notified().await,
        }
        loop {
            let ahead = pace.borrow().as_ref().is_some_and(|p| p.hold(handle.started.elapsed()));
            if !ahead {
                break;
            }
            // Signals and the terminal are served between slices.
            tokio::task::yield_now().await;
        }
    }
}

impl Simulation {
    /// Plays at this speed from here on.
    pub fn pace(&self, speed: Speed) {
        *self.pace.borrow_mut() = Pace::new(speed, self.handle.started.elapsed());
        self.handle.wake.notify_one();
    }

    /// Judges by this policy; until then by the scenario's.
    pub fn judge_by(&self, policy: &Policy) {
        self.handle.with(|world| world.judge_by(policy));
    }

    /// What went against the safety promise so far, each a sentence; empty is good.
    pub fn verdict(&self) -> Vec<String> {
        self.handle.with(|world| world.verdict())
    }

    /// What is not as it was before the rotation, each a sentence; empty is good.
    pub fn left_behind(&self) -> Vec<String> {
        self.handle.with(|world| world.left_behind())
    }

    /// Nodes that are not on their group's target.
    pub fn outdated(&self) -> Vec<NodeName> {
        self.handle.with(|world| world.outdated())
    }

    /// What the judge counted.
    pub fn counts(&self) -> Counts {
        self.handle.with(|world| world.counts().clone())
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.handle.started.elapsed()
    }

    /// Measures by `clock`, from here on, what the simulator itself takes.
    pub fn measure(&self, clock: fn() -> Duration) {
        self.handle.meter.clock.set(Some(clock));
    }

    /// What the simulator itself has taken since [`Simulation::measure`]: all of the world's events, and its part in
    /// every call. What carries facts and calls to and fro is not in it.
    pub fn spent(&self) -> Duration {
        self.handle.meter.spent.get()
    }

    /// Facts told to the watches so far.
    pub fn facts(&self) -> u64 {
        self.handle.with(|world| world.told.get())
    }

    /// Requests and calls so far that were to change something, over all lives.
    pub fn actions(&self) -> u64 {
        self.handle.with(|world| world.actions)
    }

    /// Lets fastnode die at the so-manieth action from here on that changes something.
    pub fn crash_at(&self, action: u64) {
        self.handle.with(|world| world.crash_at = Some(world.actions + action.max(1)));
    }

    /// Lets fastnode live from here on.
    pub fn crash_no_more(&self) {
        self.handle.with(|world| world.crash_at = None);
    }

    /// Waits until fastnode has died of the scenario's `crash_at` or of [`Simulation::crash_at`]. From then on
    /// its requests hang: drop it, and [`Simulation::revive`] gives the next one its ports.
    pub async fn crashed(&self) {
        self.handle.died.notified().await;
    }

    /// New ports for the next life of fastnode; those of the life before hang for ever.
    pub fn revive(&mut self) {
        self.handle.with(|world| {
            world.life += 1;
            world.crashed = false;
            world.watchers.clear();
        });
        self.handle.life += 1;
        self.cloud = SimCloud::new(self.handle.clone());
        self.cluster = SimCluster::new(self.handle.clone());
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
