//! Which tools a server's list comes to: by what names, and with what is known about them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use stakpak_agent_core::{Effect, ToolSpec};

use crate::{
    kept::Listed,
    names::{full_name, hex},
    settings::{Settings, ToolEffect},
};

/// A tool that runs may use.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) spec: ToolSpec,
    /// What its server calls it.
    pub(crate) original: String,
    /// Index of its server.
    pub(crate) server: usize,
    pub(crate) effect: Effect,
    /// Of its description and arguments.
    pub(crate) hash: String,
}

/// The tools by full name, sorted, and why others are not among them.
pub(crate) fn offered(settings: &Settings, server: usize, listed: &[Listed]) -> (Vec<Arc<Offered>>, Vec<String>) {
    let mut by_name: BTreeMap<String, Arc<Offered>> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut sorted: Vec<&Listed> = listed.iter().filter(|tool| settings.allows(&tool.name)).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for tool in sorted {
        let name = full_name(&settings.name, &tool.name);
        if let Some(first) = by_name.get(&name) {
            refused.push(format!("{:?} is not offered: {:?} has the name {name} already", tool.name, first.original));
            continue;
        }
        by_name.insert(name.clone(), Arc::new(offer(settings, server, name, tool)));
    }
    (by_name.into_values().collect(), refused)
}

fn offer(settings: &Settings, server: usize, name: String, tool: &Listed) -> Offered {
    let effect = match settings.effect(&tool.name) {
        Some(ToolEffect::Pure) => Effect::Pure,
        // Its key is the call's id, which goes with it.
        Some(ToolEffect::Keyed) => Effect::Keyed,
        Some(ToolEffect::Unsafe) => Effect::Unsafe,
        None if settings.trust_annotations && tool.read_only => Effect::Pure,
        None => Effect::Unsafe,
    };
    let schema = Value::Object(object_schema(&tool.input_schema));
    let hash = hex(&Sha256::digest(json!([tool.description, canonical(&schema)]).to_string()));
    let spec = ToolSpec { name, description: tool.description.clone(), input_schema: schema };
    Offered { spec, original: tool.name.clone(), server, effect, hash }
}

/// Providers insist on an object.
fn object_schema(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut schema = schema.clone();
    schema.insert("type".to_owned(), "object".into());
    schema
}

/// With sorted keys, whatever the order they came in.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<&String, Value> = object.iter().map(|(key, value)| (key, canonical(value))).collect();
            sorted.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}
