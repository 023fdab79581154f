//! Arguments of `schedule …`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{ArgGroup, Args, Subcommand};
use stakpak_scheduler::{RunStatus, UnknownWord};

use super::service::instant;

/// Runs of one backfill, if it does not say.
pub(crate) const BACKFILL_LIMIT: u32 = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Adds a schedule to autopilot.toml
    #[command(
        after_help = "Examples:\n  stakpak schedule add morning --cron '0 8 * * 1-5' --tz Europe/Berlin --prompt 'status'\n  stakpak schedule add disk --every 15m --overlap queue_one --prompt 'how full are the disks?'"
    )]
    Add(Box<ScheduleAddArgs>),
    /// Changes the keys that are given, and no other
    #[command(after_help = "Example:\n  stakpak schedule edit morning --cron '0 7 * * 1-5' --unset model")]
    Edit(Box<ScheduleEditArgs>),
    /// Lists schedules with their next run
    List,
    /// A schedule with all that it inherits and its next runs; or a run, by its number
    Show {
        /// Schedule or number; `name:X` and `run:N` leave no doubt
        #[arg(value_name = "NAME|RUN")]
        what: String,
    },
    /// Coming runs, of a schedule or of an expression
    #[command(
        group(ArgGroup::new("of").args(["name", "cron"]).required(true)),
        after_help = "Example:\n  stakpak schedule next --cron '30 2 * * *' --tz Europe/Stockholm -n 10"
    )]
    Next {
        /// Schedule
        name: Option<String>,
        /// Expression
        #[arg(long)]
        cron: Option<String>,
        /// Zone of the expression
        #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "cron")]
        tz: Tz,
        /// How many
        #[arg(short = 'n', default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
    /// Starts a run now
    Trigger {
        /// Schedule
        name: String,
        /// Wait for its end; the exit code tells how it ended
        #[arg(long)]
        wait: bool,
        /// Run the check, say what the run would be, and write nothing
        #[arg(long, conflicts_with_all = ["wait", "force"])]
        dry_run: bool,
        /// Beside a run that is active, whatever `overlap` says
        #[arg(long)]
        force: bool,
        /// Without the check
        #[arg(long)]
        no_check: bool,
    },
    /// Runs the instants of a time that has passed, oldest first; those that have a run are left out
    #[command(
        after_help = "Example:\n  stakpak schedule backfill morning --from 2026-05-01T00:00 --to 2026-05-08T00:00 --dry-run"
    )]
    Backfill {
        /// Schedule
        name: String,
        #[command(flatten)]
        what: BackfillArgs,
    },
    /// Lets a schedule fire that the file had switched off
    Enable {
        /// Schedule
        name: String,
    },
    /// Keeps a schedule from firing, in the file
    Disable {
        /// Schedule
        name: String,
    },
    /// Keeps a schedule from firing; what comes meanwhile is skipped, not caught up on
    Pause {
        /// Schedule
        name: String,
        /// For this long [default: until it is resumed]
        #[arg(long = "for", value_name = "DURATION", value_parser = stakpak_config::duration::parse)]
        duration: Option<Duration>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Lets a paused schedule fire again, from now on; or decides about the calls that a paused run waits with
    #[command(
        after_help = "Examples:\n  stakpak schedule resume morning\n  stakpak schedule resume run:7 --approve-all --wait\n  stakpak schedule resume run:7 --approve call_1 --message 'not on Fridays'"
    )]
    Resume {
        /// Schedule, or number of a run; `name:X` and `run:N` leave no doubt
        #[arg(value_name = "NAME|RUN")]
        what: String,
        #[command(flatten)]
        decisions: DecisionArgs,
        /// Wait for the end of the run; the exit code tells how it ended
        #[arg(long)]
        wait: bool,
    },
    /// Ends a run and waits until that is confirmed
    Cancel {
        /// Its number, as N or run:N
        #[arg(value_name = "RUN")]
        run: String,
    },
    /// What ran, when, and what came of it
    History {
        /// Schedule
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// All schedules
        #[arg(long, conflicts_with = "name")]
        all: bool,
        /// Only those that stand so: pending, running, paused, completed, failed, timed_out, cancelled, skipped, missed, unknown
        #[arg(long, value_parser = status)]
        status: Option<RunStatus>,
        /// Since an instant (RFC 3339), or for so long, such as 2h
        #[arg(long, value_name = "TIME", value_parser = instant)]
        since: Option<DateTime<Utc>>,
        /// Newest runs to show
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Takes old runs out of the history; those that have not ended stay
    Clean {
        /// Runs that ended longer ago [default: `watch.history_retention`, 90 days]
        #[arg(long, value_name = "N")]
        older_than_days: Option<u32>,
    },
    /// Removes a schedule from autopilot.toml; its history stays
    Remove {
        /// Schedule
        name: String,
    },
}

/// Which instants are run afterwards.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// First instant: RFC 3339, or a local time of the schedule's zone such as 2026-05-01T09:00
    #[arg(long, value_name = "TIME")]
    pub(crate) from: String,
    /// First instant that is not meant
    #[arg(long, value_name = "TIME")]
    pub(crate) to: String,
    /// Most runs; more are refused, and none is written
    #[arg(long, value_name = "N", default_value_t = BACKFILL_LIMIT, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// While another run is active: one at a time, or `skip`, `queue_one`, `cancel_running`
    #[arg(long, value_name = "POLICY", default_value = "queue_all", value_parser = ["skip", "queue_one", "queue_all", "cancel_running"])]
    pub(crate) overlap: String,
    /// Say which they are, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also those that have a run
    #[arg(long)]
    pub(crate) force: bool,
}

