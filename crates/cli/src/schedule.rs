//! `stakpak schedule …`: edits of `autopilot.toml`, and what the ledger knows.

mod table;

use std::{io, path::Path, time::Duration};

use anyhow::{Result, bail};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use stakpak_config::{Document, edit};
use stakpak_scheduler::{Definition, HeldBy, Hold, Ledger, Schedule, ScheduleSet, list, trigger};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

pub(crate) use table::{json as schedule_json, local, schedules as schedule_table};

use crate::{
    agent_server::client,
    args::{ScheduleAddArgs, ScheduleCommand},
    autopilot_file::AutopilotFile,
    exit::Failure,
    home::Home,
    instance::Facts,
};

pub(crate) async fn run(home: &Home, json: bool, command: ScheduleCommand) -> Result<()> {
    match command {
        ScheduleCommand::Add(args) => add(home, json, &args),
        ScheduleCommand::List => show_list(home, json).await,
        ScheduleCommand::Trigger { name } => start(home, json, &name).await,
        ScheduleCommand::Pause { name, duration, note } => pause(home, json, &name, duration, note).await,
        ScheduleCommand::Resume { name } => resume(home, json, &name).await,
        ScheduleCommand::History { name, limit, .. } => history(home, json, name.as_deref(), limit).await,
        ScheduleCommand::Remove { name } => remove(home, json, &name),
    }
}

fn add(home: &Home, json: bool, args: &ScheduleAddArgs) -> Result<()> {
    let path = home.autopilot_toml();
    let added = edit(&path, |document| {
        insert(document, args)?;
        check(&path, document, &args.name)
    });
    let schedule = added.map_err(edit_error)?;
    let Definition::Valid { timing, spec, .. } = schedule.definition else {
        bail!("schedule {} is invalid", args.name)
    };
    let fires: Vec<_> = timing.fires_after(Utc::now()).take(3).collect();
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.add", "ok": true, "name": args.name, "next_fires": fires }));
        return Ok(());
    }
    say!("Schedule {} is in {}.", args.name, Home::show(&path));
    for fire in fires {
        say!("  next  {}", table::local(fire, spec.timezone));
    }
    match Facts::of_running(home)? {
        Some(_) => say!("The running instance takes it up within a second."),
        None => say!("Start it with: stakpak up"),
    }
    Ok(())
}

fn insert(document: &mut DocumentMut, args: &ScheduleAddArgs) -> io::Result<()> {
    let refused = |text: String| Err(io::Error::other(text));
    let schedules = document.entry("schedules").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(schedules) = schedules.as_array_of_tables_mut() else {
        return refused("`schedules` must be written as [[schedules]] tables".to_owned());
    };
    let existing = schedules.iter().position(|table| name_of(table) == Some(&args.name));
    match existing {
        Some(_) if !args.replace => {
            return refused(format!("there is a schedule named {}; --replace replaces it", args.name));
        }
        Some(index) => drop(schedules.remove(index)),
        None => {}
    }
    let mut table = Table::new();
    table["name"] = value(&args.name);
    table["cron"] = value(&args.cron);
    if let Some(zone) = &args.tz {
        table["timezone"] = value(zone);
    }
    table["prompt"] = value(&args.prompt);
    for (key, given) in [("model", &args.model), ("timeout", &args.timeout)] {
        if let Some(given) = given {
            table[key] = value(given);
        }
    }
    if let Some(turns) = args.max_turns {
        table["max_turns"] = value(turns);
    }
    if args.disabled {
        table["enabled"] = value(false);
    }
    schedules.push(table);
    Ok(())
}

fn name_of(table: &Table) -> Option<&str> {
    table.get("name").and_then(Item::as_str)
}

/// The entry as the running process will read it: an invalid one is not written.
fn check(path: &Path, document: &DocumentMut, name: &str) -> io::Result<Schedule> {
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let parsed = Document::parse(&file, document.to_string()).map_err(io::Error::other)?;
    let file = AutopilotFile::read(&parsed).map_err(|error| io::Error::other(error.to_string()))?;
    let schedule = file.schedules.get(name).cloned();
    let schedule = schedule.ok_or_else(|| io::Error::other("the schedule was not written"))?;
    match &schedule.definition {
        Definition::Valid { .. } => Ok(schedule),
        Definition::Invalid(errors) => Err(io::Error::other(
            errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect::<Vec<_>>().join("\n"),
        )),
    }
}

