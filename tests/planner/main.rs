//! The planner's stories: each is played in an ideal world and compared with its telling in `tests/goldens/`.
//! `UPDATE_GOLDENS=1` writes them anew, for a person to read before they are committed.

mod world;

use std::fs;
use std::path::Path;

use fastnode::model::*;
use fastnode::plan::Verdict;
use fastnode::policy::{Amount, Policy, Surge};
use world::{Fate, World};

fn policy(surge: u32) -> Policy {
    Policy { surge: Surge::Fixed(Amount::Count(surge)), ..Policy::default() }
}

fn golden(name: &str, what: &str, world: World) {
    let told = format!("# {}\n\n{what}\n\n```text\n{}```\n", name.replace('-', " "), world.story());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.md"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, &told).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    if known != told {
        let at = known.lines().zip(told.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let (a, b) = (known.lines().nth(at).unwrap_or(""), told.lines().nth(at).unwrap_or(""));
        panic!("{name} is told otherwise from line {} on:\n- {a}\n+ {b}\n\n{told}", at + 1);
    }
}

const ZONES: [(&str, u32); 3] = [("a", 2), ("b", 2), ("c", 2)];

#[test]
fn plain_rotation_with_a_surge_of_one() {
    let mut world = World::new(policy(1)).with_group("workers", &ZONES, 2);
    world.begin();
    assert_eq!(world.play(), Some(Verdict::Done));
    golden("plain-rotation", "Six nodes in three zones, surge 1, one by one: each drain follows a functional replacement in its zone, \
         and the last termination takes the surge with it.", world);
}
