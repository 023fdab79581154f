//! What happened, counted once it is durable.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use prometheus::{
    CounterVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector,
    proto::MetricFamily,
};
use stakpak_agent_core::{CallEnd, Tools, session::Fact};
use stakpak_protocol::{LastErrorCode, StopReason, Usage, Usd};

use super::{http::HttpCounters, tokens::Tokens};

/// Models that get a label of their own: a provider may take any name that a client sends.
const MOST_MODELS: usize = 64;

/// Bounds of a run's length in seconds.
const RUN_SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0];

/// The counters.
pub(crate) struct Counters {
    registry: Registry,
    tools: Arc<dyn Tools>,
    models: Mutex<HashSet<String>>,
    runs_started: IntCounter,
    runs: IntCounterVec,
    run_errors: IntCounterVec,
    run_seconds: Histogram,
    turns: IntCounter,
    answers: IntCounterVec,
    retries: IntCounter,
    tokens: IntCounterVec,
    cost: CounterVec,
    calls: IntCounterVec,
    http: HttpCounters,
}

impl Counters {
    #[expect(clippy::expect_used, reason = "the names are constants, allowed and distinct")]
    pub(crate) fn new(tools: Arc<dyn Tools>) -> Self {
        Self::try_new(tools).expect("allowed names")
    }

    fn try_new(tools: Arc<dyn Tools>) -> prometheus::Result<Self> {
        let tokens =
            "Tokens of answers. The kinds do not overlap: input is what no cache held, output is without reasoning.";
        let seconds = "Time from the acceptance of a run to its end, waiting for people included.";
        let seconds = HistogramOpts::new("stakpak_run_duration_seconds", seconds).buckets(RUN_SECONDS.into());
        let cost = "Cost of answers in US dollars, where the price is known.";
        let registry = Registry::new();
        let counters = Self {
            runs_started: IntCounter::new("stakpak_runs_started_total", "Runs accepted.")?,
            runs: by("stakpak_runs_total", "Runs ended, by result.", &["result"])?,
            run_errors: by("stakpak_run_errors_total", "Runs ended by an error, by its code.", &["code"])?,
            run_seconds: Histogram::with_opts(seconds)?,
            turns: IntCounter::new("stakpak_turns_total", "Turns ended.")?,
            answers: by("stakpak_model_answers_total", "Answers of models.", &["model"])?,
            retries: IntCounter::new(
                "stakpak_model_retries_total",
                "Requests to models that failed and were repeated.",
            )?,
            tokens: by("stakpak_model_tokens_total", tokens, &["model", "kind"])?,
            cost: CounterVec::new(Opts::new("stakpak_model_cost_usd_total", cost), &["model"])?,
            calls: by("stakpak_tool_calls_total", "Tool calls ended, by tool and result.", &["tool", "result"])?,
            models: Mutex::default(),
            http: HttpCounters::register(&registry)?,
            registry,
            tools,
        };
        counters.register()?;
        for reason in [StopReason::Completed, StopReason::Cancelled, StopReason::MaxTurns, StopReason::Error] {
            counters.runs.with_label_values(&[result(reason)]);
        }
        Ok(counters)
    }

    fn register(&self) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 10] = [
            Box::new(self.runs_started.clone()),
            Box::new(self.runs.clone()),
            Box::new(self.run_errors.clone()),
            Box::new(self.run_seconds.clone()),
            Box::new(self.turns.clone()),
            Box::new(self.answers.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.tokens.clone()),
            Box::new(self.cost.clone()),
            Box::new(self.calls.clone()),
        ];
        all.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// A request was answered, which took so long.
    pub(crate) fn requested(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        self.http.observe(route, method, status, took);
    }

    pub(crate) fn observe(&self, fact: &Fact) {
        match fact {
            Fact::RunStarted => self.runs_started.inc(),
            Fact::RunEnded { stop_reason, error, seconds } => {
                self.runs.with_label_values(&[result(*stop_reason)]).inc();
                self.run_seconds.observe(*seconds);
                if let Some(code) = error {
                    self.run_errors.with_label_values(&[error_code(*code)]).inc();
                }
            }
            Fact::TurnEnded => self.turns.inc(),
            Fact::ModelAnswered { model, usage, cost } => self.answered(model, usage, *cost),
            Fact::ModelRetried => self.retries.inc(),
            Fact::CallEnded { tool, end, is_error } => {
                let known = self.tools.specs().iter().any(|spec| spec.name == *tool);
                let tool = if known { tool.as_str() } else { "unknown" };
                self.calls.with_label_values(&[tool, call_result(*end, *is_error)]).inc();
            }
        }
    }

    fn answered(&self, model: &str, usage: &Usage, cost: Option<Usd>) {
        let label = self.model_label(model);
        let tokens = Tokens::of(usage);
        self.answers.with_label_values(&[label]).inc();
        for (kind, count) in tokens.kinds() {
            self.tokens.with_label_values(&[label, kind]).inc_by(count);
        }
        if let Some(cost) = cost {
            self.cost.with_label_values(&[label]).inc_by(cost.dollars());
        }
    }

    fn model_label<'a>(&self, model: &'a str) -> &'a str {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if models.contains(model) {
            return model;
        }
        if models.len() >= MOST_MODELS {
            return "other";
        }
        models.insert(model.to_owned());
        model
    }
}

fn by(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn result(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Completed => "completed",
        StopReason::Cancelled => "cancelled",
        StopReason::MaxTurns => "max_turns",
        StopReason::Error => "error",
    }
}

fn error_code(code: LastErrorCode) -> &'static str {
    match code {
        LastErrorCode::ProviderError => "provider_error",
        LastErrorCode::ContextOverflow => "context_overflow",
        LastErrorCode::StorageUnavailable => "storage_unavailable",
        LastErrorCode::SandboxUnavailable => "sandbox_unavailable",
        LastErrorCode::Interrupted => "interrupted",
        LastErrorCode::DeadlineExceeded => "deadline_exceeded",
        LastErrorCode::BudgetExceeded => "budget_exceeded",
        LastErrorCode::InternalError => "internal_error",
    }
}

fn call_result(end: CallEnd, is_error: bool) -> &'static str {
    match end {
        CallEnd::Done if is_error => "error",
        CallEnd::Done => "ok",
        CallEnd::Invalid => "invalid",
        CallEnd::Rejected => "rejected",
        CallEnd::Answered => "answered",
        CallEnd::Skipped => "skipped",
        CallEnd::Cancelled => "cancelled",
        CallEnd::Unknown => "outcome_unknown",
    }
}
