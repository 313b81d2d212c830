//! Shares equal strings, equal label sets and equal owners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Labels, Owner, Text, Uid};

/// Strings kept before the ones nobody uses any more are let go for the first time.
const FIRST_SWEEP: usize = 4096;

/// Hands out one `Arc` for equal strings, equal label sets and equal owners.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Interner {
    texts: BTreeSet<Text>,
    sets: BTreeSet<Arc<Labels>>,
    /// By UID.
    owners: BTreeMap<Text, Arc<Owner>>,
    sweep_at: usize,
}

impl Interner {
    /// The shared form of `text`.
    pub(in crate::cluster) fn text(&mut self, text: &str) -> Text {
        if let Some(known) = self.texts.get(text) {
            return Text::clone(known);
        }
        self.sweep();
        let shared: Text = Arc::from(text);
        self.texts.insert(Text::clone(&shared));
        shared
    }

    /// The shared form of `labels`.
    pub(in crate::cluster) fn labels(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.sets.get(&labels) {
            return Arc::clone(known);
        }
        let shared = Arc::new(labels);
        self.sets.insert(Arc::clone(&shared));
        shared
    }

    /// The shared form of an owner.
    pub(in crate::cluster) fn owner(&mut self, kind: &str, name: &str, uid: &str) -> Arc<Owner> {
        if let Some(known) = self.owners.get(uid)
            && *known.kind == *kind
            && *known.name == *name
        {
            return Arc::clone(known);
        }
        let key = self.text(uid);
        let owner = Arc::new(Owner { kind: self.text(kind), name: self.text(name), uid: Uid::from(Text::clone(&key)) });
        self.owners.insert(key, Arc::clone(&owner));
        owner
    }

    /// Lets go of what only the interner still holds, each time it has doubled: a run of days sees many
    /// ReplicaSets and nodes come and go.
    fn sweep(&mut self) {
        if self.texts.len() < self.sweep_at.max(FIRST_SWEEP) {
            return;
        }
        self.sets.retain(|set| Arc::strong_count(set) > 1);
        self.owners.retain(|_, owner| Arc::strong_count(owner) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.sweep_at = self.texts.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_let_go_and_what_is_held_stays_shared() {
        let mut strings = Interner::default();
        let held = strings.text("held");
        for n in 0..3 * FIRST_SWEEP {
            strings.text(&format!("passing-{n}"));
        }
        assert!(strings.texts.len() <= FIRST_SWEEP + 1, "{} strings kept", strings.texts.len());
        assert!(Arc::ptr_eq(&held, &strings.text("held")));
    }
}
