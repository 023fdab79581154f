//! `config schema`: JSON Schema of the files, for editors and programs.
//!
//! Made from the list of keys: the types that read the files are spread over the parts and read more than is documented.

use anyhow::Result;
use serde_json::{Map, Value, json};
use stakpak_config::toml_edit;

use super::{
    keys::{ANY, ENTRY, Key, Kind, Table},
    value::as_json,
};
use crate::args::ConfigFileName;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

pub(super) fn run(file: Option<ConfigFileName>) -> Result<()> {
    let schema = match file {
        Some(file) => schema(file)?,
        None => {
            let schemas = ConfigFileName::ALL.map(|file| Ok((file.name().to_owned(), schema(file)?)));
            Value::from(schemas.into_iter().collect::<Result<Map<_, _>>>()?)
        }
    };
    say!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}

fn schema(file: ConfigFileName) -> Result<Value> {
    let mut root = json!({ "$schema": DRAFT, "title": file.name(), "type": "object" });
    for table in file.tables() {
        let place = table.path.iter().fold(&mut root, |above, part| below(above, part));
        describe(place, table)?;
    }
    Ok(root)
}

/// The schema of what is below: a named table, any table, or an entry.
fn below<'a>(above: &'a mut Value, part: &str) -> &'a mut Value {
    match part {
        ANY => &mut above["additionalProperties"],
        ENTRY => {
            above["type"] = "array".into();
            &mut above["items"]
        }
        part => &mut above["properties"][part],
    }
}

fn describe(place: &mut Value, table: &Table) -> Result<()> {
    place["type"] = "object".into();
    place["description"] = table.about.into();
    for key in table.keys {
        let schema = of_key(key)?;
        *below(place, key.name) = schema;
    }
    Ok(())
}

fn of_key(key: &Key) -> Result<Value> {
    let mut schema = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Secret => json!({ "type": "string", "writeOnly": true }),
        Kind::Duration => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": ["string", "integer"] } }),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Mixed => json!({}),
    };
    schema["description"] = key.about.into();
    let sample = as_json(&key.sample().parse::<toml_edit::Value>()?);
    match key.default() {
        Some(_) => schema["default"] = sample,
        None => schema["examples"] = json!([sample]),
    }
    Ok(schema)
}
