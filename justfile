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
