//! Keys of `autopilot.toml`.

use super::{
    ANY, ENTRY, Key,
    Kind::{Bool, Duration, Integer, Mixed, Number, OneOf, Secret, Text, Texts},
    Table, channels, default, example, schedules,
};

pub(in crate::config) const TABLES: &[Table] = &[
    Table { path: &["server"], about: "The agent server", keys: SERVER },
    Table {
        path: &["server", "tokens"],
        about: "Further bearer tokens by name, valid beside the first",
        keys: &[example(ANY, Secret, "\"env:TOKEN_OF_ANN\"", "Token of this name, 16 characters or more")],
    },
    Table { path: &["server", "limits"], about: "Bounds of the server", keys: LIMITS },
    Table { path: &["watch"], about: "The scheduler", keys: WATCH },
    Table { path: &["defaults"], about: "What schedules inherit", keys: schedules::DEFAULTS },
    Table { path: &["budget"], about: "What all schedules together may use", keys: BUDGET },
    Table { path: &["notifications"], about: "Where schedules report", keys: NOTIFICATIONS },
    Table { path: &["schedules", ENTRY], about: "A prompt that runs by the clock", keys: schedules::SCHEDULE },
    Table { path: &["gateway"], about: "Chats", keys: channels::GATEWAY },
    Table { path: &["routing"], about: "Which chats share a session", keys: channels::ROUTING },
    Table { path: &["routing", "bindings", ENTRY], about: "A session of its own for a chat", keys: channels::BINDING },
    Table { path: &["channels", "telegram"], about: "A bot of @BotFather", keys: channels::TELEGRAM },
    Table { path: &["channels", "slack"], about: "An app in Socket Mode", keys: channels::SLACK },
    Table { path: &["channels", "discord"], about: "A bot of the developer portal", keys: channels::DISCORD },
];

const SERVER: &[Key] = &[
    default("listen", Text, "\"127.0.0.1:4096\"", "Address and port to listen on"),
    example("model", Text, "\"provider/id\"", "Model of runs that name none [default: the profile's]"),
    default("auto_approve_all", Bool, "false", "Runs every tool without a question"),
    example("token", Secret, "\"env:MY_TOKEN\"", "Bearer token [default: one that is made at the first start]"),
    default("allowed_hosts", Texts, "[]", "Host names that requests may be made to, besides addresses of this machine"),
    default("allowed_origins", Texts, "[]", "Web pages that may ask, such as https://ops.example.com"),
    default(
        "approval_ceiling",
        Mixed,
        "\"all\"",
        "What a message may let run without a question: all, none or a list of tools",
    ),
    default("drain_timeout", Duration, "\"10s\"", "How long active runs may go on after Ctrl-C"),
    default(
        "sandbox_mode",
        OneOf(&["persistent", "ephemeral"]),
        "\"persistent\"",
        "Whether a container is kept for its session, or for one run",
    ),
    default("tasks_on_shutdown", OneOf(&["keep", "kill"]), "\"keep\"", "Whether tasks go on when the server stops"),
    default("resume_max_age", Duration, "\"1h\"", "How old an unfinished run may be that is taken up again"),
    default("mcp", Bool, "false", "Offers the tools of this machine to MCP clients, at /v1/mcp"),
    default("log_format", OneOf(&["text", "json"]), "\"text\"", "How the log files are written"),
];

const LIMITS: &[Key] = &[
    default("active_runs", Integer, "64", "Runs at work at once; more wait"),
    default("queued_commands", Integer, "128", "Messages that wait in one run"),
    default("streams_per_session", Integer, "2048", "Readers of one session"),
    default("streams", Integer, "8192", "Readers of all sessions"),
    example("requests_per_second", Integer, "50", "Of one token [default: no bound]"),
    default("message_body", Text, "\"16 MiB\"", "Largest message"),
    default("body", Text, "\"2 MiB\"", "Largest body of any other request"),
    default("write_stall", Duration, "\"60s\"", "How long a reader may take nothing"),
    default("idle_after", Duration, "\"5m\"", "How long a session that nothing happens in is kept in memory"),
    default("approval_timeout", Duration, "\"24h\"", "How long an approval is waited for"),
    example("run_wall_clock", Duration, "\"2h\"", "Longest run [default: no bound]"),
    example("run_tokens", Integer, "2000000", "Most tokens of a run [default: no bound]"),
    example("run_cost_usd", Number, "5.0", "Most dollars of a run [default: no bound]"),
    default(
        "events_age",
        Text,
        "\"30days\"",
        "How long events can be replayed; off keeps all. Messages are always kept",
    ),
    default("events_bytes", Text, "\"64 MiB\"", "How much of one session can be replayed; off keeps all"),
    default("deleted_sessions", Text, "\"30days\"", "How long deleted sessions are kept; off keeps all"),
];

const WATCH: &[Key] = &[
    example("db_path", Text, "\"~/.stakpak/autopilot/autopilot.db\"", "Ledger of the schedules [default: this]"),
    example("log_dir", Text, "\"~/.stakpak/autopilot/logs\"", "Directory of the log files [default: this]"),
    default("max_concurrent_runs", Integer, "4", "Scheduled runs at once; more wait"),
    default("history_retention", Duration, "\"90d\"", "How long runs stay in the history"),
    default("history_max_runs", Integer, "10000", "Most runs of a schedule in the history"),
    default("stop_grace", Duration, "\"30s\"", "How long the end of a cancelled run is waited for"),
];

const BUDGET: &[Key] = &[
    example("usd_per_day", Number, "10.0", "Most dollars of a day of [defaults] timezone [default: no bound]"),
    example("tokens_per_day", Integer, "2000000", "Most tokens of a day of [defaults] timezone [default: no bound]"),
    example("runs_per_day", Integer, "200", "Most runs of such a day [default: no bound]"),
    default("alert_at", Mixed, "[0.8, 1.0]", "Shares of a limit of a day that are told when they are reached"),
];

const NOTIFICATIONS: &[Key] = &[
    example("channel", OneOf(&["telegram", "slack", "discord"]), "\"telegram\"", "Platform"),
    example("target", Mixed, "\"123456789\"", "Chat on it; a table names a thread"),
    default("notify_on", Mixed, "\"all\"", "all, completions, failures, none, or a list of events"),
    default(
        "mode",
        OneOf(&["every", "change"]),
        "\"every\"",
        "Whether an outcome is told that is the same as the last",
    ),
    default("max_age", Duration, "\"24h\"", "How long delivery is tried"),
    example(
        "gateway_url",
        Text,
        "\"https://gateway.example.com\"",
        "Gateway of another machine [default: the own one]",
    ),
    example("gateway_token", Secret, "\"env:GATEWAY_TOKEN\"", "Its bearer token"),
];
