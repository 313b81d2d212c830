//! A fix on its way: applied, followed to every node, and taken back where it does harm. One way for `fastnode fix`
//! and for a rotation, which differ in where the pods are seen and in what is told of it.
//!
//! ```text
//!  apply --> follow --> in place
//!              |------> harm: taken back, and followed until the pods run as before
//!              '------> late: left as it is
//! ```

use std::time::Duration;

use super::remedy::{Proposal, Remedy};
use super::rollout::{Ended, Going, PodView, Rollout, follow};
use super::{Error, Options, State, Undo};
use crate::cloud::Cloud;
use crate::cloud::addons::Addons;
use crate::cluster::manifests::Manifests;
use crate::model::ObjectKey;

/// Who sees the pods, and hears where a rollout stands.
#[expect(async_fn_in_trait, reason = "everything runs on one current-thread runtime; no future needs Send")]
pub trait Onlooker {
    /// Returns once the pods of this DaemonSet can be seen.
    async fn turn_to(&self, set: &ObjectKey);

    /// The pods of the DaemonSet, as they are now.
    fn pods(&self, set: &ObjectKey) -> Vec<PodView>;

    /// The change is made: what starts from now on has it.
    fn changed(&self) {}

    /// A rollout has come so far.
    fn going(&self, set: &ObjectKey, going: &Going);
}

/// What became of a fix that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is in place, on so many pods.
    InPlace(u32),
    /// It did harm, and was taken back.
    Harm {
        /// Which pod, and how.
        why: String,
        /// What the pods suffer from with it gone, if anything; or why it could not be taken back.
        back: Result<Option<String>, String>,
    },
    /// Its rollout does not come to an end, and it is not to blame for what that waits for. It is left as it is.
    Late(String),
}

/// How fixes are seen through on a cluster.
pub struct Course<'a, C, K, O> {
    /// Applies, and takes back.
    pub remedy: &'a Remedy<C, K>,
    /// Sees the pods.
    pub onlooker: &'a O,
    /// How long one pod may take to be ready.
    pub patience: Duration,
}

impl<C: Cloud + Addons, K: Manifests, O: Onlooker> Course<'_, C, K, O> {
    /// Applies what was proposed, and sees it through.
    ///
    /// # Errors
    /// If it cannot be applied, or its DaemonSet cannot be read while its pods are renewed.
    pub async fn apply(&self, proposal: &Proposal) -> Result<Came, Error> {
        let set = &proposal.remedial.daemonset;
        self.onlooker.turn_to(set).await;
        let rollout = Rollout::begin(&self.onlooker.pods(set), self.remedy.clock.now(), self.patience);
        self.remedy.apply(proposal).await?;
        self.onlooker.changed();
        self.see_through((&proposal.remedial.name, true), set, rollout).await
    }

    /// Takes up a fix that was applied, and that nobody has seen through. Where it does harm it is taken back if it
    /// `may` be.
    ///
    /// # Errors
    /// If it is not in place any more, or its DaemonSet cannot be read.
    pub async fn take_up(&self, name: &str, may: bool) -> Result<Came, Error> {
        let remedial = self.remedy.catalogue().find(name)?;
        self.remedy.let_addon_settle(&remedial).await?;
        let proposal = self.remedy.propose(name, &Options::default()).await?;
        let State::Applied(record) = &proposal.state else {
            let what = format!("go on with {name}");
            return Err(Error::Refused { what, why: "it is not in place any more".to_owned() });
        };
        let set = &proposal.remedial.daemonset;
        // What its pods went through since it was over is no harm of the rollout.
        if let Some(pods) = proposal.rolled_out() {
            return Ok(Came::InPlace(pods));
        }
        self.onlooker.turn_to(set).await;
        let now = self.remedy.clock.now();
        let rollout = Rollout::take_up(&self.onlooker.pods(set), record.at, now, self.patience);
        self.see_through((name, may), set, rollout).await
    }

    /// Takes a fix back, and follows the pods until they run as before.
    ///
    /// # Errors
    /// If it cannot be taken back, or its DaemonSet cannot be read.
    pub async fn take_back(&self, undo: &Undo) -> Result<Ended, Error> {
        let set = &undo.remedial.daemonset;
        self.onlooker.turn_to(set).await;
        let rollout = Rollout::begin(&self.onlooker.pods(set), self.remedy.clock.now(), self.patience);
        self.remedy.revert(undo).await?;
        self.follow(set, rollout).await
    }

    async fn see_through(&self, (name, may): (&str, bool), set: &ObjectKey, rollout: Rollout) -> Result<Came, Error> {
        Ok(match self.follow(set, rollout).await? {
            Ended::Done(pods) => Came::InPlace(pods),
            Ended::Late(why) => Came::Late(why),
            Ended::Bad(why) if !may => Came::Harm { why, back: Err("it was not applied by this rotation".to_owned()) },
            Ended::Bad(why) => {
                let undo = self.remedy.propose_revert(name).await;
                let ended = match undo {
                    Ok(undo) => self.take_back(&undo).await,
                    Err(error) => Err(error),
                };
                let back = match ended {
                    Ok(Ended::Done(_)) => Ok(None),
                    Ok(Ended::Bad(why) | Ended::Late(why)) => Ok(Some(why)),
                    Err(error) => Err(error.to_string()),
                };
                Came::Harm { why, back }
            }
        })
    }

    async fn follow(&self, set: &ObjectKey, rollout: Rollout) -> Result<Ended, Error> {
        let (cluster, clock) = (&*self.remedy.cluster, self.remedy.clock);
        let ended = follow((cluster, set), rollout, clock, || self.onlooker.pods(set), |g| self.onlooker.going(set, g));
        Ok(ended.await?)
    }
}