/// What is decided about a paused run.
#[derive(Debug, Args)]
pub(crate) struct DecisionArgs {
    /// Approve this call; calls that are not named are rejected; may be repeated
    #[arg(long, value_name = "CALL", conflicts_with = "reject_all")]
    pub(crate) approve: Vec<String>,
    /// Reject this call; may be repeated
    #[arg(long, value_name = "CALL")]
    pub(crate) reject: Vec<String>,
    /// Approve every call that waits and is not rejected by name
    #[arg(long, conflicts_with = "reject_all")]
    pub(crate) approve_all: bool,
    /// Reject every call that waits
    #[arg(long)]
    pub(crate) reject_all: bool,
    /// What the agent is told with each rejection
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
}

impl DecisionArgs {
    /// Whether something is decided.
    pub(crate) fn decides(&self) -> bool {
        self.approve_all || self.reject_all || !self.approve.is_empty() || !self.reject.is_empty()
    }
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("when").args(["cron", "every", "at"]).required(true)),
    group(ArgGroup::new("what").args(["prompt", "prompt_file"]).required(true))
)]
pub(crate) struct ScheduleAddArgs {
    /// Name, unique among the schedules
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) keys: ScheduleKeys,
    /// Replace a schedule of this name
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("when").args(["cron", "every", "at"])),
    group(ArgGroup::new("what").args(["prompt", "prompt_file"]))
)]
pub(crate) struct ScheduleEditArgs {
    /// Schedule
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) keys: ScheduleKeys,
    /// Take a key out, so that its default holds; repeat for several
    #[arg(long, value_name = "KEY")]
    pub(crate) unset: Vec<String>,
}

/// What an entry may say; `--profile` and `--workdir` are those of every command. Values are checked by the parser of the file.
#[derive(Debug, Default, Args)]
pub(crate) struct ScheduleKeys {
    /// When: five fields, six with seconds first, or @daily and the like
    #[arg(long)]
    pub(crate) cron: Option<String>,
    /// When: at multiples of an interval, such as 90m
    #[arg(long, value_name = "DURATION")]
    pub(crate) every: Option<String>,
    /// When: once, RFC 3339 or a local time of the zone
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// IANA time zone, such as Europe/Berlin [default: defaults.timezone of autopilot.toml, else UTC]
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// What to do
    #[arg(long)]
    pub(crate) prompt: Option<String>,
    /// File with what to do, read at each run
    #[arg(long, value_name = "PATH")]
    pub(crate) prompt_file: Option<String>,
    /// Model of its runs
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Longest run
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Most turns of a run
    #[arg(long, alias = "max-steps", value_name = "N", value_parser = clap::value_parser!(i64).range(1..=256))]
    pub(crate) max_turns: Option<i64>,
    /// Script that decides whether the agent runs
    #[arg(long, value_name = "PATH")]
    pub(crate) check: Option<String>,
    /// Argument of the check; repeat for several
    #[arg(long, value_name = "ARG")]
    pub(crate) check_arg: Vec<String>,
    /// Longest check
    #[arg(long, value_name = "DURATION")]
    pub(crate) check_timeout: Option<String>,
    /// success, failure or any
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) trigger_on: Option<String>,
    /// interactive or silent
    #[arg(long, value_name = "KIND")]
    pub(crate) interaction: Option<String>,
    /// Chat platform of its notices
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) notify_channel: Option<String>,
    /// Chat of its notices
    #[arg(long, alias = "channel", value_name = "TARGET")]
    pub(crate) notify_target: Option<String>,
    /// all, completions, failures, none, or events such as completed,failed
    #[arg(long, value_name = "EVENTS")]
    pub(crate) notify_on: Option<String>,
    /// Wait for a person where policy asks
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) pause_on_approval: Option<bool>,
    /// Run isolated, or not at all
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) sandbox: Option<bool>,
    /// skip, `queue_one`, `queue_all` or `cancel_running`
    #[arg(long, value_name = "POLICY")]
    pub(crate) overlap: Option<String>,
    /// latest, all or none
    #[arg(long, value_name = "POLICY")]
    pub(crate) catchup: Option<String>,
    /// How late a run may be caught up on, or auto
    #[arg(long, value_name = "DURATION")]
    pub(crate) catchup_window: Option<String>,
    /// Random delay of each run
    #[arg(long, value_name = "DURATION")]
    pub(crate) jitter: Option<String>,
    /// Further attempts after a failure
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<i64>,
    /// Failures in a row that pause it; 0 for never
    #[arg(long, value_name = "N")]
    pub(crate) pause_after_failures: Option<i64>,
    /// Most dollars a day
    #[arg(long, value_name = "USD")]
    pub(crate) budget_usd_per_day: Option<f64>,
    /// Most tokens a run
    #[arg(long, value_name = "N")]
    pub(crate) budget_tokens_per_run: Option<i64>,
    /// Whether it fires
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) enabled: Option<bool>,
    /// Write it switched off
    #[arg(long, conflicts_with = "enabled")]
    pub(crate) disabled: bool,
}

fn status(text: &str) -> Result<RunStatus, UnknownWord> {
    text.parse()
}
