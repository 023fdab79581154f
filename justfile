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

# Kill the release binary KILLS times at random, then before every sync and every POINTS-th write of the journal
crash KILLS='200' POINTS='10' SEED=`date +%s`:
    STAKPAK_CRASH_KILLS={{KILLS}} STAKPAK_CRASH_POINTS={{POINTS}} STAKPAK_CRASH_SEED={{SEED}} \
      cargo test --release -p stakpak --test crash_campaign -- --nocapture --test-threads 1 the_guarantees_hold

# MESSAGES over Telegram, Slack and Discord while the release binary is killed and the platforms misbehave
chaos-gateway MESSAGES='10000' CONVERSATIONS='200' SEED=`date +%s`:
    cargo build --release -p stakpak
    STAKPAK_CHAOS_MESSAGES={{MESSAGES}} STAKPAK_CHAOS_CONVERSATIONS={{CONVERSATIONS}} STAKPAK_CHAOS_SEED={{SEED}} \
      STAKPAK_CHAOS_BINARY={{justfile_directory()}}/target/release/stakpak \
      cargo test -p stakpak --test chaos_gateway -- --nocapture the_guarantees_hold

# A day with CONVERSATIONS and the two months after it, on a compressed clock: what the gateway keeps, and what grows
soak-gateway CONVERSATIONS='10000':
    STAKPAK_SOAK_CONVERSATIONS={{CONVERSATIONS}} cargo test --release -p stakpak-gateway --test soak -- --nocapture

# SCHEDULES through HOURS of simulated time, while the binary is killed, its clock set and the host put to sleep
chaos-schedules SCHEDULES='200' HOURS='120' KILL_EVERY='20' SEED=`date +%s`:
    STAKPAK_CHAOS_SCHEDULES={{SCHEDULES}} STAKPAK_CHAOS_HOURS={{HOURS}} STAKPAK_CHAOS_KILL_EVERY={{KILL_EVERY}} \
      STAKPAK_CHAOS_SEED={{SEED}} cargo test --profile campaign -p stakpak --features campaign --test chaos_schedules \
      -- --nocapture the_schedules_hold

# The same for a simulated month with hourly kills
soak-schedules SCHEDULES='50' SEED=`date +%s`: (chaos-schedules SCHEDULES '720' '60' SEED)

# Accept changed snapshots
accept:
    INSTA_UPDATE=always cargo test --workspace

# Speed and memory of the release binary, beside the targets and the least that a durable server costs
bench *ARGS='all':
    cargo build --release -p stakpak
    cargo build --release -p stakpak-bench
    target/release/stakpak-bench {{ARGS}}

# What reads text that others write: every fuzz target, MINUTES each. Needs cargo-fuzz
fuzz MINUTES='10':
    for target in `cargo fuzz list`; do just fuzz-long $target -max_total_time=$(({{MINUTES}} * 60)) || exit; done

# One fuzz target until it is stopped
fuzz-long TARGET *ARGS:
    mkdir -p fuzz/target/corpus/{{TARGET}}
    cargo fuzz run -s none {{TARGET}} fuzz/target/corpus/{{TARGET}} fuzz/corpus/{{TARGET}} -- \
      -dict=fuzz/dictionaries/{{TARGET}}.dict -max_len=2048 -timeout=10 {{ARGS}}
