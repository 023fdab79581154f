# What people do every day. CI calls the same.

# Formatting, lints, docs, dependency rules, tests
check:
    .ci/run

# Start everything
up *ARGS:
    cargo run --release -- up {{ARGS}}

# The whole test suite
test *ARGS:
    cargo test --workspace {{ARGS}}

# Kill the release binary KILLS times at random, then before each write and sync; hold it to every guarantee. SEED repeats one
crash KILLS='200' SEED=`date +%s`:
    STAKPAK_CRASH_KILLS={{KILLS}} STAKPAK_CRASH_SEED={{SEED}} STAKPAK_CRASH_POINTS=all \
      cargo test --release -p stakpak --test crash_campaign -- --nocapture --test-threads 1 the_guarantees_hold

# Accept changed snapshots
accept:
    INSTA_UPDATE=always cargo test --workspace

# Speed and memory of the release binary, beside the targets and the least that a durable server costs
bench *ARGS='all':
    cargo build --release -p stakpak -p stakpak-bench
    target/release/stakpak-bench {{ARGS}}
