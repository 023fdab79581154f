//! What the file says and what the ledger knows.

use anyhow::{Context, Result, bail};
use chrono::Utc;
use chrono_tz::Tz;
use serde_json::{Value, json};
use stakpak_config::Document;
use stakpak_scheduler::{Cron, Definition, HistoryFilter, Ledger, RunNumber, ScheduleSet, Timing, list};

use super::{load, table, told};
use crate::{autopilot_file::AutopilotFile, exit::Failure, home::Home};

/// Coming runs that `show` names.
const NEXT: usize = 5;

pub(super) async fn all(home: &Home, json: bool) -> Result<()> {
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

pub(super) async fn run(home: &Home, json: bool, id: RunNumber) -> Result<()> {
    let (set, ledger) = load(home)?;
    let run = ledger.run(id).await?.with_context(|| format!("there is no run {id}"))?;
    if json {
        say!("{}", json!({ "command": "autopilot.schedule.show", "ok": true, "run": run }));
        return Ok(());
    }
    say!("{}", table::runs(std::slice::from_ref(&run), &set));
    for line in told::attempts(&run) {
        say!("{line}");
    }
    for decided in &run.decisions {
        say!("{decided}");
    }
    if let Some(hint) = &run.resume_hint {
        say!("waits with {}", told::calls(&run));
        say!("go on with: {hint}");
    }
    for line in told::lines(&run) {
        say!("told  {line}");
    }
    Ok(())
}

pub(super) async fn schedule(home: &Home, json: bool, name: &str) -> Result<()> {
    let (set, ledger) = load(home)?;
    let Some(definition) = set.get(name).map(|schedule| &schedule.definition) else {
        bail!("there is no schedule named {name}");
    };
    let overviews = list(&set, &ledger, Utc::now()).await?;
    let overview = overviews.iter().find(|overview| overview.name == name);
    let state = overview.map(table::json);
    let (spec, fires, zone) = match definition {
        Definition::Valid { spec, timing, .. } => {
            let fires: Vec<_> = timing.fires_after(Utc::now()).take(NEXT).collect();
            (serde_json::to_value(spec)?, fires, spec.timezone)
        }
        Definition::Invalid(errors) if !json => {
            for error in errors {
                say!("{error}");
            }
            bail!(Failure::Silent);
        }
        Definition::Invalid(_) => (Value::Null, Vec::new(), Tz::UTC),
    };
    let origins = origins(home, name, &spec)?;
    if json {
        say!(
            "{}",
            json!({ "command": "autopilot.schedule.show", "ok": true, "name": name, "definition": spec,
                "origins": origins, "next_fires": fires, "schedule": state })
        );
        return Ok(());
    }
    for (key, value) in leaves(&spec) {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say!("{key:<22} {shown}  ({})", origins[key.as_str()].as_str().unwrap_or("built in"));
    }
    for fire in fires {
        say!("{:<22} {}", "next", table::local(fire, zone));
    }
    Ok(())
}

/// Where each value comes from: the entry, `[defaults]`, or neither.
fn origins(home: &Home, name: &str, spec: &Value) -> Result<Value> {
    let Some(document) = Document::load(&home.autopilot_toml())? else { return Ok(json!({})) };
    let index = AutopilotFile::load(home)?.schedules.schedules.iter().position(|schedule| schedule.name == name);
    let index = index.unwrap_or_default().to_string();
    let origin = |key: &str| {
        let has = |path: &[&str]| document.locate(path).is_some();
        if [&[key], other_names(key)].concat().iter().any(|name| has(&["schedules", &index, name])) {
            format!("schedules.{name}")
        } else if has(&["schedules", &index, "budget", key]) {
            format!("schedules.budget.{key}")
        } else if has(&["defaults", key]) {
            "[defaults]".to_owned()
        } else if of_notifications(key).iter().any(|name| has(&["notifications", name])) {
            "[notifications]".to_owned()
        } else {
            "built in".to_owned()
        }
    };
    Ok(leaves(spec).into_iter().map(|(key, _)| (key.clone(), Value::from(origin(&key)))).collect())
}

/// Earlier names of a key.
fn other_names(key: &str) -> &'static [&'static str] {
    match key {
        "notify_target" => &["notify_chat_id", "channel"],
        "max_turns" => &["max_steps"],
        _ => &[],
    }
}

