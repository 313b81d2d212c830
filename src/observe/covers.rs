//! Which budgets cover which pods, kept up as both change.
//!
//! A budget chooses by namespace and labels, and the pods of one workload share both: what covers them is found
//! once for all of them, when the first one comes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::model::{Budget, Labels, ObjectKey, Operator, Pod, Text, Uid};

/// Pods of one namespace with the same labels: alike to every budget.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kin {
    /// The budgets that cover them, in the order of their names.
    budgets: Vec<ObjectKey>,
    /// A budget can refuse them for ever: one that never frees, or several at once.
    hard: bool,
    pods: BTreeSet<Uid>,
}

impl Kin {
    fn is_hard(&self, budgets: &BTreeMap<ObjectKey, Budget>) -> bool {
        match self.budgets.as_slice() {
            [] => false,
            [only] => budgets.get(only).is_some_and(Budget::never_frees),
            _ => true,
        }
    }
}

/// Which kin a pod belongs to. What the labels hash to goes first: comparing that tells nearly all kin apart.
type Kind = (u64, Text, Arc<Labels>);

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Covers {
    kin: BTreeMap<Kind, Kin>,
    /// Their labels, by namespace, key and value of each: a budget meets few of a namespace's many.
    labelled: BTreeMap<(Text, Text, Text), BTreeSet<Arc<Labels>>>,
    /// Budgets by namespace, key and value of one label that they require: a pod meets few of a namespace's many.
    of_label: BTreeMap<(Text, Text, Text), BTreeSet<ObjectKey>>,
    /// Budgets that require no label with one value.
    elsewise: BTreeSet<ObjectKey>,
}

fn kin_of(pod: &Pod) -> Kind {
    kind(&pod.key.namespace, &pod.labels)
}

fn kind(namespace: &Text, labels: &Arc<Labels>) -> Kind {
    // Of fixed keys: the same in each run.
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    (hasher.finish(), namespace.clone(), labels.clone())
}

/// Each label of kin, as budgets are found by it.
fn labels_of((_, namespace, labels): &Kind) -> impl Iterator<Item = (Text, Text, Text)> {
    labels.iter().map(|(key, value)| (namespace.clone(), key.clone(), value.clone()))
}

fn covers(budget: &Budget, labels: &Labels) -> bool {
    budget.selector.as_ref().is_some_and(|selector| selector.matches(labels))
}

/// Where a budget is found again: by the first label it requires one value of.
fn label_of(budget: &Budget) -> Option<(Text, Text, Text)> {
    budget.selector.as_ref()?.0.iter().find_map(|requirement| match requirement.values.as_slice() {
        [value] if requirement.operator == Operator::In => {
            Some((budget.key.namespace.clone(), requirement.key.clone(), value.clone()))
        }
        _ => None,
    })
}

impl Covers {
    /// Takes in a pod; whether a budget can refuse it for ever.
    pub(super) fn add(&mut self, pod: &Pod, budgets: &BTreeMap<ObjectKey, Budget>) -> bool {
        let key = kin_of(pod);
        if let Some(kin) = self.kin.get_mut(&key) {
            kin.pods.insert(pod.uid.clone());
            return kin.hard;
        }
        let over = self.find(pod, budgets);
        let mut kin = Kin { budgets: over, hard: false, pods: BTreeSet::from([pod.uid.clone()]) };
        kin.hard = kin.is_hard(budgets);
        let hard = kin.hard;
        for label in labels_of(&key) {
            self.labelled.entry(label).or_default().insert(key.2.clone());
        }
        self.kin.insert(key, kin);
        hard
    }

    /// Drops a pod.
    pub(super) fn remove(&mut self, pod: &Pod) {
        let key = kin_of(pod);
        let Some(kin) = self.kin.get_mut(&key) else { return };
        kin.pods.remove(&pod.uid);
        if kin.pods.is_empty() {
            self.kin.remove(&key);
            for label in labels_of(&key) {
                let Some(labelled) = self.labelled.get_mut(&label) else { continue };
                labelled.remove(&key.2);
                if labelled.is_empty() {
                    self.labelled.remove(&label);
                }
            }
        }
    }

    /// The budgets over a pod that was taken in.
    pub(super) fn over(&self, pod: &Pod) -> &[ObjectKey] {
        self.kin.get(&kin_of(pod)).map_or(&[], |kin| &kin.budgets)
    }

    /// Takes in that a budget came, went (it is no longer in `budgets`) or changed; the pods that it may hold now,
    /// or held before.
    pub(super) fn settle(
        &mut self,
        (old, new): (Option<&Budget>, Option<&Budget>),
        budgets: &BTreeMap<ObjectKey, Budget>,
    ) -> Vec<Uid> {
        let mut held = Vec::new();
        let Some(key) = new.or(old).map(|budget| &budget.key) else { return held };
        if let Some(old) = old {
            self.unlist(old);
        }
        if let Some(new) = new {
            self.list(new);
        }
        for labels in self.near(key, [old, new]) {
            let Some(kin) = self.kin.get_mut(&kind(&key.namespace, &labels)) else { continue };
            let covered = new.is_some_and(|budget| covers(budget, &labels));
            match (kin.budgets.binary_search(key), covered) {
                (Err(_), false) => continue,
                (Err(at), true) => kin.budgets.insert(at, key.clone()),
                (Ok(at), false) => _ = kin.budgets.remove(at),
                (Ok(_), true) => {}
            }
            let before = std::mem::replace(&mut kin.hard, false);
            kin.hard = kin.is_hard(budgets);
            if before || kin.hard {
                held.extend(kin.pods.iter().cloned());
            }
        }
        held
    }

    /// The labels of those that these budgets may cover.
    fn near(&self, key: &ObjectKey, budgets: [Option<&Budget>; 2]) -> BTreeSet<Arc<Labels>> {
        let mut near = BTreeSet::new();
        for budget in budgets.into_iter().flatten().filter(|budget| budget.selector.is_some()) {
            let Some(label) = label_of(budget) else {
                let here = self.kin.keys().filter(|(_, namespace, _)| *namespace == key.namespace);
                return here.map(|(_, _, labels)| labels.clone()).collect();
            };
            near.extend(self.labelled.get(&label).into_iter().flatten().cloned());
        }
        near
    }

    fn list(&mut self, budget: &Budget) {
        match label_of(budget) {
            Some(label) => self.of_label.entry(label).or_default().insert(budget.key.clone()),
            None => self.elsewise.insert(budget.key.clone()),
        };
    }

    fn unlist(&mut self, budget: &Budget) {
        let Some(label) = label_of(budget) else {
            self.elsewise.remove(&budget.key);
            return;
        };
        let Some(budgets) = self.of_label.get_mut(&label) else { return };
        budgets.remove(&budget.key);
        if budgets.is_empty() {
            self.of_label.remove(&label);
        }
    }

    /// Finds the budgets over a pod.
    fn find(&self, pod: &Pod, budgets: &BTreeMap<ObjectKey, Budget>) -> Vec<ObjectKey> {
        let namespace = &pod.key.namespace;
        let labels = pod.labels.iter().map(|(key, value)| (namespace.clone(), key.clone(), value.clone()));
        let found = labels.filter_map(|label| self.of_label.get(&label)).flatten();
        let first = ObjectKey { namespace: namespace.clone(), name: "".into() };
        let others = self.elsewise.range(first..).take_while(|key| key.namespace == *namespace);
        let near: BTreeSet<&ObjectKey> = found.chain(others).collect();
        let over = near.into_iter().filter(|key| budgets.get(*key).is_some_and(|b| covers(b, &pod.labels)));
        over.cloned().collect()
    }
}
