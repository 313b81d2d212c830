//! What is heard, and how often AWS is asked for it.

use std::rc::Rc;
use std::time::Duration;

use fastnode::cloud::GroupState;
use fastnode::cluster::Fact;
use fastnode::model::{Target, TemplateRef};
use fastnode::observe::source::{Answer, Heard, Source, resolve};
use tokio::time::Instant;

use crate::fakes::{FakeCloud, FakeCluster, group, run};

#[test]
fn a_quiet_world_is_read_at_the_slow_beat() {
    run(async {
        let cloud = Rc::new(FakeCloud::with(vec![GroupState { group: group("g", 0), instances: vec![] }]));
        let mut source = Source::start(cloud.clone(), Rc::new(FakeCluster::default()), &"c".into());
        let mut facts = Vec::with_capacity(64);
        let end = Instant::now() + Duration::from_secs(600);
        while Instant::now() < end {
            let due = source.pace.due().unwrap_or(end).min(end);
            tokio::select! {
                biased;
                heard = source.hear(&mut facts) => {
                    if let Heard::Answer(answer) = heard {
                        assert!(matches!(*answer, Answer::Groups { .. }));
                        source.pace.end(Instant::now());
                    }
                }
                () = tokio::time::sleep_until(due) => source.read_groups(),
            }
        }
        assert_eq!(facts.iter().filter(|f| matches!(f, Fact::Synced(_))).count(), 7);
        let calls = cloud.sent("groups");
        assert!((5..=6).contains(&calls), "{calls} readings in ten minutes");
    });
}

#[test]
fn groups_of_one_target_cost_one_question() {
    run(async {
        let cloud = FakeCloud::default();
        let target = |id: &str| {
            Target::Template(TemplateRef { id: id.into(), version: "$Latest".into(), resolved: None, image: None })
        };
        let asked = [("a", "lt-1"), ("b", "lt-1"), ("c", "lt-2")].map(|(g, t)| (g.into(), target(t)));
        let answer = resolve(&cloud, asked.into()).await.unwrap();
        assert_eq!((answer.len(), cloud.sent("resolve")), (3, 2));
    });
}
