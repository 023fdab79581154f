//! What it takes to redact a text: of logs, of nothing but words that make rules look, with none to many known secrets. In this
//! process, on one thread; the start in a process of its own for each sample.

use std::{
    fmt::Write as _,
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use stakpak_redact::Redactor;

use crate::{
    instance::Setting,
    report::{Goal, Report},
    stats::{median, millis},
};

/// What redacting a text takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each text is redacted for one sample
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
}

const SMALL: usize = 64 * 1024;
const LARGE: usize = 1024 * 1024;
/// Values the redactor knows.
const KNOWN: [usize; 3] = [0, 100, 1_000];
/// The time is linear in the text: what the larger one takes, by the byte, beside the smaller one.
const LINEAR: f64 = 2.0;

pub(crate) fn measure(setting: &Setting, args: &Args, report: &mut Report) -> Result<()> {
    eprintln!("redaction: {} times each text", args.times);
    let (small, large) = (logs(SMALL), logs(LARGE));
    let (small_worst, large_worst) = (keywords(SMALL), keywords(LARGE));
    let redactors = KNOWN.iter().map(|count| Ok((*count, Redactor::new(secrets(*count))?)));
    let redactors: Vec<(usize, Redactor)> = redactors.collect::<Result<_>>()?;
    for _ in 0..setting.repeat {
        report.add("redaction: start", "ms", Goal::AtMost(20.0), start_in_own_process()?);
        for (known, redactor) in &redactors {
            let of = |text: &str| millis(median_time(redactor, text, args.times));
            let name = |text: &str| format!("redaction: {text}, {known} known");
            report.add(&name("64 KiB of logs"), "ms", Goal::AtMost(1.0), of(&small));
            report.add(&name("1 MiB of logs"), "ms", Goal::AtMost(15.0), of(&large));
            let (small, large) = (of(&small_worst), of(&large_worst));
            report.add(&name("64 KiB of keywords"), "ms", Goal::None, small);
            let growth = large / small / (LARGE / SMALL) as f64;
            report.add(&name("a byte of 1 MiB of them / 64 KiB"), "", Goal::AtMost(LINEAR), growth);
        }
    }
    Ok(())
}

/// A new process: an engine with a few known secrets, and the first text it redacts. Milliseconds on stdout.
pub(crate) fn start() -> Result<()> {
    let (text, known) = (logs(SMALL), secrets(10));
    let begun = Instant::now();
    black_box(Redactor::new(known)?.redact(black_box(&text)));
    println!("{}", millis(begun.elapsed()));
    Ok(())
}

fn start_in_own_process() -> Result<f64> {
    let output = Command::new(std::env::current_exe()?).arg("redaction-start").output()?;
    ensure!(output.status.success(), "the start cannot be measured: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("the start is told in milliseconds")
}

fn median_time(redactor: &Redactor, text: &str, times: u32) -> Duration {
    // The first one compiles what it needs.
    black_box(redactor.redact(black_box(text)));
    let samples: Vec<f64> = (0..times)
        .map(|_| {
            let begun = Instant::now();
            black_box(redactor.redact(black_box(text)));
            begun.elapsed().as_secs_f64()
        })
        .collect();
    Duration::from_secs_f64(median(&samples))
}

/// Values as processes are given them: 40 characters without a pattern.
fn secrets(count: usize) -> Vec<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut numbers = Numbers(count as u64 + 1);
    (0..count).map(|_| (0..40).map(|_| char::from(ALPHABET[numbers.below(ALPHABET.len())])).collect()).collect()
}

/// Lines of web servers, clusters and applications, with a secret now and then.
fn logs(length: usize) -> String {
    let (mut text, mut numbers) = (String::with_capacity(length + 256), Numbers(7));
    while text.len() < length {
        let (a, b, hex) = (numbers.below(60), numbers.below(100_000), numbers.next());
        // Writing to a string does not fail.
        let _ = match numbers.below(40) {
            0 => writeln!(text, "2026-03-01T12:{a:02}:07Z WARN login failed password=c0rrect-h0rse%{hex:x} user={b}"),
            1..10 => writeln!(
                text,
                "10.0.{a}.7 - - [01/Mar/2026:12:{a:02}:07 +0000] \"GET /api/v1/items/{b}?page={a} HTTP/1.1\" 200 {b} \"https://example.com/list\" \"Mozilla/5.0 (X11; Linux x86_64)\""
            ),
            10..20 => writeln!(
                text,
                "2026-03-01T12:{a:02}:07.{b:06}Z INFO request{{id={hex:016x} method=GET path=/v1/sessions}}: finished in {a}.{a:02} ms, status 200"
            ),
            20..30 => writeln!(
                text,
                "{{\"level\":\"info\",\"ts\":\"2026-03-01T12:{a:02}:07Z\",\"msg\":\"reconciled\",\"namespace\":\"team-{a}\",\"pod\":\"api-{hex:x}\",\"tokens\":{b}}}"
            ),
            30..35 => writeln!(
                text,
                "kernel: [{b:>6}.{a:06}] eth0: link up, 1000 Mbps, full duplex, commit {hex:016x}{hex:016x}"
            ),
            _ => writeln!(text, "    at com.example.service.Handler.handle(Handler.java:{a}) ~[service-1.{a}.jar:na]"),
        };
    }
    text.truncate(length);
    text
}

/// Nothing but words at which rules look, and what nearly follows them.
fn keywords(length: usize) -> String {
    const WORDS: [&str; 24] = [
        "password=",
        "secret: ",
        "token ",
        "api_key=${X} ",
        "credential",
        "access-key ",
        "Bearer x ",
        "basic ",
        "curl -u ",
        "mysql -p",
        "https://",
        "a:b@",
        "sk-",
        "ghp_",
        "AKIA",
        "eyJ",
        "xoxb-",
        "SG.",
        "12345678:",
        "key-",
        "twilio ",
        "sig=",
        "PRIVATE KEY ",
        "\n",
    ];
    let (mut text, mut numbers) = (String::with_capacity(length + 16), Numbers(3));
    while text.len() < length {
        text.push_str(WORDS[numbers.below(WORDS.len())]);
    }
    text.truncate(length);
    text
}

/// The same numbers each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }
}
