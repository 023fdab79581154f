//! People who talk to the bot, one for each conversation: what they said, and what they can see.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use stakpak_test_support::{FakeDiscord, Saying, SlackApi};

use crate::{
    history::{ANSWER, Asked, Conversation, History, Platform, Said, Shown, Taken, conversation_of, token, token_in},
    messages::{Message, messages},
    presses::press,
    world::World,
};

/// After a press, until it is tried again: a platform may have had nobody to tell.
const PRESS_AGAIN: Duration = Duration::from_secs(3);

/// Of so many conversations of a platform one is in a group or a thread.
const GROUP_ONE_IN: usize = 10;

/// Where somebody talks.
#[derive(Debug, Clone)]
pub enum Place {
    Telegram {
        chat: i64,
        user: i64,
    },
    SlackDirect {
        channel: String,
        user: String,
    },
    /// Hangs on the first message, a mention; what follows goes without.
    SlackThread {
        channel: String,
        user: String,
        root: Option<String>,
    },
    Discord {
        channel: u64,
        person: u64,
        thread: bool,
    },
}

/// As the platform names it.
#[derive(Debug, Clone)]
enum MessageId {
    Telegram(i64),
    Slack(String),
    Discord,
}

struct Talk {
    place: Place,
    said: Vec<(String, Duration, MessageId)>,
    /// When each message of the bot was seen first.
    epochs: Vec<u64>,
}

pub struct People {
    talks: Mutex<Vec<Talk>>,
    /// When somebody last pressed a button of a prompt, by its payload and its message.
    pressed: Mutex<HashMap<(String, String), Instant>>,
}

