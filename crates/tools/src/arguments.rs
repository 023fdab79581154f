//! The arguments of each tool as types, and what to say when they do not fit.
//!
//! `description` and fields a tool does not know are for people; only `run_command` and `run_command_task` refuse unknown fields, because a
//! misspelt limit there would be ignored in silence.

use std::{collections::BTreeMap, num::NonZeroU64};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use stakpak_agent_core::InvalidCall;

use crate::{catalogue, password, questions::Questions};

/// Variables with this prefix are the product's own, in every child process.
pub(crate) const OWN_VARIABLES: &str = "STAKPAK_";

/// Characters of a notification.
const LONGEST_NOTICE: usize = 4000;
const LONGEST_TITLE: usize = 200;

/// A call that can run.
#[derive(Debug)]
pub(crate) enum Arguments {
    RunCommand(RunCommand),
    RunCommandTask(RunCommand),
    GetAllTasks,
    GetTaskDetails(OneTask),
    WaitForTasks(WaitForTasks),
    CancelTask(OneTask),
    View(View),
    Create(Create),
    StrReplace(StrReplace),
    Remove(Remove),
    GeneratePassword(GeneratePassword),
    Notify(Notify),
    AskUser,
    ViewWebPage(ViewWebPage),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunCommand {
    pub(crate) command: String,
    pub(crate) description: Option<String>,
    /// Seconds.
    pub(crate) timeout: Option<NonZeroU64>,
    pub(crate) cwd: Option<String>,
    pub(crate) env: Option<BTreeMap<String, String>>,
}

/// The `view` of it never mattered.
#[derive(Debug, Deserialize)]
struct AllTasks {}

#[derive(Debug, Deserialize)]
pub(crate) struct OneTask {
    pub(crate) task_id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WaitForTasks {
    /// Between blanks or commas.
    task_ids: String,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct View {
    pub(crate) path: String,
    /// First and last line, counted from 1; a last of -1 is the end.
    pub(crate) view_range: Option<[i64; 2]>,
    pub(crate) grep: Option<String>,
    pub(crate) glob: Option<String>,
    pub(crate) tree: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    pub(crate) path: String,
    pub(crate) file_text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StrReplace {
    pub(crate) path: String,
    pub(crate) old_str: String,
    pub(crate) new_str: String,
    pub(crate) replace_all: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Remove {
    pub(crate) path: String,
    pub(crate) recursive: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct GeneratePassword {
    pub(crate) length: Option<u64>,
    pub(crate) no_symbols: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Notify {
    pub(crate) message: String,
    pub(crate) title: Option<String>,
    pub(crate) level: Option<Level>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ViewWebPage {
    pub(crate) url: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    #[default]
    Info,
    Warning,
    Critical,
}

impl Arguments {
    /// Reads a call, or says what is wrong with it and what would be right.
    pub(crate) fn parse(name: &str, arguments: &Value) -> Result<Self, InvalidCall> {
        let parsed = match name {
            catalogue::RUN_COMMAND => typed(arguments).and_then(RunCommand::checked).map(Self::RunCommand),
            catalogue::RUN_COMMAND_TASK => typed(arguments).and_then(RunCommand::checked).map(Self::RunCommandTask),
            catalogue::GET_ALL_TASKS => typed::<AllTasks>(arguments).map(|_| Self::GetAllTasks),
            catalogue::GET_TASK_DETAILS => typed(arguments).map(Self::GetTaskDetails),
            catalogue::WAIT_FOR_TASKS => typed(arguments).and_then(WaitForTasks::checked).map(Self::WaitForTasks),
            catalogue::CANCEL_TASK => typed(arguments).map(Self::CancelTask),
            catalogue::VIEW => typed(arguments).and_then(View::checked).map(Self::View),
            catalogue::CREATE => typed(arguments).and_then(Create::checked).map(Self::Create),
            catalogue::STR_REPLACE => typed(arguments).and_then(StrReplace::checked).map(Self::StrReplace),
            catalogue::REMOVE => typed(arguments).and_then(Remove::checked).map(Self::Remove),
            catalogue::GENERATE_PASSWORD => {
                typed(arguments).and_then(GeneratePassword::checked).map(Self::GeneratePassword)
            }
            catalogue::ASK_USER => typed(arguments).and_then(|asked| answerable(&asked)).map(|()| Self::AskUser),
            catalogue::NOTIFY => typed(arguments).and_then(Notify::checked).map(Self::Notify),
            catalogue::VIEW_WEB_PAGE => typed(arguments).map(Self::ViewWebPage),
            _ => return Err(unknown(name)),
        };
        parsed.map_err(|Misfit(what)| InvalidCall {
            code: "INVALID_ARGUMENTS",
            message: format!("{what}. {name} takes {}", catalogue::usage(name)),
        })
    }
}

impl Arguments {
    /// The file that the call is about.
    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::RunCommand(_)
            | Self::RunCommandTask(_)
            | Self::GetAllTasks
            | Self::GetTaskDetails(_)
            | Self::WaitForTasks(_)
            | Self::CancelTask(_)
            | Self::GeneratePassword(_)
            | Self::Notify(_)
            | Self::ViewWebPage(_)
            | Self::AskUser => None,
            Self::View(view) => Some(&view.path),
            Self::Create(create) => Some(&create.path),
            Self::StrReplace(edit) => Some(&edit.path),
            Self::Remove(remove) => Some(&remove.path),
        }
    }
}

/// What does not fit.
struct Misfit(String);

fn typed<T: DeserializeOwned>(arguments: &Value) -> Result<T, Misfit> {
    if !arguments.is_object() {
        // A derived struct would also accept an array, in the order of its fields.
        let found = match arguments {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        return Err(Misfit(format!("The arguments are {found}, not a JSON object")));
    }
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let path = error.path().to_string();
        Misfit(if path == "." { error.inner().to_string() } else { format!("`{path}`: {}", error.inner()) })
    })
}

impl RunCommand {
    fn checked(self) -> Result<Self, Misfit> {
        if self.command.trim().is_empty() {
            return Err(Misfit("`command` is empty".to_owned()));
        }
        no_nul("command", &self.command)?;
        no_nul("cwd", self.cwd.as_deref().unwrap_or_default())?;
        for (name, value) in self.env.iter().flatten() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Misfit(format!("`env`: {name:?} is no name of a variable")));
            }
            if name.starts_with(OWN_VARIABLES) {
                return Err(Misfit(format!("`env`: {name} is reserved")));
            }
            no_nul("env", value)?;
        }
        Ok(self)
    }
}

impl WaitForTasks {
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.task_ids.split(|c: char| c.is_whitespace() || c == ',').filter(|id| !id.is_empty())
    }

