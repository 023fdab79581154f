//! The guarantees, held against a history. Pure: what it says depends on the history alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use crate::history::{Asked, Conversation, History, Platform, Said, Shown, Taken, Verdict, Wish, wish};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// Index of the conversation.
    pub conversation: usize,
    /// Which, for people.
    pub what: String,
}

/// A guarantee that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Lost,
    NeverTaken,
    RunTwice,
    ReplyRepeated,
    OrderBroken,
    SessionBroken,
    Undecided,
    DecidedWrongly,
    Unexpected,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::NeverTaken,
        Self::RunTwice,
        Self::ReplyRepeated,
        Self::OrderBroken,
        Self::SessionBroken,
        Self::Undecided,
        Self::DecidedWrongly,
        Self::Unexpected,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "accepted messages without an answer",
            Self::NeverTaken => "messages never taken",
            Self::RunTwice => "messages run twice",
            Self::ReplyRepeated => "answers repeated",
            Self::OrderBroken => "answers out of order",
            Self::SessionBroken => "sessions mixed, forgotten or changed",
            Self::Undecided => "approvals lost",
            Self::DecidedWrongly => "approvals decided twice or not as they say",
            Self::Unexpected => "messages that nobody asked for",
        })
    }
}

/// What is wrong, and what is allowed and counted.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Second copies on Telegram around a crash or a lost answer.
    pub copies: usize,
    /// Copies within the life of one process; each needs a lost answer.
    copies_without_crash: usize,
    /// First copies that Telegram was left with: the process died, or the answer was lost, before it stored what it had to
    /// fill.
    pub unfinished: usize,
    /// Pairs that were answered in another order than written because the first was delivered after the second was said.
    pub overtaken: usize,
    /// Requests that the model got again after a kill.
    pub asked_again: usize,
    /// Runs that were killed so often that they were given up, and the chat was told.
    pub given_up: usize,
    /// Answers of which it stayed unknown whether they had arrived, after ten attempts; their people were offered them again.
    pub parked: usize,
    /// Approvals that were decided.
    pub decided: usize,
    /// Allowed commands that a kill met while they ran; whether they did anything is not known to the model.
    pub unknown: usize,
}

/// A run is given up at its third kill while the model is asked.
const KILLS_TO_GIVE_UP: usize = 3;
/// What people are told who write while an approval is open.
const HINT: &str = "This message waits: an approval is open.";
/// What people are told when it stays unknown whether a message has arrived.
const OFFER: &str = "A message to this chat may not have arrived.";
/// What becomes of the live message of a long run whose answer is a message of its own.
const STATUS: &str = "Run completed.";

/// What stands in a chat until a text that may have been sent is filled in, and what a live message says of a command.
const UNFINISHED: [&str; 2] = ["…", "running: run_command"];

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    for (index, conversation) in history.conversations.iter().enumerate() {
        Checking { index, conversation, findings: &mut findings }.all();
    }
    if findings.copies_without_crash > history.answers_lost {
        let (copies, lost) = (findings.copies_without_crash, history.answers_lost);
        let what = format!("{copies} second copies without a crash in between, and only {lost} lost answers");
        findings.violations.push(Violation { kind: Kind::ReplyRepeated, conversation: 0, what });
    }
    findings
}

struct Checking<'a> {
    index: usize,
    conversation: &'a Conversation,
    findings: &'a mut Findings,
}

