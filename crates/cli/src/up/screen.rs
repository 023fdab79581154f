//! What `up` shows: where it is, what answers, what is connected; then a line that is kept current.

use std::{io::IsTerminal, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use stakpak_agent_core::Profile;
use stakpak_config::Finding;
use stakpak_protocol::AutoApproveMode;
use stakpak_scheduler::{Handle, ScheduleOverview, ScheduleState};
use stakpak_server::Server;

use super::gateway::{Mount, NO_CHANNELS};
use crate::{home::Home, offline, output, schedule};

/// How often the live line is drawn again.
const REDRAW: Duration = Duration::from_secs(1);

/// More schedules than this are only counted.
const MOST_SHOWN: usize = 50;

pub(super) struct Screen<'a> {
    pub(super) home: &'a Home,
    pub(super) url: String,
    /// Where the bearer token is.
    pub(super) token: String,
    pub(super) profile: Arc<Profile>,
    pub(super) scheduler: Handle,
    pub(super) gateway: Mount,
    pub(super) json: bool,
}

impl Screen<'_> {
    pub(super) async fn ready(&self, took: Duration, created: bool, findings: &[Finding]) {
        for finding in findings {
            eprintln!("{finding}");
        }
        let model = self.profile.models.default_model().unwrap_or_default();
        if self.json {
            let ready = json!({ "event": "ready", "url": self.url, "pid": std::process::id(), "model": model,
                "offline_model": offline::is_offline(&model), "ready_ms": took.as_millis() });
            output::line(&ready.to_string());
            return;
        }
        output::line(&format!(
            "stakpak {} is ready on {} ({} ms)",
            env!("CARGO_PKG_VERSION"),
            self.url,
            took.as_millis()
        ));
        if output::is_quiet() {
            return;
        }
        if created {
            row("written", &format!("{} from the template", Home::show(&self.home.autopilot_toml())));
        }
        row("token", &self.token);
        row("model", &model);
        if offline::is_offline(&model) {
            for line in offline::NOTICE {
                row("", line);
            }
        }
        row("tools", self.grant());
        let channels = self.gateway.states();
        let hint =
            if channels == NO_CHANNELS { "; add one: stakpak channel add telegram --allow-user <your id>" } else { "" };
        row("channels", &format!("{channels}{hint}"));
        for (index, line) in self.schedules().await.iter().enumerate() {
            row(if index == 0 { "schedules" } else { "" }, line);
        }
        row("logs", &Home::show(Path::new(&self.home.logs())));
        output::line("Ctrl-C stops it and loses nothing. In another terminal: stakpak run \"how full are my disks?\"");
    }

    fn grant(&self) -> &'static str {
        match self.profile.policy.mode() {
            AutoApproveMode::All => "everything runs without a question",
            AutoApproveMode::None => "every call asks",
            AutoApproveMode::Custom => "what only looks runs without a question, the rest asks",
        }
    }

    async fn schedules(&self) -> Vec<String> {
        let count = self.scheduler.schedules().schedules.len();
        if count > MOST_SHOWN {
            return vec![format!("{count}; stakpak schedule list shows them")];
        }
        let Ok(schedules) = self.scheduler.list().await else {
            return vec!["the ledger cannot be read; see the log".to_owned()];
        };
        if schedules.is_empty() {
            return vec!["none; add one: stakpak schedule add morning --cron '0 8 * * *' --prompt status".to_owned()];
        }
        schedules.iter().map(describe).collect()
    }

    /// Keeps one line current on a terminal until `stop`.
    pub(super) async fn live(&self, server: &Server, stop: impl Future<Output = ()>) {
        let mut tick = tokio::time::interval(REDRAW);
        let on_terminal = std::io::stdout().is_terminal() && !self.json && !output::is_quiet();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick(), if on_terminal => {
                    output::piece(&format!("\r\x1b[2K{}", self.line(server)));
                }
            }
        }
        if on_terminal {
            output::line("");
        }
    }

    fn line(&self, server: &Server) -> String {
        let runs = server.live_sessions();
        let next = self.scheduler.next_instant();
        let next = next.map_or_else(String::new, |next| format!(" · next schedule {}", next.format("%H:%M:%S UTC")));
        format!("{runs} active run{} · {}{next}", if runs == 1 { "" } else { "s" }, self.gateway.states())
    }

    pub(super) fn note(&self, text: &str) {
        if self.json {
            output::line(&json!({ "event": "note", "text": text }).to_string());
        } else if !output::is_quiet() {
            output::line(text);
        }
    }
}

fn describe(schedule: &ScheduleOverview) -> String {
    let name = &schedule.name;
    match (&schedule.spec, schedule.state) {
        (Some(spec), ScheduleState::Active) => {
            let next =
                schedule.next_run_at.map_or_else(|| "never".to_owned(), |next| schedule::local(next, spec.timezone));
            format!("{name}  {}  next {next}", spec.when)
        }
        (_, ScheduleState::Disabled) => format!("{name}  disabled"),
        (_, ScheduleState::Paused) => format!("{name}  paused; stakpak schedule resume {name}"),
        (Some(spec), ScheduleState::Done) => format!("{name}  {}  done", spec.when),
        _ => {
            let error = schedule.errors.first().map_or_else(String::new, |error| format!(": {}", error.message));
            format!("{name}  invalid{error}")
        }
    }
}

fn row(name: &str, text: &str) {
    output::line(&format!("  {name:<10} {text}"));
}