    fn checked(self) -> Result<Self, Misfit> {
        if self.ids().next().is_none() {
            return Err(Misfit("`task_ids` names no task".to_owned()));
        }
        Ok(self)
    }
}

impl View {
    fn checked(self) -> Result<Self, Misfit> {
        a_path(&self.path)?;
        Ok(self)
    }
}

impl Create {
    fn checked(self) -> Result<Self, Misfit> {
        a_path(&self.path)?;
        Ok(self)
    }
}

impl Remove {
    fn checked(self) -> Result<Self, Misfit> {
        a_path(&self.path)?;
        Ok(self)
    }
}

impl GeneratePassword {
    fn checked(self) -> Result<Self, Misfit> {
        let allowed = password::SHORTEST..=password::LONGEST;
        match self.length {
            Some(length) if !allowed.contains(&length) => {
                Err(Misfit(format!("`length`: {length} is not within {} and {}", allowed.start(), allowed.end())))
            }
            _ => Ok(self),
        }
    }
}

fn answerable(questions: &Questions) -> Result<(), Misfit> {
    questions.flaw().map_or(Ok(()), |flaw| Err(Misfit(flaw)))
}

impl Notify {
    fn checked(self) -> Result<Self, Misfit> {
        let length = self.message.chars().count();
        if self.message.trim().is_empty() || length > LONGEST_NOTICE {
            return Err(Misfit(format!("`message` has {length} characters, not 1 to {LONGEST_NOTICE}")));
        }
        let title = self.title.as_deref().unwrap_or_default().chars().count();
        if title > LONGEST_TITLE {
            return Err(Misfit(format!("`title` has {title} characters, more than {LONGEST_TITLE}")));
        }
        Ok(self)
    }
}

impl StrReplace {
    fn checked(self) -> Result<Self, Misfit> {
        a_path(&self.path)?;
        if self.old_str.is_empty() {
            return Err(Misfit("`old_str` is empty".to_owned()));
        }
        Ok(self)
    }
}

fn a_path(path: &str) -> Result<(), Misfit> {
    if path.is_empty() {
        return Err(Misfit("`path` is empty".to_owned()));
    }
    no_nul("path", path)
}

fn no_nul(field: &str, text: &str) -> Result<(), Misfit> {
    if text.contains('\0') { Err(Misfit(format!("`{field}` holds a NUL character"))) } else { Ok(()) }
}

fn unknown(name: &str) -> InvalidCall {
    let nearest = catalogue::NAMES
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known).max(strsim::jaro_winkler(name, catalogue::bare(known))), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match nearest {
        Some((likeness, known)) if likeness > 0.8 => format!(" Did you mean `{known}`?"),
        _ => String::new(),
    };
    InvalidCall {
        code: "UNKNOWN_TOOL",
        message: format!("There is no tool `{name}`.{hint} The tools are: {}", catalogue::NAMES.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(name: &str, arguments: &Value) -> String {
        Arguments::parse(name, arguments).expect_err("must not fit").to_string()
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        for (name, arguments, expected) in [
            (catalogue::RUN_COMMAND, json!({}), "missing field `command`"),
            (catalogue::RUN_COMMAND, Value::Null, "are null"),
            (catalogue::RUN_COMMAND, json!(["ls"]), "are an array"),
            (catalogue::RUN_COMMAND, json!("{\"command\":\"ls\"}"), "are a string"),
            (catalogue::RUN_COMMAND, json!({"command": 5}), "`command`: invalid type"),
            (catalogue::RUN_COMMAND, json!({"command": " "}), "`command` is empty"),
            (catalogue::RUN_COMMAND, json!({"command": "ls", "timeout": 0}), "`timeout`"),
            (catalogue::RUN_COMMAND, json!({"command": "ls", "time_out": 1}), "unknown field `time_out`"),
            (catalogue::RUN_COMMAND, json!({"command": "a\u{0}b"}), "NUL"),
            (catalogue::RUN_COMMAND, json!({"command": "ls", "env": {"A": 1}}), "`env.A`"),
            (catalogue::RUN_COMMAND, json!({"command": "ls", "env": {"A=B": "1"}}), "`env`"),
            (catalogue::RUN_COMMAND, json!({"command": "ls", "env": {"STAKPAK_CALL_ID": "x"}}), "reserved"),
            (catalogue::RUN_COMMAND_TASK, json!({"command": "ls", "time_out": 1}), "unknown field `time_out`"),
            (catalogue::GET_TASK_DETAILS, json!({}), "missing field `task_id`"),
            (catalogue::WAIT_FOR_TASKS, json!({"task_ids": " , "}), "`task_ids` names no task"),
            (catalogue::VIEW, json!({"path": ""}), "`path` is empty"),
            (catalogue::VIEW, json!({"path": "x", "view_range": [1]}), "`view_range`"),
            (catalogue::VIEW, json!({"path": "x", "view_range": ["a", 2]}), "`view_range[0]`"),
            (catalogue::ASK_USER, json!({"questions": []}), "`questions` is empty"),
            (
                catalogue::ASK_USER,
                json!({"questions": [{"label": "l", "question": "q", "allow_custom": false}]}),
                "no other",
            ),
            (catalogue::NOTIFY, json!({"message": " "}), "`message` has 1 characters"),
            (catalogue::NOTIFY, json!({"message": "x".repeat(4001)}), "`message` has 4001 characters"),
            (catalogue::NOTIFY, json!({"message": "x", "level": "loud"}), "`level`: unknown variant"),
            (catalogue::CREATE, json!({"path": "x"}), "missing field `file_text`"),
            (catalogue::STR_REPLACE, json!({"path": "x", "old_str": "", "new_str": "y"}), "`old_str` is empty"),
        ] {
            let message = refused(name, &arguments);
            assert!(message.starts_with("INVALID_ARGUMENTS\n"), "{message}");
            assert!(message.contains(expected), "{arguments}: {message}");
            assert!(message.ends_with(catalogue::usage(name)), "{message}");
        }
    }

    #[test]
    fn absent_and_null_options_fit_and_unknown_fields_do_where_allowed() {
        for (name, arguments) in [
            (catalogue::RUN_COMMAND, json!({"command": "ls", "description": "d", "timeout": null, "cwd": null})),
            (catalogue::GET_ALL_TASKS, json!({})),
            (catalogue::GET_ALL_TASKS, json!({"view": "any"})),
            (catalogue::WAIT_FOR_TASKS, json!({"task_ids": "abc123, def456", "timeout": 5})),
            (catalogue::VIEW, json!({"path": "x", "view_range": null, "more": 1})),
            (catalogue::CREATE, json!({"path": "x", "file_text": ""})),
            (catalogue::STR_REPLACE, json!({"path": "x", "old_str": "a", "new_str": ""})),
        ] {
            assert!(Arguments::parse(name, &arguments).is_ok(), "{arguments}");
        }
    }

    #[test]
    fn an_unknown_tool_names_the_nearest() {
        assert!(refused("stakpak__run_comand", &json!({})).contains("Did you mean `stakpak__run_command`?"));
        assert!(refused("view", &json!({})).contains("Did you mean `stakpak__view`?"));
        let far = refused("github__list_issues", &json!({}));
        assert!(far.starts_with("UNKNOWN_TOOL\n") && !far.contains("Did you mean"), "{far}");
    }
}
