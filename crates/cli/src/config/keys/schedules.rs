//! Keys of `[[schedules]]`, and of `[defaults]` below them.

use super::{
    Key,
    Kind::{Bool, Duration, Integer, Mixed, OneOf, Text, Texts},
    default, example,
};

const OVERLAP: &[&str] = &["skip", "queue_one", "queue_all", "cancel_running"];
const CATCHUP: &[&str] = &["latest", "all", "none"];
const RETRY_ON: &[&str] = &["safe", "any"];
const ON_CRASH: &[&str] = &["resume", "fail"];
const TRIGGER_ON: &[&str] = &["success", "failure", "any"];

pub(super) const DEFAULTS: &[Key] = &[
    default("profile", Text, "\"default\"", "Profile of config.toml"),
    example("model", Text, "\"provider/id\"", "Model [default: the profile's]"),
    default("timezone", Text, "\"UTC\"", "IANA time zone, or local"),
    default("timeout", Duration, "\"30m\"", "Longest run"),
    default("check_timeout", Duration, "\"30s\"", "Longest check"),
    default("trigger_on", OneOf(TRIGGER_ON), "\"failure\"", "Outcome of the check that starts the agent"),
    example("workdir", Text, "\"~/ops\"", "Directory of tools and checks [default: your home directory]"),
    default("pause_on_approval", Bool, "false", "Wait for a person where policy asks"),
    default("approval_timeout", Duration, "\"24h\"", "How long a person is waited for"),
    default("sandbox", Bool, "false", "Run isolated, or not at all"),
    default("overlap", OneOf(OVERLAP), "\"skip\"", "What becomes of a fire while a run is active"),
    default("queue_limit", Integer, "100", "Most fires that wait"),
    default("catchup", OneOf(CATCHUP), "\"latest\"", "Which late fires are caught up on"),
    default("catchup_window", Duration, "\"auto\"", "How late a fire may be caught up on"),
    default("catchup_limit", Integer, "10", "Most fires that are caught up on at once"),
    default("jitter", Duration, "\"0s\"", "Random delay of each fire"),
    default("retries", Integer, "0", "Further attempts of a run that failed"),
    default("retry_backoff", Duration, "\"30s\"", "Time before the second attempt; doubles for each further one"),
    default("retry_max_delay", Duration, "\"15m\"", "Most time before an attempt"),
    default("retry_on", OneOf(RETRY_ON), "\"safe\"", "safe: what may pass and had no effect; any: every failure"),
    default("pause_after_failures", Integer, "5", "Failures in a row that pause it; 0 for never"),
    default("on_crash", OneOf(ON_CRASH), "\"resume\"", "What becomes of a run when stakpak dies meanwhile"),
];

pub(super) const SCHEDULE: &[Key] = &[
    example("name", Text, "\"morning\"", "Its name, unique"),
    example("cron", Text, "\"0 8 * * 1-5\"", "When: five fields, six with seconds first, or @daily and the like"),
    example("every", Duration, "\"90m\"", "When: at multiples of an interval"),
    example("at", Text, "\"2030-01-01T08:00\"", "When: once"),
    example("prompt", Text, "\"status\"", "What to do"),
    example("prompt_file", Text, "\"~/prompts/morning.md\"", "File with what to do, read at each run"),
    default("enabled", Bool, "true", "Whether it fires by itself"),
    example("check", Text, "\"~/checks/disk.sh\"", "Script that decides whether the agent runs"),
    default("check_args", Texts, "[]", "Arguments of the check"),
    default("check_env", Texts, "[]", "Variables that the check sees"),
    example("profile", Text, "\"ops\"", "Profile of config.toml"),
    example("model", Text, "\"provider/id\"", "Model"),
    example("timezone", Text, "\"Europe/Berlin\"", "IANA time zone, or local"),
    example("timeout", Duration, "\"10m\"", "Longest run"),
    example("check_timeout", Duration, "\"10s\"", "Longest check"),
    example("trigger_on", OneOf(TRIGGER_ON), "\"any\"", "Outcome of the check that starts the agent"),
    default("max_turns", Integer, "64", "Most turns of a run, 1 to 256"),
    example("workdir", Text, "\"~/ops\"", "Directory of its tools and its check"),
    example("pause_on_approval", Bool, "true", "Wait for a person where policy asks"),
    example("approval_timeout", Duration, "\"1h\"", "How long a person is waited for"),
    default(
        "interaction",
        OneOf(&["interactive", "silent"]),
        "\"interactive\"",
        "Whether its runs take place in its chat, where it has one",
    ),
    example("sandbox", Bool, "true", "Run isolated, or not at all"),
    example("overlap", OneOf(OVERLAP), "\"queue_one\"", "What becomes of a fire while a run is active"),
    example("queue_limit", Integer, "10", "Most fires that wait"),
    example("catchup", OneOf(CATCHUP), "\"none\"", "Which late fires are caught up on"),
    example("catchup_window", Duration, "\"1h\"", "How late a fire may be caught up on"),
    example("catchup_limit", Integer, "3", "Most fires that are caught up on at once"),
    example("jitter", Duration, "\"30s\"", "Random delay of each fire"),
    example("retries", Integer, "2", "Further attempts of a run that failed"),
    example("retry_backoff", Duration, "\"1m\"", "Time before the second attempt; doubles for each further one"),
    example("retry_max_delay", Duration, "\"1h\"", "Most time before an attempt"),
    example("retry_on", OneOf(RETRY_ON), "\"any\"", "safe: what may pass and had no effect; any: every failure"),
    example("pause_after_failures", Integer, "3", "Failures in a row that pause it; 0 for never"),
    example("on_crash", OneOf(ON_CRASH), "\"fail\"", "What becomes of a run when stakpak dies meanwhile"),
    example(
        "budget",
        Mixed,
        "{ tokens_per_run = 100000 }",
        "Bounds: usd_per_run, usd_per_day, tokens_per_run, tokens_per_day, runs_per_day",
    ),
    example("exclusive_group", Text, "\"disk\"", "Schedules of one group never run at the same time"),
    example("notify_channel", OneOf(&["telegram", "slack", "discord"]), "\"slack\"", "Platform that it reports on"),
    example("notify_target", Mixed, "\"C0OPS\"", "Chat on it"),
    example("notify_on", Mixed, "\"failures\"", "all, completions, failures, none, or a list of events"),
    example("board_id", Text, "\"ops-1\"", "Given to the agent"),
];
