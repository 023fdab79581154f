//! What a chat is told about a run: pure functions of its row. The gateway renders the Markdown for each platform.
//!
//! What comes from checks and agents was redacted before it was stored; nothing else goes into a notice.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    check::{CheckResult, shortened},
    ledger::{Event, RunRecord, Source},
    spec::ScheduleSpec,
};

/// Characters of the agent's message or of an error.
const LONGEST_SUMMARY: usize = 500;
/// Characters of the check's output that a later run in that chat is told.
const LONGEST_OUTPUT: usize = 6000;
/// Fence of a block of code.
const FENCE: &str = "```";

/// What a chat is told, and what a run that answers there is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) context: Value,
}

impl Notice {
    /// In the place of one that another version wrote.
    pub(crate) fn unreadable() -> Self {
        let text = "Something happened to a schedule: see `stakpak schedule history --all`".to_owned();
        Self { text, context: Value::Null }
    }
}

/// Instants that nobody could run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    pub(crate) count: u64,
}

/// That a run begins in the chat; what its check said follows as a message of its own.
pub(crate) fn of_trigger(
    spec: &ScheduleSpec,
    source: Source,
    nominal_at: Option<DateTime<Utc>>,
    check: Option<&CheckResult>,
) -> Notice {
    let check_line = check.map(|check| format!("check {}", check.ending()));
    let facts = [Some(began(source, nominal_at, spec.timezone)), check_line];
    let facts = facts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    let mut context = json!({ "schedule": spec.name, "status": "triggered" });
    if let Some(output) = check.and_then(output) {
        context["check_output"] = output.into();
    }
    Notice { text: format!("▶️ **{}** triggered\n{facts}", plain(&spec.name)), context }
}

/// About a run.
pub(crate) fn of_run(event: Event, run: &RunRecord, spec: &ScheduleSpec) -> Notice {
    let mut lines = vec![heading(event, &spec.name), facts(run, spec.timezone)];
    let said = match event {
        Event::Paused => Some(waits_for(run)),
        _ => summary(run),
    };
    lines.extend(said.iter().map(|said| format!("\n{said}")));
    let show = || format!("stakpak schedule show run:{}", run.id);
    lines.push(format!("\n`{}`", run.resume_hint.clone().unwrap_or_else(show)));
    notice(event, &spec.name, &lines, said.as_deref(), run.check.as_ref())
}

/// About instants that passed; `run` is the newest of them.
pub(crate) fn of_gap(gap: Gap, run: &RunRecord, spec: &ScheduleSpec) -> Notice {
    let at = |instant| shown(instant, spec.timezone);
    let said = match gap.count {
        1 => format!("The run of {} did not take place.", at(gap.to)),
        count => format!("{count} runs did not take place, from {} to {}.", at(gap.from), at(gap.to)),
    };
    let why = run.reason.map(|reason| format!("reason {reason}"));
    let command = format!("\n`stakpak schedule history {}`", quoted(&spec.name));
    let lines = [Some(heading(Event::Missed, &spec.name)), why, Some(format!("\n{said}")), Some(command)];
    notice(Event::Missed, &spec.name, &lines.into_iter().flatten().collect::<Vec<_>>(), Some(&said), None)
}

/// A schedule that fires no more; `note` says why.
pub(crate) fn of_pause(schedule: &str, note: &str, run: &RunRecord) -> Notice {
    let said = format!("{}. It does not fire until it is resumed.", plain(note));
    let mut lines = vec![heading(Event::SchedulePaused, schedule), format!("\n{said}")];
    lines.extend(summary(run).map(|last| format!("\nThe last one: {last}")));
    lines.push(format!("\n`stakpak schedule resume {}`", quoted(schedule)));
    notice(Event::SchedulePaused, schedule, &lines, Some(&said), None)
}

/// What concerns no schedule.
pub(crate) fn of_system(event: Event, text: &str, command: &str) -> Notice {
    let said = cut(text, LONGEST_SUMMARY);
    let lines = [format!("⚠️ **{}**", word(event)), format!("\n{}", plain(&said)), format!("\n`{command}`")];
    Notice { text: lines.join("\n"), context: json!({ "status": event.as_str(), "summary": said }) }
}

fn notice(
    event: Event,
    schedule: &str,
    lines: &[String],
    summary: Option<&str>,
    check: Option<&CheckResult>,
) -> Notice {
    let context = json!({
        "check_output": check.and_then(output),
        "schedule": schedule,
        "status": event.as_str(),
        "summary": summary,
    });
    Notice { text: lines.join("\n"), context }
}

fn output(check: &CheckResult) -> Option<String> {
    let output = [check.stdout.trim_end(), check.stderr.trim_end()].join("\n").trim().to_owned();
    Some(output).filter(|output| !output.is_empty()).map(|output| shortened(&output, LONGEST_OUTPUT))
}

fn heading(event: Event, schedule: &str) -> String {
    format!("{} **{}** {}", symbol(event), plain(schedule), word(event))
}

/// A run that waits and one at its limit have not failed.
fn symbol(event: Event) -> &'static str {
    match event {
        Event::Started => "▶️",
        Event::Completed | Event::Recovered => "✅",
        Event::Failed => "❌",
        Event::TimedOut => "⏱️",
        Event::Unknown => "❓",
        Event::Missed | Event::Skipped => "⏭️",
        Event::Cancelled => "🚫",
        Event::Paused | Event::SchedulePaused => "⏸️",
        Event::Budget | Event::ConfigInvalid | Event::SchedulerDegraded => "⚠️",
    }
}

