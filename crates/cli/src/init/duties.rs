//! The part of `autopilot.toml` beside the channel: time zone, address, where schedules report, a first schedule.

use std::{io, net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use stakpak_config::{Document, edit, set};
use stakpak_scheduler::Definition;
use toml_edit::{DocumentMut, Item, Table};

use super::{chat::Chat, question::Asker};
use crate::{
    args::{Global, InitArgs, ScheduleAddArgs, ScheduleKeys},
    autopilot_file::AutopilotFile,
    channel::{refused, set_notifications},
    home::Home,
    schedule::{check_schedule, insert_schedule},
};

/// When a schedule runs next.
pub(super) struct Fires {
    pub(super) next: DateTime<Utc>,
    pub(super) zone: Tz,
}

/// What is written.
pub(super) struct Duties {
    zone: Option<Tz>,
    listen: Option<SocketAddr>,
    reports: Option<(&'static str, String)>,
    pub(super) schedule: Option<ScheduleAddArgs>,
    /// Whether the file has schedules already.
    pub(super) has_schedules: bool,
}

impl Duties {
    pub(super) fn choose(
        args: &InitArgs,
        asker: Asker,
        home: &Home,
        file: &AutopilotFile,
        chat: Option<&Chat>,
        is_offline: bool,
    ) -> Result<Self> {
        let has_schedules = !file.schedules.schedules.is_empty();
        let is_new = !home.autopilot_toml().exists();
        let zone = match args.tz {
            None if is_new && asker.is_person() => Some(ask_zone(asker)?),
            given => given,
        };
        let schedule = match given_schedule(args) {
            None if !has_schedules => ask_schedule(asker, is_offline)?,
            given => given,
        };
        let reports = chat.and_then(|chat| Some((chat.change.channel, chat.target.clone()?)));
        Ok(Self { zone, listen: args.bind, reports, schedule, has_schedules })
    }

    /// Whether the file takes it. Nothing is written.
    pub(super) fn check(&self, home: &Home, global: &Global) -> Result<()> {
        let path = home.autopilot_toml();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", Home::show(&path))),
        };
        let mut document: DocumentMut = text.parse().context("a file that does not parse is not edited")?;
        self.apply(&path, &mut document, global).map_err(|error| anyhow::anyhow!("{error}; nothing was written"))?;
        Ok(())
    }

    /// When the schedule runs, if there is one.
    pub(super) fn write(&self, home: &Home, global: &Global) -> Result<Option<Fires>> {
        let path = home.autopilot_toml();
        edit(&path, |document| self.apply(&path, document, global)).map_err(refused)
    }

    fn apply(&self, path: &Path, document: &mut DocumentMut, global: &Global) -> io::Result<Option<Fires>> {
        if let Some(zone) = self.zone {
            set(table(document, "defaults")?, "timezone", zone.name());
        }
        if let Some(listen) = self.listen {
            set(table(document, "server")?, "listen", listen.to_string());
        }
        if let Some((channel, target)) = &self.reports {
            set_notifications(document, channel, target)?;
        }
        let Some(schedule) = &self.schedule else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let document = Document::parse(&name, document.to_string()).map_err(io::Error::other)?;
            return AutopilotFile::read(&document).map(|_| None).map_err(|error| io::Error::other(error.to_string()));
        };
        insert_schedule(document, global, schedule)?;
        match check_schedule(path, document, &schedule.name)?.definition {
            Definition::Valid { timing, spec, .. } => {
                Ok(timing.fires_after(Utc::now()).next().map(|next| Fires { next, zone: spec.timezone }))
            }
            Definition::Invalid(_) => Ok(None),
        }
    }
}

fn table<'a>(document: &'a mut DocumentMut, name: &str) -> io::Result<&'a mut Table> {
    let item = document.entry(name).or_insert_with(|| Item::Table(Table::new()));
    item.as_table_mut().ok_or_else(|| io::Error::other(format!("{name} must be written as a [{name}] table")))
}

fn ask_zone(asker: Asker) -> Result<Tz> {
    let own = iana_time_zone::get_timezone().ok().filter(|zone| zone.parse::<Tz>().is_ok());
    asker.checked("Time zone", own.as_deref().unwrap_or("UTC"), |answer| {
        answer.parse().map_err(|_| "an IANA time zone, please, such as Europe/Berlin".to_owned())
    })
}

fn given_schedule(args: &InitArgs) -> Option<ScheduleAddArgs> {
    let keys = ScheduleKeys {
        cron: args.cron.clone(),
        every: args.every.clone(),
        prompt: args.prompt.clone(),
        check: args.check.clone(),
        ..ScheduleKeys::default()
    };
    args.schedule.clone().map(|name| ScheduleAddArgs { name, keys, replace: args.force })
}

fn ask_schedule(asker: Asker, is_offline: bool) -> Result<Option<ScheduleAddArgs>> {
    let name = asker.text("A first schedule: its name, or none", "none")?;
    if name == "none" {
        return Ok(None);
    }
    let cron = asker.text("When it runs, as minute hour day month weekday", "0 8 * * *")?;
    let proposal =
        if is_offline { "status" } else { "Look at disks, memory and failed services; say what needs care." };
    let prompt = asker.text("What it does", proposal)?;
    let keys = ScheduleKeys { cron: Some(cron), prompt: Some(prompt), ..ScheduleKeys::default() };
    Ok(Some(ScheduleAddArgs { name, keys, replace: false }))
}
