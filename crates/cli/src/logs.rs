//! `stakpak logs`: the log files of all parts, in the order of time. Works while nothing runs.

mod entry;
mod files;
mod tail;

use std::{collections::VecDeque, io, time::Duration};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    args::{Component, LogsArgs},
    home::Home,
    output,
};
use entry::{Entry, Wanted};
use files::Reader;
use tail::Tail;

/// How often the files are looked at for more.
const INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(home: &Home, json: bool, args: &LogsArgs) -> Result<()> {
    let parts: Vec<Component> = args.component.map_or_else(|| Component::ALL.to_vec(), |part| vec![part]);
    let wanted = Wanted::new(args);
    // Taken before anything is read: what comes meanwhile is shown once.
    let mut tails: Vec<Tail> = parts.iter().map(|part| Tail::at_end(home, *part)).collect::<io::Result<_>>()?;
    let newest = newest(home, &parts, &wanted, args.lines).context("the log cannot be read")?;
    let shown = Shown { json, several: parts.len() > 1, colour: colour(json) };
    if json && !args.follow {
        let lines: Vec<_> = newest.iter().map(Entry::json).collect();
        output::line(&json!({ "command": "autopilot.logs", "ok": true, "lines": lines }).to_string());
        return Ok(());
    }
    newest.iter().for_each(|entry| shown.print(entry));
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let mut more = Vec::new();
        for tail in &mut tails {
            more.extend(tail.more().context("the log cannot be read")?);
        }
        more.sort_by_key(|entry| entry.time);
        more.iter().filter(|entry| wanted.has(entry)).for_each(|entry| shown.print(entry));
    }
}

/// The last entries of all parts; only those are held.
fn newest(home: &Home, parts: &[Component], wanted: &Wanted, most: usize) -> io::Result<VecDeque<Entry>> {
    let mut readers: Vec<_> = Vec::new();
    for part in parts {
        readers.push(Reader::open(home, *part)?.peekable());
    }
    let mut newest = VecDeque::new();
    loop {
        let times = readers.iter_mut().enumerate().filter_map(|(at, reader)| Some((reader.peek()?.time, at)));
        let Some((_, next)) = times.min() else { return Ok(newest) };
        let Some(entry) = readers[next].next() else { continue };
        if most > 0 && wanted.has(&entry) {
            if newest.len() == most {
                newest.pop_front();
            }
            newest.push_back(entry);
        }
    }
}

fn colour(json: bool) -> bool {
    !json && output::is_coloured(&io::stdout())
}

/// How an entry is printed.
struct Shown {
    json: bool,
    several: bool,
    colour: bool,
}

impl Shown {
    fn print(&self, entry: &Entry) {
        if self.json {
            return output::line(&entry.json().to_string());
        }
        let part = if self.several { format!("{:<10}", entry.part.name()) } else { String::new() };
        match entry.colour().filter(|_| self.colour) {
            Some(colour) => output::line(&format!("\x1b[2m{part}\x1b[0m{colour}{}\x1b[0m", entry.text)),
            None => output::line(&format!("{part}{}", entry.text)),
        }
    }
}
