//! The fixed texts. Every answer is signed, so that nobody takes the offline model for a real one.

const SIGNATURE: &str = "(Offline model builtin/offline: it only knows a few plain requests. To use a real model: \
                         stakpak autopilot init)";

const INTENTS: &str = "\
- `help`: this text
- `status`: uptime, disks and memory
- `disk`: how full the file systems are
- `memory`: how much memory is used
- `uptime`: how long the machine is up, and its load
- `run <command>` (or `$ <command>`, `!<command>`): runs it, after asking unless policy approves it
- `read <path>`: shows a file";

const PROVIDER: &str = "\
To get answers from a real model, run `stakpak autopilot init`, or add a provider to `~/.stakpak/config.toml`, for example:

```toml
[profiles.default.providers.local]
type = \"custom\"
api_endpoint = \"http://127.0.0.1:11434/v1\"
models = [\"qwen3\"]
```";

pub(super) fn signed(text: &str) -> String {
    format!("{text}\n\n{SIGNATURE}")
}

pub(super) fn help() -> String {
    format!(
        "I am the offline model of stakpak. I run on this machine without a key and without a network, and understand:\n\n\
         {INTENTS}\n\n{PROVIDER}"
    )
}

pub(super) fn not_understood() -> String {
    format!("I cannot do that offline. Without a real model I understand only:\n\n{INTENTS}\n\n{PROVIDER}")
}

pub(super) fn tool_missing(tool: &str) -> String {
    format!("I cannot do that here: it needs the tool `{tool}`, which this run does not offer.")
}
