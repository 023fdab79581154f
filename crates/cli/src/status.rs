//! `stakpak status`: what is running and how it goes, with which model, channels and schedules.

use anyhow::Result;
use chrono::Utc;
use serde_json::{Value, json};
use stakpak_agent_core::{Policy, Profiles};
use stakpak_config::ConfigFile;
use stakpak_protocol::Approval;
use stakpak_scheduler::{HistoryFilter, Ledger, OutboxCounts, SpentToday, list};

use crate::{
    agent_server::client,
    args::{Backend, Global, StatusArgs},
    autopilot_file::AutopilotFile,
    channel,
    exit::Failure,
    health::Health,
    home::Home,
    instance::Facts,
    offline,
    profiles::ConfigProfiles,
    running::RunningGateway,
    schedule::{schedule_json, schedule_table},
    service::{self, Service},
};

pub(crate) async fn run(global: &Global, args: &StatusArgs) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let facts = Facts::of_running(&home)?;
    let file = AutopilotFile::load(&home)?;
    let token = file.token(&home)?;
    let model = match &facts {
        Some(facts) => client(&facts.url, Some(&token)).config().await.ok().and_then(|config| config.default_model),
        None => None,
    };
    let health = match &facts {
        Some(facts) => Health::of(&client(&facts.url, Some(&token))).await,
        None => Health::Gone,
    };
    let verdict = if args.check && !health.is_good() { Err(Failure::Silent.into()) } else { Ok(()) };
    let ledger = Ledger::open(&home.autopilot("autopilot.db"))?;
    let schedules = list(&file.schedules, &ledger, Utc::now()).await?;
    let runs = ledger.history(HistoryFilter::default(), 5).await?;
    let outbox = ledger.outbox(Utc::now()).await?;
    let desk = channel::Desk::of_up(&home, global.json);
    let channels = channel::overview(&desk, RunningGateway::find(&home)?.as_ref()).await?;
    let spent = ledger.spent_today(&file.schedules.budget, Utc::now()).await?;
    let status = Status { global, home: &home, facts, health, model, file, outbox, spent };
    if global.json {
        let schedules: Vec<Value> = schedules.iter().map(schedule_json).collect();
        say!("{:#}", status.json(&schedules, &json!(runs), &channels));
        return verdict;
    }
    status.print();
    say!("channels   {}", channel::one_line(&channels));
    if let Some(line) = status.undelivered() {
        say!("notify     {line}");
    }
    if let Some(line) = status.spending() {
        say!("budget     {line}");
    }
    if schedules.is_empty() {
        say!("schedules  none");
    } else {
        say!("\n{}", schedule_table(&schedules));
    }
    for error in status.file.schedules.errors() {
        say!("{error}");
    }
    verdict
}

struct Status<'a> {
    global: &'a Global,
    home: &'a Home,
    facts: Option<Facts>,
    health: Health,
    model: Option<String>,
    file: AutopilotFile,
    outbox: OutboxCounts,
    spent: SpentToday,
}

