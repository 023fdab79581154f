//! What goes wrong on command.

use std::{collections::VecDeque, time::Duration};

use super::FakeDiscord;

/// What a fault of the REST API is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiscordCall {
    /// `GET /gateway` and `GET /gateway/bot`.
    Gateway,
    /// Who the token belongs to: user and application.
    Identity,
    /// A channel, its threads or a guild.
    Channel,
    /// Messages of a channel, or one of them.
    ReadMessages,
    /// A new message, with or without files.
    SendMessage,
    /// A change of a message.
    EditMessage,
    /// Reactions.
    React,
    /// The sign of writing.
    Typing,
    /// The answer to an interaction.
    AnswerInteraction,
    /// A message after an interaction.
    Followup,
    /// The content of a file.
    Download,
    /// Everything else.
    Other,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscordFault {
    /// 429; nothing happened.
    RateLimited {
        /// Until when.
        retry_after: Duration,
        /// For all routes, or for this one.
        global: bool,
    },
    /// A refusal with Discord's own code; nothing happened.
    Refused {
        /// The HTTP status.
        status: u16,
        /// As `code` of the body.
        code: u32,
    },
    /// 502; nothing happened.
    ServerErrorBefore,
    /// 502, though it took effect.
    ServerErrorAfter,
    /// It took effect and the answer never comes.
    AnswerLost,
    /// It takes this long and then goes well.
    Slow(Duration),
}

/// How the gateway fails, on all connections that are open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayFault {
    /// The connection ends without a word; sessions can be resumed.
    Drop,
    /// Closed with this code; sessions can be resumed.
    Close(u16),
    /// The RECONNECT opcode.
    Reconnect,
    /// The INVALID SESSION opcode. Sessions that are not resumable are forgotten.
    InvalidSession {
        /// As the payload says.
        resumable: bool,
    },
    /// Asks for a heartbeat at once.
    AskHeartbeat,
    /// No heartbeat is acknowledged any more, and no event is sent.
    Deaf,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    queue: VecDeque<(DiscordCall, DiscordFault)>,
    lasting: Vec<(DiscordCall, DiscordFault)>,
    /// Connections apply those that were added since they opened.
    pub(super) gateway: Vec<GatewayFault>,
}

impl Faults {
    pub(super) fn take(&mut self, call: DiscordCall) -> Option<DiscordFault> {
        match self.queue.iter().position(|(at, _)| *at == call) {
            Some(index) => self.queue.remove(index).map(|(_, fault)| fault),
            None => self.lasting.iter().find(|(at, _)| *at == call).map(|(_, fault)| *fault),
        }
    }

    pub(super) fn inject(&mut self, fault: GatewayFault) {
        self.gateway.push(fault);
    }
}

impl FakeDiscord {
    /// The next such call meets this.
    pub fn fail_next(&self, call: DiscordCall, fault: DiscordFault) {
        self.shared.state().faults.queue.push_back((call, fault));
    }

    /// All such calls meet this, until [`FakeDiscord::heal`].
    pub fn fail_always(&self, call: DiscordCall, fault: DiscordFault) {
        self.shared.state().faults.lasting.push((call, fault));
    }

    /// No more faults of the REST API.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.faults.queue.clear();
        state.faults.lasting.clear();
    }

    /// Does this to all open connections of the gateway.
    pub fn disturb(&self, fault: GatewayFault) {
        self.shared.update(|state| {
            if fault == (GatewayFault::InvalidSession { resumable: false }) {
                state.world.sessions.clear();
            }
            state.faults.inject(fault);
        });
    }

    /// Sessions end as after a long absence: a RESUME of them gets INVALID SESSION.
    pub fn forget_sessions(&self) {
        self.shared.update(|state| state.world.sessions.clear());
    }
}
