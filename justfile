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

# Accept changed snapshots
accept:
    INSTA_UPDATE=always cargo test --workspace

# Speed and memory of the release binary, beside the targets and the least that a durable server costs
bench *ARGS='all':
    cargo build --release -p stakpak -p stakpak-bench
    target/release/stakpak-bench {{ARGS}}
