//! `stakpak status`: what is running and how it goes, with which model, channels and schedules.

use anyhow::Result;
use chrono::Utc;
use serde_json::{Value, json};
use stakpak_agent_core::{Policy, Profiles};
use stakpak_config::{ConfigFile, Finding, LoadError, Severity};
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
    let (file, broken) = AutopilotFile::load_readable(&home)?;
    let token = file.token(&home)?;
    let model = match &facts {
        Some(facts) => client(&facts.url, Some(&token)).config().await.ok().and_then(|config| config.default_model),
        None => None,
    };
    let health = match &facts {
        Some(facts) => Health::of(&client(&facts.url, Some(&token))).await,
        None => Health::Gone,
    };
    let parses = home.config_file().is_ok() && broken.is_empty();
    let verdict = if !parses || (args.check && !health.is_good()) { Err(Failure::Silent.into()) } else { Ok(()) };
    let ledger = Ledger::open(&home.ledger())?;
    let schedules = list(&file.schedules, &ledger, Utc::now()).await?;
    let runs = ledger.history(HistoryFilter::default(), 5).await?;
    let outbox = ledger.outbox(Utc::now()).await?;
    let desk = channel::Desk::of_up(&home, global.json);
    let running = match (RunningGateway::find(&home), &facts) {
        (Ok(running), _) => running,
        // Its file cannot be read: the token is the one that is used here.
        (Err(_), Some(facts)) => Some(RunningGateway::new(facts.url.clone(), &token)?),
        (Err(_), None) => None,
    };
    let channels = channel::overview(&desk, running.as_ref()).await;
    let spent = ledger.spent_today(&file.schedules.budget, Utc::now()).await?;
    let channels = match channels {
        Ok(channels) => channels,
        Err(error) if broken.is_empty() => return Err(error),
        Err(_) => Vec::new(),
    };
    let status = Status { global, home: &home, facts, health, model, file, broken, outbox, spent };
    if global.json {
        let schedules: Vec<Value> = schedules.iter().map(schedule_json).collect();
        say!("{:#}", status.json(&schedules, &json!(runs), &channels));
        return verdict;
    }
    status.print();
    if let Some(line) = status.unread() {
        say!("files      {line}");
    }
    match channels.as_slice() {
        [] => say!("channels   {}", status.none()),
        channels => say!("channels   {}", channel::one_line(channels)),
    }
    if let Some(line) = status.undelivered() {
        say!("notify     {line}");
    }
    if let Some(line) = status.spending() {
        say!("budget     {line}");
    }
    if schedules.is_empty() {
        say!("schedules  {}", status.none());
    } else {
        say!("\n{}", schedule_table(&schedules));
    }
    for error in status.config_errors() {
        say!("{error}");
    }
    if let Some(facts) = status.facts.as_ref().filter(|facts| !facts.restart_required.is_empty()) {
        say!("restart stakpak for what has changed to take effect: {}", facts.restart_required.join(", "));
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
    /// What keeps parts of `autopilot.toml` from being read.
    broken: Vec<Finding>,
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
        if let Some(name) = self.machine_name() {
            say!("machine    {name}");
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

    /// What an empty list means: of a file that cannot be read, what runs may have read more before.
    fn none(&self) -> &'static str {
        if self.broken.is_empty() { "none" } else { "not known" }
    }

    /// What it means that a file cannot be read.
    fn unread(&self) -> Option<String> {
        let is_unread =
            [("config.toml", self.home.config_file().is_err()), ("autopilot.toml", !self.broken.is_empty())];
        let names: Vec<_> = is_unread.into_iter().filter(|(_, is_unread)| *is_unread).map(|(name, _)| name).collect();
        let meaning = match self.facts {
            Some(_) => "what runs goes on with what it read before",
            None => "nothing starts before it is put right",
        };
        (!names.is_empty()).then(|| format!("{} cannot be read, {meaning}; see the end", names.join(" and ")))
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

    /// What of the files cannot be used; of a file that cannot be read as a whole, that.
    fn config_errors(&self) -> Vec<Finding> {
        let config = self.home.config_file();
        let unread = match &config {
            Err(LoadError::Syntax(finding)) => Some(finding.clone()),
            _ => None,
        };
        let of_config =
            config.iter().flat_map(ConfigFile::findings).filter(|it| it.severity == Severity::Error).cloned();
        let of_autopilot: Vec<_> = match self.broken.is_empty() {
            true => self.file.schedules.errors().cloned().collect(),
            false => self.broken.clone(),
        };
        of_config.chain(unread).chain(of_autopilot).collect()
    }

    fn machine_name(&self) -> Option<String> {
        self.home.config_file().ok()?.machine_name().map(str::to_owned)
    }

    /// Those that the boot profile lets run without a question; its commands and rules aside.
    fn allowed_tools(&self) -> usize {
        let profile = self.home.config_file().ok();
        let profiles = profile.and_then(|file| ConfigProfiles::new(file, &self.global.profile, None, false).ok());
        match profiles.and_then(|profiles| profiles.profile(None).ok()).map(|profile| profile.policy.clone()) {
            Some(Policy::Custom { rules, .. }) => rules.values().filter(|rule| **rule == Approval::Auto).count(),
            Some(Policy::All) => stakpak_tools::NAMES.len(),
            Some(Policy::None | Policy::Both { .. }) | None => 0,
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
        let sandbox_mode = self.file.server.sandbox_mode;
        let scheduler_runs = self.health.scheduler_runs();
        let unread = self.broken.first().map(ToString::to_string);
        let error = unread.or_else(|| self.health.trouble_of_scheduler().map(Into::into));
        json!({
            "command": "autopilot.status",
            "ok": self.home.config_file().is_ok() && self.broken.is_empty(),
            "healthy": self.health.is_good(),
            "checks": self.health.checks(),
            "machine_name": self.machine_name(),
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
                "expected_enabled": true, "config_path": self.home.autopilot_toml(), "config_valid": self.broken.is_empty(),
                "trigger_count": schedules.len(), "running": scheduler_runs, "db_path": self.home.ledger(),
                "error": error, "pid": self.facts.as_ref().filter(|_| scheduler_runs).map(|facts| facts.pid),
                "recent_runs": runs, "stale_pid": false,
            },
            "schedules": schedules,
            "channels": self.channels(channels),
            "outbox": self.outbox,
            "budget": self.budget(),
            "config_errors": self.config_errors(),
            "restart_required": self.facts.as_ref().map_or(&[][..], |facts| &facts.restart_required),
        })
    }
}
