//! A parsed file that remembers where everything is.
//!
//! Invariants: reading has no side effects; one bad entry of [`Document::array`] or [`Document::entries`]
//! leaves the others as they are; entries come in the order of the file.
//!
//! A key path is a list of keys. The entry of an array is named by its index; findings show its `name`
//! instead, if it has one.

use std::{cell::RefCell, fmt, fs, io, path::Path, path::PathBuf};

use crate::{
    finding::{Finding, Lines, Location, Severity},
    reader::{Kind, Reader, Reading, UnknownKey, join},
    reference::Environment,
    tree::{Entry, Node, Value},
};
use serde::de::DeserializeOwned;

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML (`E001`).
    #[error(transparent)]
    Syntax(#[from] Finding),
}

/// The code that findings get, by what is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// A value of the wrong type or out of range.
    pub invalid: &'static str,
    /// A required key is missing.
    pub missing: &'static str,
    /// A reference has no value.
    pub reference: &'static str,
    /// A word that is none of the allowed ones.
    pub variant: &'static str,
    /// A string that is no duration.
    pub duration: &'static str,
}

impl Codes {
    /// The same code for everything.
    #[must_use]
    pub const fn all(code: &'static str) -> Self {
        Self { invalid: code, missing: code, reference: code, variant: code, duration: code }
    }

    fn of(self, kind: Kind) -> &'static str {
        match kind {
            Kind::Invalid => self.invalid,
            Kind::Missing => self.missing,
            Kind::Reference => self.reference,
            Kind::Variant => self.variant,
            Kind::Duration => self.duration,
        }
    }
}