fn edit_error(error: stakpak_config::EditError<io::Error>) -> anyhow::Error {
    match error {
        stakpak_config::EditError::Refused(error) => anyhow::anyhow!("{error}; nothing was written"),
        other => other.into(),
    }
}

fn remove(home: &Home, json: bool, name: &str) -> Result<()> {
    let path = home.autopilot_toml();
    let removed = edit(&path, |document| {
        let Some(schedules) = document.get_mut("schedules").and_then(Item::as_array_of_tables_mut) else {
            return Ok(false);
        };
        let before = schedules.len();
        schedules.retain(|table| name_of(table) != Some(name));
        Ok::<_, io::Error>(schedules.len() < before)
    });
    if !removed.map_err(edit_error)? {
        bail!("there is no schedule named {name} in {}", Home::show(&path));
    }
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.remove", "ok": true, "name": name }));
    } else {
        say!("Schedule {name} is removed; its history stays.");
    }
    Ok(())
}

fn load(home: &Home) -> Result<(ScheduleSet, Ledger)> {
    let file = AutopilotFile::load(home)?;
    Ok((file.schedules, Ledger::open(&home.autopilot("autopilot.db"))?))
}

async fn show_list(home: &Home, json: bool) -> Result<()> {
    let (set, ledger) = load(home)?;
    let schedules = list(&set, &ledger, Utc::now()).await?;
    if json {
        let schedules: Vec<_> = schedules.iter().map(table::json).collect();
        say!("{}", json!({ "command": "autopilot.schedule.list", "ok": true, "schedules": schedules }));
        return Ok(());
    }
    if schedules.is_empty() {
        say!("No schedules. Add one: stakpak schedule add morning --cron '0 8 * * *' --prompt status");
        return Ok(());
    }
    say!("{}", table::schedules(&schedules));
    for error in set.errors() {
        say!("{error}");
    }
    Ok(())
}

/// Asks the running instance; without one the run is stored and starts with it.
async fn start(home: &Home, json: bool, name: &str) -> Result<()> {
    let running = Facts::of_running(home)?.filter(|facts| facts.mode == "up");
    let run = match &running {
        Some(facts) => {
            client(&facts.url, Some(&AutopilotFile::load(home)?.token(home)?)).trigger_schedule(name).await?
        }
        None => {
            let (set, ledger) = load(home)?;
            serde_json::to_value(trigger(&set, &ledger, name, Utc::now()).await?)?
        }
    };
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.trigger", "ok": true, "run": run }));
    } else if running.is_some() {
        say!("Run {} of {name} has started; see what came of it: stakpak schedule history {name}", run["id"]);
    } else {
        say!("Run {} of {name} is stored and starts at the next `stakpak up`.", run["id"]);
    }
    Ok(())
}

/// Held in the ledger, where a running instance looks before each start.
async fn pause(home: &Home, json: bool, name: &str, duration: Option<Duration>, note: Option<String>) -> Result<()> {
    let (set, ledger) = load(home)?;
    if set.get(name).is_none() {
        bail!("there is no schedule named {name}");
    }
    let since = Utc::now();
    let until = duration.map(|duration| anyhow::Ok(since + TimeDelta::from_std(duration)?)).transpose()?;
    ledger.hold(name, Hold { since, until, by: HeldBy::User, note }).await?;
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.pause", "ok": true, "name": name, "until": until }));
    } else {
        say!("Schedule {name} is paused. Let it go on with: stakpak schedule resume {name}");
    }
    Ok(())
}

async fn resume(home: &Home, json: bool, name: &str) -> Result<()> {
    let (set, ledger) = load(home)?;
    if !ledger.release(name, Utc::now()).await? {
        match set.get(name) {
            Some(_) => bail!("schedule {name} is not paused"),
            None => bail!("there is no schedule named {name}"),
        }
    }
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.resume", "ok": true, "name": name }));
    } else {
        say!("Schedule {name} fires again, from now on.");
    }
    Ok(())
}

async fn history(home: &Home, json: bool, name: Option<&str>, limit: u32) -> Result<()> {
    let (set, ledger) = load(home)?;
    let runs = ledger.history(name, limit).await?;
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.history", "ok": true, "runs": runs }));
        return Ok(());
    }
    if let Some(name) = name.filter(|name| runs.is_empty() && set.get(name).is_none()) {
        eprintln!("error: there is no schedule named {name}, and it never ran");
        bail!(Failure::Silent);
    }
    if runs.is_empty() {
        say!("No runs yet.");
        return Ok(());
    }
    say!("{}", table::runs(&runs, &set));
    Ok(())
}