impl Status<'_> {
    fn print(&self) {
        match &self.facts {
            Some(facts) if self.health.is_reachable() => {
                say!(
                    "server     running: process {}, {}, since {}",
                    facts.pid,
                    facts.url,
                    facts.started_at.format("%Y-%m-%d %H:%M:%S UTC")
                );
            }
            Some(facts) => say!("server     process {} is there but does not answer on {}", facts.pid, facts.url),
            None => say!("server     not running; start it with: stakpak up"),
        }
        for line in self.health.lines(&self.home.logs()) {
            say!("health     {line}");
        }
        if let Some(line) = service::line(self.home) {
            say!("service    {line}");
        }
        say!("profile    {}", self.global.profile);
        if let Some(model) = &self.model {
            say!("model      {model}");
            if offline::is_offline(model) {
                for line in offline::NOTICE {
                    say!("           {line}");
                }
            }
        }
    }

    /// Notifications of runs that did not arrive.
    fn undelivered(&self) -> Option<String> {
        let OutboxCounts { pending, failed } = self.outbox;
        let failed =
            (failed > 0).then(|| format!("{failed} given up within a day; why: stakpak schedule history --all"));
        let pending = (pending > 0).then(|| format!("{pending} to be delivered"));
        let lines: Vec<_> = [pending, failed].into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    fn budget(&self) -> Value {
        let SpentToday { usd, unpriced_tokens, tokens, runs, limits } = self.spent;
        json!({
            "spent_usd_today": usd, "unpriced_tokens_today": unpriced_tokens, "spent_tokens_today": tokens,
            "runs_today": runs,
            "limits": { "usd_per_day": limits.usd_per_day, "tokens_per_day": limits.tokens_per_day, "runs_per_day": limits.runs_per_day },
        })
    }

    /// What today took, beside a limit.
    fn spending(&self) -> Option<String> {
        let SpentToday { usd, tokens, runs, limits, .. } = self.spent;
        let usd = limits.usd_per_day.map(|limit| format!("{usd} of {limit} USD today"));
        let tokens = limits.tokens_per_day.map(|limit| format!("{tokens} of {limit} tokens today"));
        let runs = limits.runs_per_day.map(|limit| format!("{runs} of {limit} runs today"));
        let parts: Vec<_> = [usd, tokens, runs].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Those that the boot profile lets run without a question; its commands and rules aside.
    fn allowed_tools(&self) -> usize {
        let profile = ConfigFile::load(self.home.config_toml()).ok();
        let profiles = profile.and_then(|file| ConfigProfiles::new(file, &self.global.profile, None, false).ok());
        match profiles.and_then(|profiles| profiles.profile(None).ok()).map(|profile| profile.policy.clone()) {
            Some(Policy::Custom { rules, .. }) => rules.values().filter(|rule| **rule == Approval::Auto).count(),
            Some(Policy::All) => stakpak_tools::NAMES.len(),
            Some(Policy::None) | None => 0,
        }
    }

    /// With the place of each that notifications go to.
    fn channels(&self, channels: &[channel::Overview]) -> Value {
        let route = self.file.schedules.notifications.route.as_ref();
        let mut list = json!(channels);
        for channel in list.as_array_mut().into_iter().flatten() {
            let told = route.filter(|route| channel["name"] == route.channel.as_str());
            let target = told.and_then(|route| Some(route.to_string().split_once(':')?.1.to_owned()));
            channel["target"] = json!(target.unwrap_or_else(|| "-".to_owned()));
            channel["alerts_only"] = json!(false);
        }
        list
    }

    fn mode(&self) -> &'static str {
        match &self.facts {
            Some(facts) => facts.service.map_or("foreground", Backend::name),
            None => "stopped",
        }
    }

    fn service(&self) -> Value {
        let service = Service::installed(self.home);
        let path = service.as_ref().and_then(|service| service.definition().ok().flatten());
        let active = self.facts.as_ref().is_some_and(|facts| facts.service.is_some());
        json!({ "installed": service.is_some(), "active": active, "path": path })
    }

    fn json(&self, schedules: &[Value], runs: &Value, channels: &[channel::Overview]) -> Value {
        let model = self.model.as_ref();
        let url = self.facts.as_ref().map(|facts| &facts.url);
        let sandbox_mode = self.file.server.sandbox_mode.as_deref().unwrap_or("persistent");
        let scheduler_runs = self.health.scheduler_runs();
        json!({
            "command": "autopilot.status",
            "ok": true,
            "healthy": self.health.is_good(),
            "checks": self.health.checks(),
            "profile": self.global.profile,
            "config_path": self.home.autopilot_toml(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": self.facts.as_ref().map(|facts| facts.pid),
            "mode": self.mode(),
            "service": self.service(),
            "model": { "id": model, "offline": model.is_some_and(|model| offline::is_offline(model)) },
            "server_config": {
                "listen": self.file.server.listen, "model": self.file.server.model,
                "auto_approve_all": self.file.server.auto_approve_all, "no_auth": false, "sandbox_mode": sandbox_mode,
                "show_token": false,
            },
            "server_allowed_tool_count": self.allowed_tools(),
            "sandbox": {
                "consecutive_failures": null, "consecutive_ok": null, "healthy": null, "last_error": null,
                "last_ok": null, "mode": sandbox_mode,
            },
            "gateway": {
                "expected_enabled": !channels.is_empty(), "reachable": self.health.channels_run(), "url": url,
            },
            "server": { "expected_enabled": true, "reachable": self.health.is_reachable(), "url": url },
            "scheduler": {
                "expected_enabled": true, "config_path": self.home.autopilot_toml(), "config_valid": true,
                "trigger_count": schedules.len(), "running": scheduler_runs, "db_path": self.home.autopilot("autopilot.db"),
                "error": null, "pid": self.facts.as_ref().filter(|_| scheduler_runs).map(|facts| facts.pid),
                "recent_runs": runs, "stale_pid": false,
            },
            "schedules": schedules,
            "channels": self.channels(channels),
            "outbox": self.outbox,
            "budget": self.budget(),
            "config_errors": self.file.schedules.errors().collect::<Vec<_>>(),
        })
    }
}
