//! For cross-checks with other programs: reads lines `expression<TAB>zone<TAB>unix seconds`, writes the next three fires of each as
//! Unix seconds, or what is wrong with it.
#![allow(missing_docs)]

use std::io::{self, BufRead, Write};

use chrono::DateTime;
use stakpak_scheduler::Cron;

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = next_three(&line).unwrap_or_else(|error| format!("error: {error}"));
        writeln!(out, "{answer}")?;
    }
    out.flush()
}

fn next_three(line: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut parts = line.split('\t');
    let (expression, zone, start) = match (parts.next(), parts.next(), parts.next()) {
        (Some(expression), Some(zone), Some(start)) => (expression, zone, start),
        _ => return Err("three columns are expected".into()),
    };
    let cron = Cron::parse(expression, zone.parse()?)?;
    let start = DateTime::from_timestamp(start.parse()?, 0).ok_or("no such time")?;
    let fires = std::iter::successors(cron.next_after(start), |fire| cron.next_after(*fire)).take(3);
    Ok(fires.map(|fire| fire.timestamp().to_string()).collect::<Vec<_>>().join(" "))
}