impl People {
    /// So many people, by turns on each platform.
    pub fn new(world: &World, count: usize) -> Self {
        let guild = world.discord.guild("home");
        let talk = |index: usize| {
            let grouped = (index / Platform::ALL.len()) % GROUP_ONE_IN == GROUP_ONE_IN - 1;
            let place = place(world, guild, index, grouped);
            Talk { place, said: Vec::new(), epochs: Vec::new() }
        };
        Self { talks: Mutex::new((0..count).map(talk).collect()), pressed: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.talks.lock().unwrap().len()
    }

    /// The next message of one of them.
    pub fn say(&self, world: &World, index: usize) {
        let mut talks = self.talks.lock().unwrap();
        let talk = &mut talks[index];
        let token = token(index, talk.said.len());
        let text = format!("Please answer {token}");
        let at = world.began.elapsed();
        let id = match &mut talk.place {
            Place::Telegram { chat, user } if chat == user => MessageId::Telegram(world.telegram.say(*user, &text)),
            Place::Telegram { chat, user } => MessageId::Telegram(world.telegram.say_in_group(*chat, *user, &text)),
            Place::SlackDirect { channel, user } => MessageId::Slack(world.slack.say(channel, user, &text)),
            Place::SlackThread { channel, user, root } => {
                let saying = Saying::new(channel, user, &text);
                MessageId::Slack(match root {
                    Some(root) => world.slack.write(saying.in_thread(root)),
                    None => root.insert(world.slack.write(saying.to_bot())).clone(),
                })
            }
            Place::Discord { channel, person, thread } => {
                let text = if *thread { format!("<@{}> {text}", FakeDiscord::BOT) } else { text };
                world.discord.say(*channel, *person, &text);
                MessageId::Discord
            }
        };
        talk.said.push((token, at, id));
    }

    /// Messages that have no answer yet.
    pub fn unanswered(&self, world: &World) -> usize {
        let messages = self.messages(world);
        let answers = messages.iter().flatten().filter(|message| message.text.starts_with(ANSWER));
        let answered: HashSet<&str> = answers.filter_map(|message| token_in(&message.text)).collect();
        let talks = self.talks.lock().unwrap();
        let said = talks.iter().flat_map(|talk| &talk.said);
        said.filter(|(token, ..)| !answered.contains(token.as_str())).count()
    }

    /// Everybody decides what they are asked; again, as long as nothing comes of it.
    pub fn decide(&self, world: &World) {
        let places: Vec<Place> = self.talks.lock().unwrap().iter().map(|talk| talk.place.clone()).collect();
        for (place, messages) in places.iter().zip(messages(world, places.iter())) {
            for message in messages.iter().filter(|message| message.allow.is_some()) {
                let (Some(allow), Some(deny)) = (&message.allow, &message.deny) else { continue };
                let mut pressed = self.pressed.lock().unwrap();
                // A copy that the bot does not know of is refused, so each message counts.
                let prompt = (allow.clone(), message.id.clone());
                if pressed.get(&prompt).is_none_or(|at| at.elapsed() > PRESS_AGAIN) {
                    pressed.insert(prompt, Instant::now());
                    press(world, place, message, allow, deny);
                }
            }
        }
    }

    fn messages(&self, world: &World) -> Vec<Vec<Message>> {
        messages(world, self.talks.lock().unwrap().iter().map(|talk| &talk.place))
    }

    /// Everything the bot has sent by now that nobody had seen belongs to this process.
    pub fn look(&self, world: &World) {
        let (messages, epoch) = (self.messages(world), world.epoch());
        for (talk, messages) in self.talks.lock().unwrap().iter_mut().zip(messages) {
            talk.epochs.resize(messages.len().max(talk.epochs.len()), epoch);
        }
    }

    /// The last message of somebody is delivered once more; on Telegram all of them.
    pub fn redeliver_some(&self, world: &World, random: usize) {
        let channel = {
            let talks = self.talks.lock().unwrap();
            talks[random % talks.len()].place.clone()
        };
        match channel {
            Place::Telegram { .. } => world.telegram.redeliver(),
            Place::SlackDirect { channel, user } | Place::SlackThread { channel, user, .. } => {
                let last = world.slack.messages(&channel).into_iter().rfind(|message| !message.by_bot);
                if let Some(last) = last {
                    world.slack.send_event(&serde_json::json!({
                        "type": "message", "user": user, "ts": last.ts, "event_ts": last.ts, "text": last.text,
                        "team": SlackApi::TEAM, "thread_ts": last.thread_ts, "client_msg_id": last.ts,
                        "channel": channel, "channel_type": if channel.starts_with('D') { "im" } else { "group" }
                    }));
                }
            }
            Place::Discord { channel, .. } => {
                if let Some(last) = world.discord.last_said(channel) {
                    world.discord.redeliver(last);
                }
            }
        }
    }

    /// Everything, once it is over.
    pub fn history(&self, world: &World) -> History {
        self.look(world);
        let messages = self.messages(world);
        let mut done: HashMap<String, usize> = HashMap::new();
        for token in world.book.done() {
            *done.entry(token).or_default() += 1;
        }
        let mut asked: HashMap<usize, Vec<Asked>> = HashMap::new();
        for request in world.book.all() {
            let conversation = request.known.last().and_then(|token| conversation_of(token)).unwrap_or_default();
            asked.entry(conversation).or_default().push(request);
        }
        let offset = world.telegram.offsets().into_iter().flatten().max().unwrap_or_default();
        let talks = self.talks.lock().unwrap();
        let conversations = talks.iter().zip(messages).enumerate().map(|(index, (talk, messages))| {
            let taken = |id: &MessageId| match id {
                MessageId::Telegram(update) if *update >= offset => Taken::Never,
                MessageId::Telegram(_) | MessageId::Discord => Taken::InOrder,
                MessageId::Slack(ts) => match world.slack.acknowledged(ts) {
                    Some(at) => Taken::At(at.duration_since(world.began)),
                    None => Taken::FromHistory,
                },
            };
            let said = talk.said.iter().map(|(token, at, id)| {
                let done = done.get(token).copied().unwrap_or_default();
                Said { token: token.clone(), at: *at, taken: taken(id), done }
            });
            let shown = messages.into_iter().zip(&talk.epochs);
            let shown = shown.map(|(message, epoch)| Shown {
                open: message.allow.is_some(),
                text: message.text,
                epoch: *epoch,
            });
            Conversation {
                platform: talk.place.platform(),
                name: format!("{:?}", talk.place),
                said: said.collect(),
                shown: shown.collect(),
                asked: asked.remove(&index).unwrap_or_default(),
            }
        });
        History { conversations: conversations.collect(), answers_lost: 0 }
    }
}

impl Place {
    fn platform(&self) -> Platform {
        match self {
            Self::Telegram { .. } => Platform::Telegram,
            Self::SlackDirect { .. } | Self::SlackThread { .. } => Platform::Slack,
            Self::Discord { .. } => Platform::Discord,
        }
    }
}

fn place(world: &World, guild: u64, index: usize, grouped: bool) -> Place {
    let number = i64::try_from(index).unwrap();
    match Platform::ALL[index % Platform::ALL.len()] {
        Platform::Telegram => {
            let user = 10_000 + number;
            Place::Telegram { chat: if grouped { -100_000_000 - number } else { user }, user }
        }
        Platform::Slack => {
            let user = format!("U0P{index:04}");
            world.slack.add_person(&user, &format!("person {index}"));
            if grouped {
                let channel = format!("G0P{index:04}");
                world.slack.add_private_channel(&channel, &format!("group-{index}"), true);
                return Place::SlackThread { channel, user, root: None };
            }
            Place::SlackDirect { channel: world.slack.dm(&user), user }
        }
        Platform::Discord => {
            let person = world.discord.person(&format!("person-{index}"));
            if grouped {
                let parent = world.discord.channel(guild, &format!("channel-{index}"));
                return Place::Discord { channel: world.discord.thread(parent, "talk"), person, thread: true };
            }
            Place::Discord { channel: world.discord.direct(person), person, thread: false }
        }
    }
}
