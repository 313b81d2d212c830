# What people do here. `just` lists it.

_default:
    @just --list

# Everything a change must pass.
check:
    .ci/run

# The tests that need nothing but the toolchain.
test *arguments:
    cargo test {{arguments}}

# A simulated cluster of 500 nodes, rotated before your eyes in about 20 s.
demo *arguments:
    cargo run -- rotate --cluster demo --simulate --yes {{arguments}}

# A real control plane with simulated nodes to try things on; Ctrl-C takes it down. --nodes 50
stack *arguments:
    tests/stack/up {{arguments}}

# How long things take: the demo, and what tests/stack measures.
bench:
    cargo build --release
    bash -c 'time target/release/fastnode rotate --cluster demo --simulate --yes --speed max | tail -25'
    cargo bench --bench plan
    cargo bench --bench rotation
    tests/stack/run --bench --fastnode target/release/fastnode

# Writes docs/cli.md anew from the command line's own description.
docs:
    UPDATE_DOCS=1 cargo test --lib documented
