//! References to values that are kept outside the file: `${NAME}`, `${NAME:-default}`, `${file:PATH}`
//! inside any string, `$${` for a literal `${`; for a secret also the whole values `env:NAME` and
//! `file:PATH`.
//!
//! Invariants: a resolved value is not searched for references again; an error names the variable or the
//! file and never a value.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where the variables of references come from.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

impl Environment {
    /// Variables as `lookup` gives them.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The environment of this process.
    #[must_use]
    pub fn process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    pub(crate) fn lookup(&self) -> &dyn Fn(&str) -> Option<String> {
        &*self.0
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// Why a reference has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The variable is not set, or is not Unicode.
    #[error("variable {name} is not set")]
    Unset {
        /// Name of the variable.
        name: String,
    },
    /// The file cannot be read as text.
    #[error("file {} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `${` that does not begin a reference.
    #[error(
        "`${{` begins no reference of the form ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}; \
         write `$${{` for the text itself"
    )]
    Malformed,
}

/// `text` with its references replaced by their values.
///
/// A default is taken when the variable is unset or empty.
///
/// # Errors
/// The first reference that has no value.
pub fn resolve(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ReferenceError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let after = &from[2..];
        if let Some(before) = before.strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = after;
            continue;
        }
        resolved.push_str(before);
        let (inner, after) = after.split_once('}').ok_or(ReferenceError::Malformed)?;
        resolved.push_str(&value(inner, environment)?);
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// As [`resolve`], also for the whole values `env:NAME` and `file:PATH` of a secret.
///
/// # Errors
/// The first reference that has no value.
pub fn resolve_secret(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ReferenceError> {
    if let Some(name) = text.strip_prefix("env:") {
        return variable(name, environment);
    }
    if let Some(path) = text.strip_prefix("file:") {
        return file(path, environment);
    }
    resolve(text, environment)
}

fn value(inner: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ReferenceError> {
    if let Some(path) = inner.strip_prefix("file:") {
        return file(path, environment);
    }
    let Some((name, default)) = inner.split_once(":-") else {
        return variable(inner, environment);
    };
    match variable(name, environment) {
        Ok(value) if !value.is_empty() => Ok(value),
        Ok(_) | Err(ReferenceError::Unset { .. }) => Ok(default.to_owned()),
        Err(error) => Err(error),
    }
}

fn variable(name: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ReferenceError> {
    let first_is_digit = name.starts_with(|first: char| first.is_ascii_digit());
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() || first_is_digit || !is_word {
        return Err(ReferenceError::Malformed);
    }
    environment(name).ok_or_else(|| ReferenceError::Unset { name: name.to_owned() })
}

fn file(path: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ReferenceError> {
    let path = match path.strip_prefix("~/") {
        Some(below_home) => PathBuf::from(variable("HOME", environment)?).join(below_home),
        None => PathBuf::from(path),
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(source) => Err(ReferenceError::File { path, source }),
    }
}
