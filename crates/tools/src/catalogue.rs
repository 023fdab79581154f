//! The tools as the model sees them. The bytes are the same after a restart: providers cache by them.

use serde_json::{Value, json};
use stakpak_agent_core::{OWN_PREFIX, ToolSpec};

pub(crate) const CREATE: &str = "stakpak__create";
pub(crate) const GENERATE_PASSWORD: &str = "stakpak__generate_password";
pub(crate) const REMOVE: &str = "stakpak__remove";
pub(crate) const RUN_COMMAND: &str = "stakpak__run_command";
pub(crate) const STR_REPLACE: &str = "stakpak__str_replace";
pub(crate) const VIEW: &str = "stakpak__view";

/// Sorted.
pub const NAMES: [&str; 6] = [CREATE, GENERATE_PASSWORD, REMOVE, RUN_COMMAND, STR_REPLACE, VIEW];

/// The name without the product's prefix.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix(OWN_PREFIX).unwrap_or(name)
}

/// The arguments in one line, for the message about wrong ones.
pub(crate) fn usage(name: &str) -> &'static str {
    match name {
        CREATE => r#"{"path": string, "file_text": string}"#,
        GENERATE_PASSWORD => r#"{"length"?: integer 8 to 128, "no_symbols"?: boolean}"#,
        REMOVE => r#"{"path": string, "recursive"?: boolean}"#,
        RUN_COMMAND => {
            r#"{"command": string, "description"?: string, "timeout"?: integer seconds >= 1, "cwd"?: string, "env"?: {string: string}}"#
        }
        STR_REPLACE => r#"{"path": string, "old_str": string, "new_str": string, "replace_all"?: boolean}"#,
        _ => {
            r#"{"path": string, "view_range"?: [first line, last line or -1], "grep"?: string, "glob"?: string, "tree"?: boolean}"#
        }
    }
}

/// All of them, in the order of [`NAMES`].
pub(crate) fn specs() -> Vec<ToolSpec> {
    NAMES
        .into_iter()
        .map(|name| {
            let (description, input_schema) = match name {
                CREATE => create(),
                GENERATE_PASSWORD => generate_password(),
                REMOVE => remove(),
                RUN_COMMAND => run_command(),
                STR_REPLACE => str_replace(),
                _ => view(),
            };
            ToolSpec { name: name.to_owned(), description: description.to_owned(), input_schema }
        })
        .collect()
}

fn create() -> (&'static str, Value) {
    (
        "Create a new file with the given text. Missing parent directories are made. Fails if the file exists: use \
         str_replace to change one.",
        json!({
            "type": "object",
            "required": ["path", "file_text"],
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to the working directory"},
                "file_text": {"type": "string", "description": "The whole content of the file"}
            }
        }),
    )
}

fn generate_password() -> (&'static str, Value) {
    (
        "Make a random password. The result is a placeholder that stands for it: write the placeholder wherever the password \
         belongs, and tools put the password there. You never see the password itself.",
        json!({
            "type": "object",
            "properties": {
                "length": {"type": "integer", "minimum": 8, "maximum": 128, "default": 15},
                "no_symbols": {"type": "boolean", "default": false, "description": "Letters and digits only"}
            }
        }),
    )
}

fn remove() -> (&'static str, Value) {
    (
        "Remove a file or directory. It is moved to a backup, which is kept for 7 days and named in the result. A directory \
         that is not empty needs recursive.",
        json!({
            "type": "object",
            "required": ["path"],
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to the working directory"},
                "recursive": {"type": "boolean", "default": false, "description": "Remove a directory with all it holds"}
            }
        }),
    )
}

fn run_command() -> (&'static str, Value) {
    (
        "Run one shell command (bash) on this machine and return its output, stdout and stderr together. There is no \
         terminal and no input. Whatever it leaves running in the background is ended with it. Long output is cut in the \
         middle and kept in a file that is named in the result.",
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["command"],
            "properties": {
                "command": {"type": "string", "description": "The command line"},
                "description": {"type": "string", "description": "What it does, for the person who is asked"},
                "timeout": {"type": "integer", "minimum": 1, "description": "Seconds; 300 if absent, 3600 at most"},
                "cwd": {"type": "string", "description": "Where it runs; the working directory if absent"},
                "env": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "Further environment variables"
                }
            }
        }),
    )
}

fn str_replace() -> (&'static str, Value) {
    (
        "Replace a text in a file. old_str must occur exactly once, unless replace_all is set; give enough lines around \
         the change to make it unique. Returns the change as a diff.",
        json!({
            "type": "object",
            "required": ["path", "old_str", "new_str"],
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to the working directory"},
                "old_str": {"type": "string", "description": "The exact text to replace, without line numbers"},
                "new_str": {"type": "string", "description": "What stands there afterwards"},
                "replace_all": {"type": "boolean", "default": false, "description": "Replace every occurrence"}
            }
        }),
    )
}

fn view() -> (&'static str, Value) {
    (
        "Look at a file (numbered lines, at most 300 a call) or a directory (its entries; tree shows three levels). grep \
         searches a file, or all files under a directory, for a regular expression; glob finds files by name. Searches \
         honour .gitignore.",
        json!({
            "type": "object",
            "required": ["path"],
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to the working directory"},
                "view_range": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "First and last line, counted from 1; -1 as the last is the end"
                },
                "grep": {"type": "string", "description": "Regular expression that a line must match"},
                "glob": {"type": "string", "description": "Such as *.rs or src/**/*.toml"},
                "tree": {"type": "boolean", "description": "Show a directory three levels deep"}
            }
        }),
    )
}
