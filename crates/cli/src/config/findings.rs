//! All that is wrong with the files, in one pass, by the parsers that the running process has.

use anyhow::Result;
use stakpak_config::{ConfigFile, Credentials, Document, Finding, Severity};
use stakpak_gateway::{GatewayCliFlags, GatewayConfig, GatewayConfigError};
use stakpak_scheduler::Definition;

use crate::{
    args::ConfigFileName, autopilot_file::AutopilotFile, home::Home, place::unusable_keys, profiles::ConfigProfiles,
};

/// Of all files, in their order. A file that is not TOML has one finding.
pub(super) fn of_all(home: &Home, profile: &str) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let config = read(ConfigFileName::Config, home, &mut findings)?;
    let credentials = match home.credentials() {
        Ok(credentials) => credentials,
        Err(error) => {
            findings.push(syntax(error)?);
            Credentials::default()
        }
    };
    findings.extend(config.iter().flat_map(|document| of_config(document, &credentials, profile)));
    findings.extend(credentials.findings().iter().cloned());
    let profiles = config.and_then(|document| ConfigFile::read(&document).ok());
    let autopilot = read(ConfigFileName::Autopilot, home, &mut findings)?;
    findings.extend(autopilot.iter().flat_map(|document| of_autopilot(document, profiles.as_ref())));
    match Document::load(&home.gateway_toml()) {
        Ok(own) => findings.extend(own.iter().flat_map(|document| of_gateway(document, profiles.as_ref()))),
        Err(error) => findings.push(syntax(error)?),
    }
    Ok(findings)
}

/// The errors that a file as it is about to be written has and had not before: what cannot be resolved here and now, such as
/// a variable of the service, is no reason to refuse an edit of something else.
///
/// # Errors
/// It is not TOML.
pub(super) fn worse(
    file: ConfigFileName,
    before: &str,
    after: &str,
    home: &Home,
    profile: &str,
) -> Result<Vec<Finding>, Finding> {
    let config = home.config_file().ok();
    let credentials = home.credentials().unwrap_or_default();
    let errors = |document: &Document| {
        let mut findings = match file {
            ConfigFileName::Config => of_config(document, &credentials, profile),
            ConfigFileName::Autopilot => of_autopilot(document, config.as_ref()),
        };
        findings.retain(|finding| finding.severity == Severity::Error);
        findings
    };
    let old = Document::parse(file.name(), before).map(|document| errors(&document)).unwrap_or_default();
    let is_old = |new: &Finding| old.iter().any(|old| old.path == new.path && old.message == new.message);
    let mut new = errors(&Document::parse(file.name(), after)?);
    new.retain(|finding| !is_old(finding));
    Ok(new)
}

fn read(file: ConfigFileName, home: &Home, findings: &mut Vec<Finding>) -> Result<Option<Document>> {
    match Document::load(&file.path(home)) {
        Ok(Some(document)) => Ok(Some(document)),
        Ok(None) => Ok(Some(Document::parse(file.name(), "")?)),
        Err(error) => {
            findings.push(syntax(error)?);
            Ok(None)
        }
    }
}

fn syntax(error: stakpak_config::LoadError) -> Result<Finding> {
    match error {
        stakpak_config::LoadError::Syntax(finding) => Ok(finding),
        other => Err(other.into()),
    }
}

/// A profile that cannot be used is an error where it is the one in use.
fn of_config(document: &Document, credentials: &Credentials, in_use: &str) -> Vec<Finding> {
    let config = match ConfigFile::read(document) {
        Ok(config) => config.with_credentials(credentials.clone()),
        Err(finding) => return vec![finding],
    };
    let mut findings = config.findings().to_vec();
    let is_known = config.names().any(|name| name == in_use);
    for name in config.names().chain((!is_known).then_some(in_use)) {
        let path = ["profiles", name];
        let is_told = findings.iter().any(|finding| {
            finding.severity == Severity::Error
                && (finding.path == path.join(".") || finding.path.starts_with(&format!("{}.", path.join("."))))
        });
        if let (false, Err(error)) = (is_told, ConfigProfiles::new(config.clone(), name, None, false)) {
            let severity = if name == in_use { Severity::Error } else { Severity::Warning };
            findings.push(document.finding(&path, "E002", severity, format!("{error:#}")));
        }
    }
    in_order(findings)
}

fn of_autopilot(document: &Document, profiles: Option<&ConfigFile>) -> Vec<Finding> {
    let (mut findings, schedules) = AutopilotFile::findings(document);
    for (index, schedule) in (0..).zip(schedules.iter().flat_map(|set| &set.schedules)) {
        let index: usize = index;
        let (Definition::Valid { spec, .. }, Some(profiles)) = (&schedule.definition, profiles) else { continue };
        if let Err(error) = profiles.profile(&spec.profile) {
            let path = ["schedules", &index.to_string(), "profile"];
            findings.push(document.finding(&path, "E111", Severity::Error, error.to_string()));
        }
    }
    findings.extend(of_gateway(document, profiles));
    in_order(findings)
}

fn of_gateway(document: &Document, profiles: Option<&ConfigFile>) -> Vec<Finding> {
    let config = match GatewayConfig::from_document(document, &GatewayCliFlags::default()) {
        Ok(config) => config,
        Err(GatewayConfigError::Table(finding)) => return vec![finding],
        Err(_) => return Vec::new(),
    };
    let mut findings = config.findings.clone();
    findings.extend(unusable_keys(document, &config));
    for (name, settings) in config.channels.settings() {
        let (Some(profile), Some(profiles)) = (&settings.run.profile, profiles) else { continue };
        if let Err(error) = profiles.profile(profile) {
            let path = ["channels", name, "profile"];
            findings.push(document.finding(&path, "E204", Severity::Error, error.to_string()));
        }
    }
    findings
}

fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings.dedup();
    findings
}