/// What a key is called in `[notifications]`.
fn of_notifications(key: &str) -> &'static [&'static str] {
    match key {
        "notify_channel" => &["channel"],
        "notify_target" => &["target", "chat_id"],
        "notify_on" => &["notify_on"],
        "notify_mode" => &["mode"],
        "system_route" => &["channel"],
        _ => &[],
    }
}

/// The keys of a definition as the file has them: what is grouped in the program is not grouped there.
fn leaves(spec: &Value) -> Vec<(String, &Value)> {
    let fields = spec.as_object().into_iter().flatten();
    let leaves = fields.flat_map(|(key, value)| match value {
        Value::Object(inner) => inner.iter().map(|(key, value)| (key.clone(), value)).collect::<Vec<_>>(),
        value => vec![(key.clone(), value)],
    });
    leaves.filter(|(_, value)| !value.is_null()).collect()
}

pub(super) fn next(home: &Home, json: bool, name: Option<&str>, cron: Option<&str>, tz: Tz, count: u16) -> Result<()> {
    let (timing, zone) = match (name, cron) {
        (_, Some(expression)) => {
            let cron = Cron::parse(expression, tz).map_err(|error| Failure::Usage(format!("--cron: {error}")))?;
            (Timing::Cron(cron), tz)
        }
        (name, None) => timing(home, name.unwrap_or_default())?,
    };
    let fires: Vec<_> = timing.fires_after(Utc::now()).take(count.into()).collect();
    if json {
        say!(
            "{}",
            json!({ "command": "autopilot.schedule.next", "ok": true, "timezone": zone.name(), "next_fires": fires })
        );
        return Ok(());
    }
    if fires.is_empty() {
        say!("It does not fire any more.");
    }
    for fire in fires {
        say!("{}   {}", table::local(fire, zone), fire.format("%Y-%m-%d %H:%M:%S UTC"));
    }
    Ok(())
}

fn timing(home: &Home, name: &str) -> Result<(Timing, Tz)> {
    let set = AutopilotFile::load(home)?.schedules;
    match set.get(name).map(|schedule| &schedule.definition) {
        Some(Definition::Valid { timing, spec, .. }) => Ok((timing.clone(), spec.timezone)),
        Some(Definition::Invalid(errors)) => bail!("schedule {name} is invalid: {}", errors[0].message),
        None => bail!("there is no schedule named {name}"),
    }
}

pub(super) async fn history(home: &Home, json: bool, filter: HistoryFilter<'_>, limit: u32) -> Result<()> {
    let (set, ledger): (ScheduleSet, Ledger) = load(home)?;
    let runs = ledger.history(filter, limit).await?;
    let missed = ledger.missed_beside(filter, limit, &runs).await?;
    if json {
        let command = "autopilot.schedule.history";
        say!("{}", json!({ "command": command, "ok": true, "runs": runs, "missed_ranges": missed }));
        return Ok(());
    }
    if runs.is_empty() && missed.is_empty() {
        let of_schedule = HistoryFilter { schedule: filter.schedule, ..HistoryFilter::default() };
        let ran = !ledger.history(of_schedule, 1).await?.is_empty();
        if let Some(name) = filter.schedule.filter(|name| !ran && set.get(name).is_none()) {
            bail!("there is no schedule named {name}, and it never ran");
        }
        say!("{}", if ran { "No such runs." } else { "No runs yet." });
        return Ok(());
    }
    say!("{}", table::history(&runs, &missed, &set));
    Ok(())
}
