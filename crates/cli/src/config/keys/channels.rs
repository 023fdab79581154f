//! Keys of `[gateway]`, `[routing]` and `[channels.*]`.

use super::{
    Key,
    Kind::{Bool, Integer, OneOf, Secret, Text, Texts},
    default, example,
};

pub(super) const GATEWAY: &[Key] = &[
    default("store", Text, "\"~/.stakpak/autopilot/gateway.db\"", "Its database"),
    example("model", Text, "\"provider/id\"", "Model of chats whose profile names none"),
    default("title_template", Text, "\"{channel} / {peer}\"", "Title of a session; also {chat_type}, {chat_id}"),
    default("delivery_context_ttl_hours", Integer, "4", "How long a reply knows what it is about"),
    example(
        "approval_mode",
        OneOf(&["allow_all", "deny_all", "allowlist"]),
        "\"allowlist\"",
        "[default: a person is asked]",
    ),
    default(
        "approval_allowlist",
        Texts,
        "[]",
        "Tools that run unasked with approval_mode = \"allowlist\"; run_command::git for commands",
    ),
    default("prune_after_hours", Integer, "168", "Chats that are idle for longer begin a new session"),
    default("approval_timeout_minutes", Integer, "60", "How long an approval is waited for"),
    example("approval_route", Text, "\"slack:C0OPS\"", "Where approvals are asked for [default: in the chat]"),
    default("two_person", Bool, "false", "Nobody approves what they asked for"),
    default(
        "message_while_pending",
        OneOf(&["queue", "reject"]),
        "\"queue\"",
        "What a message means while an approval is open",
    ),
    default("busy_policy", OneOf(&["queue", "steer", "interrupt"]), "\"queue\"", "What a message means during a run"),
    default("queued", OneOf(&["each", "merge"]), "\"each\"", "Whether waiting messages are answered one by one"),
    default("queue_limit", Integer, "100", "Most messages that wait in a chat"),
    default("run_timeout_minutes", Integer, "0", "Longest run; 0 for no bound"),
    default("stale_after_minutes", Integer, "60", "Older messages are asked about first; 0 for never"),
    default("progress", OneOf(&["live", "messages", "final"]), "\"live\"", "How an answer that grows is shown"),
    default("long_reply_chunks", Integer, "5", "Longer answers are sent as a file"),
    default("max_attachment_mb", Integer, "20", "Largest file"),
    default("catch_up_hours", Integer, "24", "How far back messages are fetched"),
];

pub(super) const ROUTING: &[Key] = &[default(
    "dm_scope",
    OneOf(&["main", "per_peer", "per_channel_peer"]),
    "\"per_channel_peer\"",
    "Which direct messages share a session",
)];

pub(super) const BINDING: &[Key] = &[
    example("channel", Text, "\"slack\"", "Platform"),
    example("routing_key", Text, "\"ops\"", "Chats with the same key share a session"),
    example("direct", Text, "\"U0ALICE\"", "Person"),
    example("group", Text, "\"C0OPS\"", "Group"),
];

/// The keys of a platform's own, then those that all have; requiring a mention differs.
macro_rules! channel {
    ($mention:literal, $url:literal, $($own:expr),+ $(,)?) => {
        &[
            $($own,)+
            default("enabled", Bool, "true", "Whether it is started"),
            example("profile", Text, "\"ops\"", "Profile of its runs [default: that of `up`]"),
            default("allow_users", Texts, "[]", "Ids of people who may talk"),
            default("allow_chats", Texts, "[]", "Ids of groups that may talk"),
            default("approvers", Texts, "[]", "Ids of people who may talk and approve"),
            default("dm_policy", OneOf(&["pairing", "allowlist", "open", "disabled"]), "\"pairing\"", "Who else may write directly"),
            default("group_policy", OneOf(&["allowlist", "open", "disabled"]), "\"allowlist\"", "Which other groups may talk"),
            default("require_mention", Bool, $mention, "Whether groups are answered only when the bot is mentioned"),
            default("sandbox", OneOf(&["auto", "on", "off"]), "\"auto\"", "Isolation of its runs"),
            default("api_base_url", Text, $url, "Address of the platform"),
            default("insecure_api_base_url", Bool, "false", "Allows http to another machine"),
        ]
    };
}

pub(super) const TELEGRAM: &[Key] = channel!(
    "false",
    "\"https://api.telegram.org\"",
    example("token", Secret, "\"env:TELEGRAM_BOT_TOKEN\"", "Token of the bot"),
    default("local_mode", Bool, "false", "The platform is a server of one's own in local mode"),
);

pub(super) const SLACK: &[Key] = channel!(
    "true",
    "\"https://slack.com/api\"",
    example("bot_token", Secret, "\"env:SLACK_BOT_TOKEN\"", "Token of the bot, xoxb-"),
    example("app_token", Secret, "\"env:SLACK_APP_TOKEN\"", "Token of the app, xapp-"),
    default("allow_external", Bool, "false", "People of other workspaces may talk, if they are allowed"),
);

pub(super) const DISCORD: &[Key] = channel!(
    "true",
    "\"https://discord.com\"",
    example("token", Secret, "\"env:DISCORD_BOT_TOKEN\"", "Token of the bot"),
    default("guilds", Texts, "[]", "Ids of guilds whose members may talk; others are refused"),
    default("auto_thread", Bool, "false", "Opens a thread for each mention"),
);

/// Variables that make a channel that no file has.
pub(in crate::config) const TOKEN_VARIABLES: [(&str, &[(&str, &str)]); 3] = [
    ("telegram", &[("token", "TELEGRAM_BOT_TOKEN")]),
    ("discord", &[("token", "DISCORD_BOT_TOKEN")]),
    ("slack", &[("bot_token", "SLACK_BOT_TOKEN"), ("app_token", "SLACK_APP_TOKEN")]),
];
