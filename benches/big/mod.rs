//! The cluster that the benchmarks run on.

use fastnode::sim::Scenario;

/// The demo's cluster, ten times over: 5,000 nodes and 150,000 pods of workloads.
const TIMES: u32 = 10;

pub fn scenario() -> Scenario {
    let mut scenario = Scenario::load("demo").unwrap();
    for group in &mut scenario.groups {
        (group.nodes, group.min, group.max) =
            (group.nodes * TIMES, group.min * TIMES, group.max.map(|max| max * TIMES));
    }
    for workload in &mut scenario.workloads {
        workload.copies *= TIMES;
    }
    scenario
}