/// A parsed TOML file. Its `Debug` shows the name only: the text may hold secrets.
#[derive(Clone)]
pub struct Document {
    file: String,
    source: String,
    lines: Lines,
    root: Node,
    environment: Environment,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Document {
    /// Reads and parses a file; `None` when there is none. References are resolved from the environment of
    /// this process unless [`Document::with_environment`] gives another.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML.
    pub fn load(path: &Path) -> Result<Option<Self>, LoadError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path: path.to_owned(), source }),
        };
        let file = file_name(path);
        Ok(Some(Self::parse(&file, text(&file, bytes)?)?))
    }

    /// Parses `source`; findings name it `file`.
    ///
    /// # Errors
    /// The first place that is not TOML.
    pub fn parse(file: &str, source: impl Into<String>) -> Result<Self, Finding> {
        let source = source.into();
        let root =
            Node::parse(&source).map_err(|error| Finding::syntax(file, &source, error.span(), error.message()))?;
        let lines = Lines::of(&source);
        Ok(Self { file: file.to_owned(), source, lines, root, environment: Environment::process() })
    }

    /// Takes the variables of references from `environment`.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    /// The table (or any value) at `path`, the default of `T` when it is absent. Keys that `T` does not know
    /// become warnings (`W301`).
    ///
    /// # Errors
    /// The first value that `T` does not take.
    pub fn table<T: DeserializeOwned + Default>(
        &self,
        path: &[&str],
        codes: Codes,
        warnings: &mut Vec<Finding>,
    ) -> Result<T, Finding> {
        match self.node(path) {
            Some(value) => self.read(value, &self.label(path), codes, warnings),
            None => Ok(T::default()),
        }
    }

    /// The entries of the array of tables at `path`, each for itself; none when it is absent. The position
    /// in the result is the index in the file.
    ///
    /// # Errors
    /// There is something else than an array (`E001`).
    #[expect(clippy::type_complexity, reason = "a name for it would say less")]
    pub fn array<T: DeserializeOwned>(
        &self,
        path: &[&str],
        codes: Codes,
        warnings: &mut Vec<Finding>,
    ) -> Result<Vec<Result<(T, Location), Finding>>, Finding> {
        let items = match self.node(path).map(|node| &node.value) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong_shape(path, "an array of tables", other)),
        };
        let above = self.label(path);
        let read = |(index, node): (usize, &Node)| {
            let label = entry_label(&above, index, node);
            let location = self.lines.locate(&self.source, node.offset);
            self.read(node, &label, codes, warnings).map(|entry| (entry, location))
        };
        Ok(items.iter().enumerate().map(read).collect())
    }

    /// The tables below the table at `path` with their keys, each for itself; none when it is absent.
    ///
    /// # Errors
    /// There is something else than a table (`E001`).
    #[expect(clippy::type_complexity, reason = "a name for it would say less")]
    pub fn entries<T: DeserializeOwned>(
        &self,
        path: &[&str],
        codes: Codes,
        warnings: &mut Vec<Finding>,
    ) -> Result<Vec<(String, Result<T, Finding>)>, Finding> {
        let entries = self.below(path)?;
        let above = self.label(path);
        let read = |entry: &Entry| {
            let label = join(&above, &entry.key);
            (entry.key.clone(), self.read(&entry.node, &label, codes, warnings))
        };
        Ok(entries.iter().map(read).collect())
    }

    /// The keys of the table at `path`, none when it is absent.
    ///
    /// # Errors
    /// There is something else than a table (`E001`).
    pub fn keys(&self, path: &[&str]) -> Result<Vec<&str>, Finding> {
        Ok(self.below(path)?.iter().map(|entry| entry.key.as_str()).collect())
    }

    /// Warnings (`W301`) for the top-level keys that are none of `known`.
    #[must_use]
    pub fn unknown_tables(&self, known: &'static [&'static str]) -> Vec<Finding> {
        let Value::Table(entries) = &self.root.value else { return Vec::new() };
        let unknown = entries.iter().filter(|entry| !known.contains(&entry.key.as_str()));
        let warn = |entry: &Entry| {
            let (key, offset) = (entry.key.clone(), entry.key_offset);
            self.unknown(UnknownKey { path: key.clone(), key, offset, known })
        };
        unknown.map(warn).collect()
    }

    /// Where the value at `path` begins; `None` when there is none.
    #[must_use]
    pub fn locate(&self, path: &[&str]) -> Option<Location> {
        self.node(path).map(|value| self.lines.locate(&self.source, value.offset))
    }

    /// The string at `path` as it is written.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.node(path)?.as_str()
    }

    /// A finding about the value at `path`; placed at the nearest table above when the key is absent.
    pub fn finding(
        &self,
        path: &[&str],
        code: &'static str,
        severity: Severity,
        message: impl Into<String>,
    ) -> Finding {
        let nearest = (0..=path.len()).rev().find_map(|length| self.node(&path[..length]));
        let offset = nearest.map_or(0, |value| value.offset);
        self.at(offset, self.label(path), code, severity, message.into())
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn place(&self, offset: usize) -> Location {
        self.lines.locate(&self.source, offset)
    }

    fn read<T: DeserializeOwned>(
        &self,
        value: &Node,
        label: &str,
        codes: Codes,
        warnings: &mut Vec<Finding>,
    ) -> Result<T, Finding> {
        let reading = Reading { environment: self.environment.clone(), unknown: RefCell::default() };
        let read = T::deserialize(Reader::new(&reading, value, label.to_owned()));
        let unknown = reading.unknown.into_inner();
        warnings.extend(unknown.into_iter().map(|key| self.unknown(key)));
        read.map_err(|problem| {
            let offset = problem.offset.unwrap_or(value.offset);
            let code = codes.of(problem.kind);
            self.at(offset, problem.path, code, Severity::Error, problem.message)
        })
    }

    fn at(&self, offset: usize, path: String, code: &'static str, severity: Severity, message: String) -> Finding {
        let Location { line, column } = self.lines.locate(&self.source, offset);
        Finding { file: self.file.clone(), line, column, code, severity, path, message }
    }

    fn unknown(&self, unknown: UnknownKey) -> Finding {
        let message = match crate::near::nearest(&unknown.key, unknown.known.iter().copied()) {
            Some(name) => format!("unknown key, did you mean `{name}`?"),
            None => "unknown key".to_owned(),
        };
        self.at(unknown.offset, unknown.path, "W301", Severity::Warning, message)
    }

    fn below(&self, path: &[&str]) -> Result<&[Entry], Finding> {
        match self.node(path).map(|node| &node.value) {
            None => Ok(&[]),
            Some(Value::Table(entries)) => Ok(entries),
            Some(other) => Err(self.wrong_shape(path, "a table", other)),
        }
    }

    fn wrong_shape(&self, path: &[&str], expected: &str, found: &Value) -> Finding {
        let message = format!("expected {expected}, found {}", found.type_name());
        self.finding(path, "E001", Severity::Error, message)
    }

    fn node(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.child(key))
    }

    fn label(&self, path: &[&str]) -> String {
        let mut label = String::new();
        let mut above = Some(&self.root);
        for key in path {
            let node = above.and_then(|above| above.child(key));
            let array = above.filter(|above| matches!(above.value, Value::Array(_)));
            label = match (array, node, key.parse()) {
                (Some(_), Some(node), Ok(index)) => entry_label(&label, index, node),
                _ => join(&label, key),
            };
            above = node;
        }
        label
    }
}

fn entry_label(array: &str, index: usize, entry: &Node) -> String {
    match entry.child("name").and_then(Node::as_str) {
        Some(name) if !name.is_empty() => join(array, name),
        _ => format!("{array}[{index}]"),
    }
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The bytes of a file as text; `E001` at the first byte that is not UTF-8.
pub(crate) fn text(file: &str, bytes: Vec<u8>) -> Result<String, Finding> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        Finding::syntax(file, &before, Some(valid..valid), "not UTF-8")
    })
}
