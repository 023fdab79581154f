//! `config set`: one key, and nothing else changes. What makes the file worse is not written.

use std::io::{self, Read};

use anyhow::{Result, bail};
use serde_json::json;
use stakpak_config::{
    Document, edit, set,
    toml_edit::{DocumentMut, Item, Table, TableLike, Value},
};

use super::{files, findings, keys::Kind};
use crate::{
    args::{ConfigFileName, Global},
    channel::refused,
    exit::Failure,
    home::Home,
};

pub(crate) fn run(home: &Home, global: &Global, key: &str, text: &str) -> Result<()> {
    let path = files::parts(key)?;
    let (Some(file), Some((_, known))) = (ConfigFileName::of(&path), files::known(&path)) else {
        bail!(files::unknown(key))
    };
    let value = read(key, known.kind, &given(text)?)?;
    store(home, file, &global.profile, &[(path, value)])?;
    if global.json {
        say!("{}", json!({ "command": "config.set", "ok": true, "file": file.name(), "key": key }));
    } else {
        say!("{key} is set in {}.", Home::show(&file.path(home)));
    }
    Ok(())
}

/// Writes values of one file, all of them or, where that makes the file worse, none.
pub(crate) fn store(home: &Home, file: ConfigFileName, profile: &str, values: &[(Vec<String>, Value)]) -> Result<()> {
    let written = edit(&file.path(home), |document| {
        let before = document.to_string();
        let parsed = Document::parse(file.name(), before.as_str()).map_err(io::Error::other)?;
        for (path, value) in values {
            let path = files::resolved(path, &parsed).map_err(io::Error::other)?;
            let (name, above) = path.split_last().ok_or_else(|| io::Error::other("the key is empty"))?;
            set(table(document, above)?, name, value.clone());
        }
        let worse = findings::worse(file, &before, &document.to_string(), home, profile);
        match worse.map_err(io::Error::other)?.first() {
            Some(finding) => Err(io::Error::other(format!("{}: {}", finding.path, finding.message))),
            None => Ok(()),
        }
    });
    written.map_err(refused)
}

fn given(text: &str) -> Result<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    io::stdin().read_to_string(&mut read)?;
    Ok(read.trim_end_matches(['\r', '\n']).to_owned())
}

/// A text needs no quotes; a list may be written with commas.
fn read(key: &str, kind: Kind, text: &str) -> Result<Value, Failure> {
    let wrong = |expected: &str| Failure::Usage(format!("{key}: expected {expected}"));
    let parsed = text.parse::<Value>().ok();
    match kind {
        Kind::Text | Kind::Secret | Kind::Duration => Ok(text.into()),
        Kind::OneOf(words) if words.contains(&text) => Ok(text.into()),
        Kind::OneOf(words) => Err(wrong(&format!("one of {}", words.join(", ")))),
        Kind::Bool => parsed.filter(Value::is_bool).ok_or_else(|| wrong("true or false")),
        Kind::Integer => parsed.filter(Value::is_integer).ok_or_else(|| wrong("a whole number")),
        Kind::Number => parsed.filter(|value| value.is_integer() || value.is_float()).ok_or_else(|| wrong("a number")),
        Kind::Texts => match parsed.filter(Value::is_array) {
            Some(list) => Ok(list),
            None => Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()),
        },
        Kind::Mixed => {
            Ok(parsed.filter(|value| value.is_array() || value.is_inline_table()).unwrap_or_else(|| text.into()))
        }
    }
}

/// The table at a path; one that is missing is made, an entry of an array is not.
fn table<'a>(document: &'a mut DocumentMut, above: &[String]) -> io::Result<&'a mut dyn TableLike> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut keys = above.iter();
    while let Some(key) = keys.next() {
        let item = table.entry(key).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let below = match item {
            Item::ArrayOfTables(entries) => {
                let index = keys.next().and_then(|index| index.parse::<usize>().ok());
                index.and_then(|index| entries.get_mut(index)).map(|table| table as &mut dyn TableLike)
            }
            item => item.as_table_like_mut(),
        };
        table = below.ok_or_else(|| io::Error::other(format!("{key} is not a table that can be changed here")))?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_its_kind() {
        let written = |kind, text| read("k", kind, text).map(|value| value.to_string());
        assert_eq!(written(Kind::Text, "12").unwrap(), "\"12\"");
        assert_eq!(written(Kind::Integer, "12").unwrap(), "12");
        assert_eq!(written(Kind::Texts, "a, b").unwrap(), "[\"a\", \"b\"]");
        assert_eq!(written(Kind::Texts, "[\"a\"]").unwrap(), "[\"a\"]");
        assert_eq!(written(Kind::Mixed, "failures").unwrap(), "\"failures\"");
        for (kind, text) in [(Kind::Integer, "many"), (Kind::Bool, "yes"), (Kind::OneOf(&["a"]), "b")] {
            assert!(written(kind, text).is_err(), "{kind:?} {text}");
        }
    }
}
