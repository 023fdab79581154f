//! Schedules that become agent runs, once each.
//!
//! A fire, one schedule at one nominal instant, is a row in the [`Ledger`] before anything is done about it, and its key is the
//! `Idempotency-Key` of the agent run: whatever crashes, reloads or clocks do, it makes at most one run, and a crash loses none.
//! The agent server is reached by HTTP and SSE only.
//!
//! * [`ScheduleSet`] reads `autopilot.toml`; a wrong entry disables only itself.
//! * [`Timing`] is the one evaluator of instants: preview, validation and firing agree.
//! * [`Scheduler`] plans, dispatches and follows; [`Handle`] asks it; a [`Ledger`] alone answers when none runs.
//! * What became of a run is told in a chat: written down with the outcome, delivered by the gateway, once.
//! * [`agent`] runs an agent once, for programs.

pub mod agent;
mod backfill;
mod check;
mod clock;
mod courier;
mod cron;
mod due;
mod fire;
mod handle;
mod ledger;
mod local_time;
mod notice;
mod overview;
mod preview;
mod prompt;
mod pulse;
mod runner;
mod scheduler;
mod spec;
mod tally;
mod timing;

pub use backfill::{Backfill, BackfillError, Backfilled, backfill};
pub use check::CheckResult;
#[cfg(feature = "campaign")]
pub use clock::CampaignClock;
pub use clock::{Clock, SystemClock};
pub use cron::{Cron, CronError, CronOddity};
pub use handle::{Handle, TriggerError};
pub use ledger::{
    Asked, Attempt, CancelError, Decide, DecideError, Decided, Event, HeldBy, HistoryFilter, Hold, HoldError, Ledger,
    LedgerError, MissedInstants, Notification, NotificationState, OpenRuns, OutboxCounts, Reason, Retention, RunNumber,
    RunRecord, RunStatus, Source, SpentToday, TriggerOptions, UnknownWord,
};
pub use overview::{ScheduleOverview, ScheduleState, SchedulerStatus, list, status, trigger};
pub use preview::{Preview, preview};
pub use pulse::Pulse;
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerError};
pub use spec::{
    Budget, Catchup, Check, DayLimits, Definition, Firing, Interaction, Notifications, Notify, NotifyMode, NotifyOn,
    OnCrash, Overlap, Platform, Prompt, RemoteGateway, RetryOn, Route, Schedule, ScheduleSet, ScheduleSpec,
    SharedBudget, TriggerOn, When,
};
pub use timing::{Interval, Timing};
