//! `autopilot init`: from an empty home to a working set-up. It asks, or takes flags; it edits files, and never replaces one.
//!
//! Everything is asked and tried before anything is written, so that a set-up that is broken off leaves no trace.

mod chat;
mod config;
mod duties;
mod model;
mod ollama;
mod probe;
mod question;
mod report;

use anyhow::Result;

use crate::{
    args::{Global, InitArgs},
    autopilot_file::AutopilotFile,
    home::Home,
    offline,
    place::Place,
};

use self::{chat::Chat, duties::Duties, model::Answer, report::Report};

pub(crate) use probe::models;
pub(crate) use question::Asker;

pub(crate) async fn run(global: &Global, args: &InitArgs) -> Result<()> {
    let home = Home::open(global.home.clone(), global.config.clone())?;
    let autopilot = AutopilotFile::load(&home)?;
    let file = home.config_file()?;
    let asker = Asker::new(!(args.non_interactive || args.yes || global.json));
    asker.tell(
        "Enter takes what is in [brackets]. Nothing is written before the end; Ctrl-C leaves everything as it is.\n",
    );
    let kept = config::kept(&file, &global.profile)?;
    // Whoever was told that the offline model answers, and how to change that, is asked again.
    let kept = kept.filter(|model| !(asker.is_person() && model.as_deref().is_some_and(offline::is_offline)));
    let model = model::choose(args, asker, kept).await?;
    config::check(&home, &global.profile, &model)?;
    let place = Place::of_up(&home);
    let chat = Chat::choose(args, asker, global, &place).await?;
    let is_offline = matches!(model, Answer::Offline);
    let duties = Duties::choose(args, asker, &home, &autopilot, chat.as_ref(), is_offline)?;
    duties.check(&home, global)?;

    let mut report = Report::new(&home, is_offline);
    report.config_written = config::write(&home, &global.profile, &model)?;
    report.template_written = AutopilotFile::create(&home)?;
    report.fires = duties.write(&home, global)?;
    if let Some(chat) = &chat {
        chat.change.write(&place.file())?;
        report.owner_code = chat.owner_code().await?;
    }
    report.show(global, &model, chat.as_ref(), &duties)
}