fn word(event: Event) -> &'static str {
    match event {
        Event::TimedOut => "timed out",
        Event::Unknown => "ended, and how is unknown",
        Event::Recovered => "completed again",
        Event::SchedulePaused => "is paused: too many failures",
        Event::Budget => "a budget is used up, or nearly",
        Event::ConfigInvalid => "autopilot.toml cannot be used",
        Event::SchedulerDegraded => "schedules do not fire as they should",
        event => event.as_str(),
    }
}

/// Source, reason, duration, tokens and the check's end, on one line.
fn facts(run: &RunRecord, zone: Tz) -> String {
    let facts = [
        Some(began(run.source, run.nominal_at, zone)),
        run.reason.map(|reason| format!("reason {reason}")),
        run.duration_ms.and_then(duration).map(|took| format!("took {took}")),
        run.usage.as_ref().map(|usage| format!("{} tokens", usage.total_tokens)),
        run.cost_usd.map(|cost| format!("{cost} USD")),
        run.check.as_ref().map(|check| format!("check {}", check.ending())),
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// What made a run, and when it was meant to be.
fn began(source: Source, nominal_at: Option<DateTime<Utc>>, zone: Tz) -> String {
    match nominal_at {
        Some(nominal) => format!("{source}, {}", shown(nominal, zone)),
        None => source.to_string(),
    }
}

fn duration(millis: i64) -> Option<String> {
    let seconds = u64::try_from(millis).ok()? / 1000;
    Some(match seconds {
        0 => "less than 1s".to_owned(),
        seconds => stakpak_config::duration::show(std::time::Duration::from_secs(seconds)).to_string(),
    })
}

fn shown(instant: DateTime<Utc>, zone: Tz) -> String {
    instant.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string()
}

/// The agent's last message as it is, else the error.
fn summary(run: &RunRecord) -> Option<String> {
    let said = run.agent_message.as_deref().filter(|text| !text.trim().is_empty());
    match (said, run.error.as_deref().filter(|text| !text.trim().is_empty())) {
        (Some(said), _) => Some(closed(cut(said.trim(), LONGEST_SUMMARY))),
        (None, Some(error)) => Some(plain(&cut(error.trim(), LONGEST_SUMMARY))),
        (None, None) => None,
    }
}

/// The calls that a person is to decide about.
fn waits_for(run: &RunRecord) -> String {
    let calls = run.pause_reason.as_ref().and_then(Value::as_array);
    let shown: Vec<String> = calls
        .into_iter()
        .flatten()
        .map(|call| format!("{} {}", call["name"].as_str().unwrap_or("a tool"), call["arguments"]))
        .map(|call| format!("`{}`", cut(&call.replace('`', "'"), LONGEST_SUMMARY / 2)))
        .collect();
    match shown.as_slice() {
        [] => "It waits for a person.".to_owned(),
        shown => format!("It waits for a person to decide about {}", shown.join(" and ")),
    }
}

/// At most so many characters, cut behind a word.
fn cut(text: &str, most: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(most) else { return text.to_owned() };
    let head = &text[..end];
    let at_word = head.rfind(char::is_whitespace).filter(|at| *at > head.len() / 2);
    format!("{} …", head[..at_word.unwrap_or(end)].trim_end())
}

/// What follows a cut is no code.
fn closed(text: String) -> String {
    let fences = text.lines().filter(|line| line.trim_start().starts_with(FENCE)).count();
    if fences % 2 == 1 { format!("{text}\n{FENCE}") } else { text }
}

/// Text that is not Markdown, as Markdown.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '~' | '|' | '#') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(is_plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''").replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::{FENCE, LONGEST_SUMMARY, closed, cut, of_system, plain, quoted, symbol, word};
    use crate::ledger::Event;

    #[test]
    fn a_long_text_is_cut_behind_a_word_and_leaves_no_code_open() {
        let words = "word ".repeat(200);
        let short = cut(&words, LONGEST_SUMMARY);
        assert!(short.ends_with("word …") && short.chars().count() <= LONGEST_SUMMARY + 2, "{short}");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut(&"ä".repeat(9), 3), "äää …", "without a space it is cut all the same");
        let code = cut(&format!("see:\n{FENCE}sh\n{words}\n{FENCE}"), LONGEST_SUMMARY);
        assert_eq!(closed(code.clone()), format!("{code}\n{FENCE}"));
        assert_eq!(closed("plain".to_owned()), "plain");
    }

    #[test]
    fn what_is_no_markdown_stays_as_it_is() {
        assert_eq!(plain("a_b *c* `d` [e](f) <g>"), r"a\_b \*c\* \`d\` \[e\](f) \<g\>");
        assert_eq!((quoted("disk-1"), quoted("my disk's")), ("disk-1".to_owned(), r"'my disk'\''s'".to_owned()));
        assert!(of_system(Event::ConfigInvalid, "a_b", "stakpak status").text.contains(r"a\_b"));
    }

    /// Who waits and who was too slow has not failed.
    #[test]
    fn a_pause_and_a_time_limit_are_never_called_failed() {
        for event in [Event::Paused, Event::TimedOut, Event::Unknown, Event::Missed, Event::Cancelled] {
            assert!(word(event) != word(Event::Failed) && symbol(event) != symbol(Event::Failed), "{event}");
        }
    }
}
