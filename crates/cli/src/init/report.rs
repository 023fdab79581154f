//! What was set up, and what to type next.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    chat::Chat,
    duties::{Duties, Fires},
    model::{Answer, Key},
};
use crate::{args::Global, home::Home, instance::Facts, offline, schedule};

pub(super) struct Report<'a> {
    home: &'a Home,
    is_offline: bool,
    /// Whether the profile's table was changed.
    pub(super) config_written: bool,
    /// Whether there was no `autopilot.toml`.
    pub(super) template_written: bool,
    pub(super) fires: Option<Fires>,
    pub(super) owner_code: Option<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(home: &'a Home, is_offline: bool) -> Self {
        Self { home, is_offline, config_written: false, template_written: false, fires: None, owner_code: None }
    }

    pub(super) fn show(&self, global: &Global, model: &Answer, chat: Option<&Chat>, duties: &Duties) -> Result<()> {
        let next = self.next(model, chat, duties)?;
        if global.json {
            say!("{:#}", self.json(global, model, chat, duties, &next));
            return Ok(());
        }
        say!("{}", model_line(model));
        if self.is_offline {
            offline::NOTICE.iter().for_each(|line| say!("           {line}"));
        }
        if let Some(chat) = chat {
            let identity = chat.identity.as_ref().map_or("not tested", |result| result.identity.as_str());
            say!("channel    {}, {identity}", chat.change.channel);
            if let Some(target) = &chat.target {
                say!("reports    go to {} {target}", chat.change.channel);
            }
        }
        if let Some(schedule) = &duties.schedule {
            let next = self.fires.as_ref().map(|fires| schedule::local(fires.next, fires.zone));
            say!("schedule   {}, next {}", schedule.name, next.unwrap_or_else(|| "never".to_owned()));
        }
        let files = [self.home.config_toml().to_owned(), self.home.autopilot_toml()];
        let files = files.iter().filter(|file| file.exists()).map(|file| Home::show(file));
        say!("files      {}", files.collect::<Vec<_>>().join(", "));
        say!("\nNext:");
        next.iter().for_each(|(command, why)| say!("  {command:<68} # {why}"));
        if let Some(code) = &self.owner_code {
            say!(
                "\nNobody may talk to the bot yet. Start stakpak, send the bot this within ten minutes, and you are its admin:"
            );
            say!("\n  /pair {code}");
        }
        Ok(())
    }

    /// Commands that work when pasted, with what they do.
    fn next(&self, model: &Answer, chat: Option<&Chat>, duties: &Duties) -> Result<Vec<(String, &'static str)>> {
        let mut next = Vec::new();
        let has_variable = matches!(model, Answer::Provider(provider) if matches!(provider.key, Key::Variable(_)))
            || chat.is_some_and(Chat::needs_variables);
        let runs = Facts::of_running(self.home)?.is_some();
        let start = match (runs, has_variable) {
            (true, _) => self.config_written.then_some(("stakpak restart", "the running instance takes the model up")),
            (false, true) => Some(("stakpak up -d --import-env", "starts it, with the keys of this shell")),
            (false, false) => Some(("stakpak up -d", "starts it in the background")),
        };
        next.extend(start.map(|(command, why)| (command.to_owned(), why)));
        next.push(("stakpak run \"how full are my disks?\"".to_owned(), "gives it something to do"));
        if let Some(schedule) = &duties.schedule {
            let name = shlex::try_quote(&schedule.name).unwrap_or_default();
            next.push((format!("stakpak schedule trigger {name} --wait"), "runs the schedule now"));
        } else if !duties.has_schedules {
            next.push(("stakpak schedule add morning --cron '0 8 * * *' --prompt status".to_owned(), "every morning"));
        }
        if chat.is_none() {
            next.push(("stakpak channel add telegram".to_owned(), "talks to it from Telegram; also slack, discord"));
        }
        Ok(next)
    }

    fn json(
        &self,
        global: &Global,
        model: &Answer,
        chat: Option<&Chat>,
        duties: &Duties,
        next: &[(String, &'static str)],
    ) -> Value {
        let channel = chat.map(|chat| {
            json!({ "channel": chat.change.channel, "target": chat.target, "owner_code": self.owner_code,
                "identity": chat.identity.as_ref().map(|result| &result.identity) })
        });
        let schedule = duties.schedule.as_ref();
        json!({
            "command": "autopilot.init", "ok": true, "profile": global.profile,
            "files": { "config": self.home.config_toml(), "autopilot": self.home.autopilot_toml() },
            "created": self.template_written, "config_changed": self.config_written,
            "model": model_json(model), "channel": channel,
            "schedule": schedule.map(|schedule| json!({ "name": schedule.name, "next_fire": self.fires.as_ref().map(|fires| fires.next) })),
            "next": next.iter().map(|(command, _)| command).collect::<Vec<_>>(),
        })
    }
}

fn model_line(model: &Answer) -> String {
    match model {
        Answer::Offline => format!("model      {}", offline::MODEL),
        Answer::Kept(Some(model)) => format!("model      {model}, as before"),
        Answer::Kept(None) => "model      that of the provider, as before".to_owned(),
        Answer::Model(model) => format!("model      {model}"),
        Answer::Provider(provider) => {
            let key = match &provider.key {
                Key::None => String::new(),
                Key::Variable(name) => format!(", key in {name}"),
                Key::Literal(_) => ", key in config.toml".to_owned(),
            };
            let tested = if provider.tested { "" } else { ", not tested" };
            format!("model      {}{key}{tested}", provider.full_model())
        }
    }
}

fn model_json(model: &Answer) -> Value {
    match model {
        Answer::Offline => json!({ "id": offline::MODEL, "offline": true, "kept": false }),
        Answer::Kept(model) => {
            let is_offline = model.as_deref().is_some_and(offline::is_offline);
            json!({ "id": model, "offline": is_offline, "kept": true })
        }
        Answer::Model(model) => json!({ "id": model, "offline": offline::is_offline(model), "kept": false }),
        Answer::Provider(provider) => {
            let variable = if let Key::Variable(name) = &provider.key { Some(name) } else { None };
            json!({ "id": provider.full_model(), "offline": false, "kept": false, "key_variable": variable,
                "tested": provider.tested })
        }
    }
}
