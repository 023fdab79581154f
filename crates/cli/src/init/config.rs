//! The part of `config.toml`: model and provider of one profile.

use std::io;

use anyhow::{Context, Result};
use stakpak_config::{ConfigFile, Document, EditError, ProfileError, edit, set};
use toml_edit::{DocumentMut, Item, Table};

use super::model::{Answer, Provider};
use crate::{home::Home, profiles::ConfigProfiles};

/// The model of a profile that has a model or a provider; none if it has neither.
pub(super) fn kept(file: &ConfigFile, profile: &str) -> Result<Option<Option<String>>> {
    match file.profile(profile) {
        Ok(profile) => {
            let has_provider = !profile.providers.is_empty() || !profile.invalid_providers.is_empty();
            Ok((profile.model.is_some() || has_provider).then_some(profile.model))
        }
        Err(ProfileError::Unknown { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file as it will be gives the profile a model. Nothing is written.
pub(super) fn check(home: &Home, profile: &str, answer: &Answer) -> Result<()> {
    let path = home.config_toml();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", Home::show(path))),
    };
    let mut document: DocumentMut = text.parse().context("a file that does not parse is not edited")?;
    apply(&mut document, profile, answer)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = ConfigFile::read(&Document::parse(&name, document.to_string())?)?.with_credentials(home.credentials()?);
    ConfigProfiles::new(file, profile, None, false).context("nothing was written")?;
    Ok(())
}

/// Whether there was anything to write.
pub(super) fn write(home: &Home, profile: &str, answer: &Answer) -> Result<bool> {
    let mut changed = false;
    let written = edit(home.config_toml(), |document| {
        let before = document.to_string();
        apply(document, profile, answer)?;
        changed = document.to_string() != before;
        Ok::<_, io::Error>(())
    });
    match written {
        Ok(()) => Ok(changed),
        Err(EditError::Refused(error)) => anyhow::bail!("{error}; nothing was written"),
        Err(error) => Err(error.into()),
    }
}

fn apply(document: &mut DocumentMut, profile: &str, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Offline | Answer::Kept(_) => {}
        Answer::Model(model) => set(table(document, &["profiles", profile])?, "model", model.as_str()),
        Answer::Provider(provider) => {
            set(table(document, &["profiles", profile])?, "model", provider.full_model());
            write_provider(table(document, &["profiles", profile, "providers", &provider.name])?, provider);
        }
    }
    Ok(())
}

/// Changes the given keys only; a key that is not given any more would be sent to another place.
fn write_provider(table: &mut Table, provider: &Provider) {
    set(table, "type", provider.kind);
    for (key, value) in [("api_endpoint", provider.endpoint.clone()), ("api_key", provider.key.written())] {
        match value {
            Some(value) => set(table, key, value),
            None => drop(table.remove(key)),
        }
    }
}

/// The table at a path; those on the way get no header of their own.
fn table<'a>(document: &'a mut DocumentMut, path: &[&str]) -> io::Result<&'a mut Table> {
    let mut table = document.as_table_mut();
    for (depth, key) in path.iter().enumerate() {
        let item = table.entry(key).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let name = path[..=depth].join(".");
        table = item
            .as_table_mut()
            .ok_or_else(|| io::Error::other(format!("{name} must be written as a [{name}] table")))?;
    }
    Ok(table)
}