impl Checking<'_> {
    fn all(mut self) {
        let mut shown: HashMap<&str, Vec<(usize, &Shown)>> = HashMap::new();
        let mut unexpected = Vec::new();
        let tokens: HashSet<&str> = self.conversation.said.iter().map(|said| said.token.as_str()).collect();
        let mut offers = 0;
        let mut prompts: HashMap<&str, Vec<&Shown>> = HashMap::new();
        for (place, message) in self.conversation.shown.iter().enumerate() {
            if let Some(token) = message.prompt().filter(|token| tokens.contains(token)) {
                prompts.entry(token).or_default().push(message);
                continue;
            }
            match message.token().filter(|token| tokens.contains(token)) {
                Some(token) => shown.entry(token).or_default().push((place, message)),
                None if self.on_telegram() && UNFINISHED.contains(&message.text.as_str()) => {
                    self.findings.unfinished += 1;
                }
                None if message.text.starts_with(OFFER) => offers += 1,
                None if message.gives_up() || message.text.starts_with(HINT) || message.text == STATUS => {}
                None => unexpected.push(format!("{:?}", message.text)),
            }
        }
        for what in unexpected {
            self.add(Kind::Unexpected, what);
        }
        let mut reports = self.conversation.shown.iter().filter(|message| message.gives_up()).count();
        for said in &self.conversation.said {
            let token = said.token.as_str();
            let copies = shown.get(token).map(Vec::as_slice).unwrap_or_default();
            if copies.is_empty() && offers > 0 && self.requests(token).next().is_some() {
                offers -= 1;
                self.findings.parked += 1;
                continue;
            }
            if copies.is_empty() && reports > 0 && self.was_killed_often(token) {
                reports -= 1;
                self.findings.given_up += 1;
                continue;
            }
            self.answered(said, copies);
            if wish(token) != Wish::Nothing {
                self.decided(said, prompts.get(token).map(Vec::as_slice).unwrap_or_default());
            }
        }
        if reports > 0 {
            self.add(Kind::Unexpected, format!("{reports} runs were said to be given up and were not"));
        }
        self.in_order(&shown);
        self.run_once();
        self.one_session(&shown);
    }

    fn on_telegram(&self) -> bool {
        self.conversation.platform == Platform::Telegram
    }

    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        let (conversation, what) = (self.index, what.into());
        self.findings.violations.push(Violation { kind, conversation, what });
    }

    fn requests<'a>(&'a self, token: &'a str) -> impl Iterator<Item = &'a Asked> {
        self.conversation.asked.iter().filter(move |asked| asked.known.last().is_some_and(|last| last == token))
    }

    fn was_killed_often(&self, token: &str) -> bool {
        let epochs: HashSet<u64> = self.requests(token).map(|asked| asked.epoch).collect();
        epochs.len() >= KILLS_TO_GIVE_UP
    }

    /// One prompt, decided as its sender wants; what it says in the end is what was done and what the model was told.
    fn decided(&mut self, said: &Said, prompts: &[&Shown]) {
        let token = &said.token;
        let copies = if self.on_telegram() { 2 } else { 1 };
        if prompts.len() > copies {
            self.add(Kind::ReplyRepeated, format!("{token} was prompted for {} times", prompts.len()));
        }
        let Some(decided) = prompts.iter().find(|prompt| !prompt.open) else {
            return self.add(Kind::Undecided, format!("{token}, {} prompts", prompts.len()));
        };
        self.findings.decided += 1;
        let told = self.requests(token).filter_map(|asked| asked.told.as_deref()).last().unwrap_or_default().to_owned();
        let unknown = told.contains("OUTCOME_UNKNOWN");
        let (verdict, wish) = (decided.verdict(), wish(token));
        let as_wished = match verdict {
            Verdict::Allowed => wish != Wish::Deny,
            Verdict::Denied => wish != Wish::Allow,
            Verdict::Void => false,
        };
        let as_done = match (verdict, said.done) {
            (Verdict::Allowed, 1) => !told.contains("rejected"),
            (Verdict::Allowed, 0) => unknown,
            (_, done) => done == 0 && told.contains("rejected"),
        };
        self.findings.unknown += usize::from(unknown);
        if !as_wished || !as_done {
            let (done, shown) = (said.done, &decided.text);
            self.add(Kind::DecidedWrongly, format!("{token}: {wish:?}, ran {done} times, {shown:?}, told {told:?}"));
        }
    }

    fn answered(&mut self, said: &Said, copies: &[(usize, &Shown)]) {
        let token = &said.token;
        if said.taken == Taken::Never {
            self.add(Kind::NeverTaken, token.as_str());
        } else if copies.is_empty() {
            self.add(Kind::Lost, format!("{token}, taken: {:?}", said.taken));
        }
        match copies {
            [] | [_] => {}
            [(_, first), (_, second)] if self.on_telegram() => {
                self.findings.copies += 1;
                self.findings.copies_without_crash += usize::from(first.epoch == second.epoch);
            }
            _ => self.add(Kind::ReplyRepeated, format!("{token} was answered {} times", copies.len())),
        }
    }

    /// The first answers stand in the order in which the messages were written.
    fn in_order(&mut self, shown: &HashMap<&str, Vec<(usize, &Shown)>>) {
        let place = |said: &Said| shown.get(said.token.as_str()).map(|copies| copies[0].0);
        let answered: Vec<(&Said, usize)> =
            self.conversation.said.iter().filter_map(|said| Some((said, place(said)?))).collect();
        for (index, (later, after)) in answered.iter().enumerate() {
            for (earlier, before) in answered[..index].iter().filter(|(_, before)| before > after) {
                let was_there = match earlier.taken {
                    Taken::InOrder => true,
                    Taken::At(taken) => taken <= later.at,
                    Taken::FromHistory | Taken::Never => false,
                };
                if was_there {
                    let (first, second) = (&earlier.token, &later.token);
                    self.add(Kind::OrderBroken, format!("{first} was answered after {second} ({before} > {after})"));
                } else {
                    self.findings.overtaken += 1;
                }
            }
        }
    }

    /// A message is in its session once; its answer is asked for again only after a kill, and then by the same request.
    fn run_once(&mut self) {
        // Before and after the command, if there is one.
        let mut requests: BTreeMap<(&str, bool), Vec<&Asked>> = BTreeMap::new();
        for asked in &self.conversation.asked {
            let Some(token) = asked.known.last() else { continue };
            requests.entry((token, asked.told.is_some())).or_default().push(asked);
            let mut seen = HashSet::new();
            if let Some(twice) = asked.known.iter().find(|token| !seen.insert(*token)) {
                self.add(Kind::RunTwice, format!("{twice} is in the session twice"));
            }
        }
        for ((token, _), requests) in requests {
            self.findings.asked_again += requests.len() - 1;
            for pair in requests.windows(2) {
                let [first, second] = pair else { continue };
                if first.epoch == second.epoch {
                    self.add(Kind::RunTwice, format!("{token} was asked for twice by process {}", first.epoch));
                } else if first.known != second.known {
                    let (first, second) = (&first.known, &second.known);
                    self.add(Kind::RunTwice, format!("{token} was asked for after {first:?} and after {second:?}"));
                }
            }
        }
    }

    /// Each run knows all runs before it and nothing else, and what people see is what the model said.
    fn one_session(&mut self, shown: &HashMap<&str, Vec<(usize, &Shown)>>) {
        let mut before: &[String] = &[];
        for asked in &self.conversation.asked {
            let Some((token, earlier)) = asked.known.split_last() else { continue };
            if asked.known == before {
                continue;
            }
            if earlier != before {
                self.add(Kind::SessionBroken, format!("{token} was asked with {earlier:?}, after {before:?}"));
            }
            before = &asked.known;
            let number = asked.known.len();
            let copies = shown.get(token.as_str()).map(Vec::as_slice).unwrap_or_default();
            let is_whole = copies.iter().any(|(_, message)| message.number() == Some(number));
            for (_, message) in copies {
                // One of two copies may be the live message as it stood when the process died.
                let is_beginning = self.on_telegram() && is_whole && message.number().is_none();
                if message.number() != Some(number) && !is_beginning {
                    self.add(Kind::SessionBroken, format!("{token}, number {number}, was shown as {:?}", message.text));
                }
            }
        }
    }
}
