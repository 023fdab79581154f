//! What is kept over restarts: the last list of tools of each server, and which tools were approved as they were.
//!
//! A tool is approved as it was described. One whose description or arguments have changed since asks again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use stakpak_config::{FileError, write_private};
use stakpak_redact::Redactor;

/// A tool as its server describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) input_schema: Map<String, Value>,
    /// Its own word.
    #[serde(default)]
    pub(crate) read_only: bool,
}

impl Listed {
    /// Without what must not show: a server may repeat what it was given.
    pub(crate) fn redacted(self, redactor: &Redactor) -> Self {
        let description = redactor.redact(&self.description).into_owned();
        let schema = self.input_schema.into_iter().map(|(key, value)| (key, redacted(value, redactor)));
        Self { description, input_schema: schema.collect(), ..self }
    }
}

fn redacted(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => redactor.redact(&text).into_owned().into(),
        Value::Array(items) => items.into_iter().map(|item| redacted(item, redactor)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, redacted(value, redactor))).collect(),
        other => other,
    }
}

impl From<rmcp::model::Tool> for Listed {
    fn from(tool: rmcp::model::Tool) -> Self {
        Self {
            name: tool.name.into_owned(),
            description: tool.description.unwrap_or_default().into_owned(),
            input_schema: tool.input_schema.as_ref().clone(),
            read_only: tool.annotations.and_then(|annotations| annotations.read_only_hint).unwrap_or(false),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptList {
    /// Of the settings it was made under.
    identity: String,
    tools: Vec<Listed>,
}

/// Two files; written by every process, by key: the last one wins.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: PathBuf,
    approved: Mutex<BTreeMap<String, String>>,
}

const LISTS: &str = "mcp-tools.json";
const APPROVED: &str = "mcp-approved.json";

impl Kept {
    pub(crate) fn open(directory: &Path) -> Self {
        let approved = Mutex::new(read(&directory.join(APPROVED)));
        Self { directory: directory.to_owned(), approved }
    }

    /// The server's last list, if it was made under the same settings.
    pub(crate) fn list(&self, server: &str, identity: &str) -> Option<Vec<Listed>> {
        let mut lists: BTreeMap<String, KeptList> = read(&self.directory.join(LISTS));
        lists.remove(server).filter(|kept| kept.identity == identity).map(|kept| kept.tools)
    }

    /// Keeps a list. Blocks.
    pub(crate) fn keep_list(&self, server: &str, identity: &str, tools: &[Listed]) -> Result<(), FileError> {
        let path = self.directory.join(LISTS);
        let mut lists: BTreeMap<String, KeptList> = read(&path);
        let kept = KeptList { identity: identity.to_owned(), tools: tools.to_vec() };
        if lists.get(server).is_some_and(|old| old.identity == kept.identity && old.tools == kept.tools) {
            return Ok(());
        }
        lists.insert(server.to_owned(), kept);
        write(&path, &lists)
    }

    /// Whether it was approved, and was another then.
    pub(crate) fn has_changed(&self, tool: &str, hash: &str) -> bool {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner).get(tool).is_some_and(|approved| approved != hash)
    }

    /// It was approved as it is. Blocks if that is new.
    pub(crate) fn approve(&self, tool: &str, hash: &str) -> Result<(), FileError> {
        let known = {
            let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
            approved.insert(tool.to_owned(), hash.to_owned())
        };
        if known.as_deref() == Some(hash) {
            return Ok(());
        }
        let path = self.directory.join(APPROVED);
        let mut all: BTreeMap<String, String> = read(&path);
        all.insert(tool.to_owned(), hash.to_owned());
        write(&path, &all)
    }
}

/// What is in a file; nothing if it is not there. It can be made again, so a damaged one counts as none.
fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let Ok(text) = std::fs::read_to_string(path) else { return T::default() };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "a damaged file is not used");
        T::default()
    })
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    write_private(path, &bytes)
}
