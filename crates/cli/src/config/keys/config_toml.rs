//! Keys of `config.toml`.

use super::{
    ANY, Key,
    Kind::{Bool, Integer, Mixed, Number, OneOf, Secret, Text, Texts},
    Table, default, example,
};

pub(in crate::config) const TABLES: &[Table] = &[
    Table {
        path: &["profiles", ANY],
        about: "What runs may use and do; [profiles.all] lies below every profile",
        keys: PROFILE,
    },
    Table { path: &["profiles", ANY, "budget"], about: "What runs of the profile may take", keys: BUDGET },
    Table {
        path: &["profiles", ANY, "providers", ANY],
        about: "A provider of models; without any, ANTHROPIC_API_KEY and the like are looked for",
        keys: PROVIDER,
    },
    Table {
        path: &["profiles", ANY, "providers", ANY, "headers"],
        about: "Headers sent with each request",
        keys: &[example(ANY, Secret, "\"env:MY_HEADER\"", "Value of the header of this name")],
    },
    Table {
        path: &["profiles", ANY, "compaction"],
        about: "How a conversation that grows too long for its model is made to fit; the history keeps every message",
        keys: COMPACTION,
    },
    Table {
        path: &["profiles", ANY, "no_progress"],
        about: "When a run that makes the same calls with the same results, turn after turn, is stopped",
        keys: NO_PROGRESS,
    },
    Table { path: &["profiles", ANY, "models"], about: "Models beside the one that answers", keys: MODELS },
    Table { path: &["limits", ANY], about: "How many tokens a model takes, by provider/id", keys: LIMITS },
    Table {
        path: &["cost", ANY],
        about: "What a model costs, by provider/id, in US dollars per million tokens; wins over the built-in list",
        keys: COST,
    },
    Table { path: &["secrets"], about: "What no rule hides; from the next start on", keys: SECRETS },
    Table {
        path: &["secrets", "rules", ANY],
        about: "A rule that hides more, by the id in its placeholders (a-z, 0-9, -); from the next start on",
        keys: SECRET_RULE,
    },
    Table { path: &["settings"], about: "This machine", keys: SETTINGS },
];

const SECRETS: &[Key] = &[default(
    "ignore",
    Texts,
    "[]",
    "Values that rules find and that are no secrets, as \"sha256:…\" (printf %s VALUE | sha256sum)",
)];

const SECRET_RULE: &[Key] = &[
    example("regex", Text, "'acme_[a-z0-9]{20}'", "Its group `secret` is hidden, or all of what it matches; needed"),
    example("keywords", Texts, "[\"acme_\"]", "One of them stands in every match, in any case; needed"),
];

const SETTINGS: &[Key] = &[example("machine_name", Text, "\"build-1\"", "What `status` calls it")];

const BUDGET: &[Key] = &[
    example("usd_per_run", Number, "2.0", "Most dollars of a run [default: no bound]"),
    example("tokens_per_run", Integer, "500000", "Most tokens of a run [default: no bound]"),
    example("usd_per_day", Number, "10.0", "Most dollars of a day of [defaults] timezone [default: no bound]"),
    example("tokens_per_day", Integer, "2000000", "Most tokens of such a day [default: no bound]"),
    example("runs_per_day", Integer, "200", "Most runs of such a day [default: no bound]"),
];

const COMPACTION: &[Key] = &[
    default("enabled", Bool, "true", "Whether it is; otherwise its run ends with context_overflow"),
    default("trigger", Number, "0.8", "Share of the model's window above which something is done"),
    default("target", Number, "0.4", "Share that is left when older messages were summed up"),
];

const NO_PROGRESS: &[Key] = &[
    default("warn", Integer, "3", "Turns in a row that were the same, from which on the model is told, 2 to 256"),
    default("stop", Integer, "6", "Those at which the run ends as at its last turn, with the detail no_progress"),
];

const MODELS: &[Key] = &[
    example(
        "compaction",
        Text,
        "\"openai/gpt-5-mini\"",
        "The model that sums up older messages [default: the run's own]",
    ),
    default("fallback", Texts, "[]", "Models, as provider/id, that go on with a run whose model fails, in this order"),
];

const LIMITS: &[Key] = &[
    default("context", Integer, "128000", "Tokens of a request and its answer together"),
    default("output", Integer, "8192", "Tokens of an answer"),
];

const COST: &[Key] = &[
    example("input", Number, "3.0", "Input tokens; needed, and so is output"),
    example("output", Number, "15.0", "Output tokens, thinking among them"),
    example("cache_read", Number, "0.3", "Input tokens read from the provider's cache [default: input]"),
    example("cache_write", Number, "3.75", "Input tokens written to it [default: input]"),
];

const PROFILE: &[Key] = &[
    example(
        "model",
        Text,
        "\"anthropic/claude-sonnet-4-5\"",
        "provider/id or id of the model [default: the first provider's]",
    ),
    example(
        "allowed_tools",
        Texts,
        "[\"view\"]",
        "Tools that need no approval, in place of the safe set; [] grants nothing",
    ),
    example(
        "auto_approve",
        Texts,
        "[\"run_command::git::status\"]",
        "Tools and commands that need no approval besides those",
    ),
    example("system_prompt", Text, "\"You look after the build machines.\"", "Put before every conversation"),
    default("max_turns", Integer, "64", "Most turns of a run, 1 to 256"),
    example(
        "reasoning",
        Mixed,
        "\"medium\"",
        "How much models think before they answer: low, medium, high, or tokens [default: as the provider has it]",
    ),
    default(
        "sandbox",
        Mixed,
        "\"off\"",
        "What confines its tools: off, landlock or container, or a table { level, read, write, network, unix_sockets, \
         secrets, image, memory, cpus }",
    ),
];

const PROVIDER: &[Key] = &[
    example(
        "type",
        OneOf(&["anthropic", "openai", "gemini", "openrouter", "amazon-bedrock", "custom"]),
        "\"custom\"",
        "How it is spoken to; custom: an endpoint that speaks the protocol of OpenAI",
    ),
    example("api_key", Secret, "\"env:MY_PROVIDER_KEY\"", "Its key [default: its variable, such as ANTHROPIC_API_KEY]"),
    example("api_endpoint", Text, "\"http://127.0.0.1:8000/v1\"", "Base URL; needed for custom"),
    example("region", Text, "\"eu-central-1\"", "Where amazon-bedrock is [default: the variable AWS_REGION]"),
    example(
        "api",
        OneOf(&["chat", "responses"]),
        "\"chat\"",
        "Protocol of types openai and custom [default: responses at OpenAI itself, else chat]",
    ),
    example("models", Texts, "[\"my-model\"]", "Ids of the models to offer"),
    default("max_concurrent", Integer, "16", "Requests at once with its key; more wait"),
    default("requires_done", Bool, "true", "Whether an answer that ends without its end marker counts as torn"),
];
