//! `stakpak schedule …`: edits of `autopilot.toml`, and what the ledger knows.

mod act;
mod backfill;
mod clean;
mod edits;
mod keys;
mod paused;
mod preview;
mod show;
mod table;
mod told;
mod what;

use anyhow::{Result, bail};
use stakpak_scheduler::{HistoryFilter, Ledger, ScheduleSet, TriggerOptions};

pub(crate) use edits::{check as check_schedule, insert as insert_schedule};
pub(crate) use table::{json as schedule_json, local, schedules as schedule_table};

use crate::{
    args::{Global, ScheduleCommand},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
};
use what::What;

pub(crate) async fn run(home: &Home, global: &Global, command: ScheduleCommand) -> Result<()> {
    let json = global.json;
    match command {
        ScheduleCommand::Add(args) => edits::add(home, global, &args),
        ScheduleCommand::Edit(args) => edits::change(home, global, &args),
        ScheduleCommand::Enable { name } => edits::switch(home, json, &name, true),
        ScheduleCommand::Disable { name } => edits::switch(home, json, &name, false),
        ScheduleCommand::Remove { name } => edits::remove(home, json, &name),
        ScheduleCommand::List => show::all(home, json).await,
        ScheduleCommand::Show { what } => match what::read(&what)? {
            What::Run(id) => show::run(home, json, id).await,
            What::Schedule(name) => show::schedule(home, json, name).await,
        },
        ScheduleCommand::Next { name, cron, tz, count } => {
            show::next(home, json, name.as_deref(), cron.as_deref(), tz, count)
        }
        ScheduleCommand::History { name, status, since, limit, .. } => {
            let filter = HistoryFilter { schedule: name.as_deref(), status, since, before: None };
            show::history(home, json, filter, limit).await
        }
        ScheduleCommand::Clean { older_than_days } => clean::run(home, json, older_than_days).await,
        ScheduleCommand::Trigger { name, dry_run: true, no_check, .. } => {
            preview::run(home, global, &name, no_check).await
        }
        ScheduleCommand::Trigger { name, wait, force, no_check, .. } => {
            let options = TriggerOptions { force, no_check, key: None };
            act::start(home, json, &name, wait, options).await
        }
        ScheduleCommand::Backfill { name, what } => backfill::run(home, json, &name, what).await,
        ScheduleCommand::Pause { name, duration, note } => act::pause(home, json, &name, duration, note).await,
        ScheduleCommand::Resume { what, decisions, wait } => match what::read(&what)? {
            What::Run(id) => paused::resume(home, json, id, decisions, wait).await,
            What::Schedule(_) if decisions.decides() || decisions.message.is_some() || wait => {
                let text = "decisions and --wait are for a run: name it as run:N; see `stakpak schedule history --all`";
                bail!(Failure::Usage(text.to_owned()))
            }
            What::Schedule(name) => act::resume(home, json, name).await,
        },
        ScheduleCommand::Cancel { run } => match what::read(&run)? {
            What::Run(id) => paused::cancel(home, json, id).await,
            What::Schedule(name) => bail!(Failure::Usage(format!("`{name}` is not the number of a run"))),
        },
    }
}

fn load(home: &Home) -> Result<(ScheduleSet, Ledger)> {
    let file = AutopilotFile::load(home)?;
    Ok((file.schedules, Ledger::open(&home.ledger())?))
}
