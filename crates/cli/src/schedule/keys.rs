//! Flags to the keys of an entry.

use toml_edit::{Array, InlineTable, Table, Value};

use crate::args::{Global, ScheduleKeys};

/// Of these an entry has one.
const EXCLUSIVE: [&[&str]; 2] = [&["cron", "every", "at"], &["prompt", "prompt_file"]];

/// Writes what is given, and takes out what it replaces.
pub(super) fn write(global: &Global, keys: &ScheduleKeys, table: &mut Table) {
    let profile = Some(&global.profile).filter(|profile| *profile != "default").map(Value::from);
    let workdir = global.workdir.as_ref().map(|workdir| Value::from(workdir.display().to_string()));
    let inherited = [("profile", profile), ("workdir", workdir)];
    let inherited = inherited.into_iter().filter_map(|(key, given)| Some((key, given?)));
    for (key, given) in given(keys).into_iter().chain(inherited) {
        for others in EXCLUSIVE.iter().filter(|others| others.contains(&key)) {
            others.iter().filter(|other| **other != key).for_each(|other| drop(table.remove(other)));
        }
        stakpak_config::set(table, key, given);
    }
    let budget = [
        ("usd_per_day", keys.budget_usd_per_day.map(Value::from)),
        ("tokens_per_run", keys.budget_tokens_per_run.map(Value::from)),
    ];
    for (key, given) in budget {
        let Some(given) = given else { continue };
        let budget = table.entry("budget").or_insert_with(|| Value::from(InlineTable::new()).into());
        if let Some(budget) = budget.as_table_like_mut() {
            stakpak_config::set(budget, key, given);
        }
    }
}

fn given(keys: &ScheduleKeys) -> Vec<(&'static str, Value)> {
    let texts = [
        ("cron", &keys.cron),
        ("every", &keys.every),
        ("at", &keys.at),
        ("timezone", &keys.tz),
        ("prompt", &keys.prompt),
        ("prompt_file", &keys.prompt_file),
        ("model", &keys.model),
        ("timeout", &keys.timeout),
        ("check", &keys.check),
        ("check_timeout", &keys.check_timeout),
        ("trigger_on", &keys.trigger_on),
        ("interaction", &keys.interaction),
        ("notify_channel", &keys.notify_channel),
        ("notify_target", &keys.notify_target),
        ("overlap", &keys.overlap),
        ("catchup", &keys.catchup),
        ("catchup_window", &keys.catchup_window),
        ("jitter", &keys.jitter),
    ];
    let numbers =
        [("max_turns", keys.max_turns), ("retries", keys.retries), ("pause_after_failures", keys.pause_after_failures)];
    let switches = [
        ("pause_on_approval", keys.pause_on_approval),
        ("sandbox", keys.sandbox),
        ("enabled", keys.enabled.or(keys.disabled.then_some(false))),
    ];
    let texts = texts.into_iter().filter_map(|(key, given)| Some((key, Value::from(given.as_ref()?))));
    let numbers = numbers.into_iter().filter_map(|(key, given)| Some((key, Value::from(given?))));
    let switches = switches.into_iter().filter_map(|(key, given)| Some((key, Value::from(given?))));
    let arguments =
        (!keys.check_arg.is_empty()).then(|| ("check_args", Value::from(Array::from_iter(&keys.check_arg))));
    let notify_on = keys.notify_on.as_ref().map(|word| match word.contains(',') {
        true => Value::from(Array::from_iter(word.split(',').map(str::trim))),
        false => Value::from(word),
    });
    texts.chain(notify_on.map(|given| ("notify_on", given))).chain(numbers).chain(switches).chain(arguments).collect()
}
