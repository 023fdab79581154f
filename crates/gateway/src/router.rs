//! Which session a message belongs to.
//!
//! Bindings are looked at in two passes, first match wins: those that name a person or chat, then those that name
//! only a channel. The key of a binding replaces the whole key.

use serde::{Deserialize, Serialize};

use crate::{Address, ChannelId, ChatType};

/// How direct chats are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DmScope {
    /// All share one session.
    Main,
    /// One session a person id, whatever the platform.
    PerPeer,
    /// One session a person and platform.
    #[default]
    PerChannelPeer,
}

/// Sends what matches to a session of its own choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What it applies to.
    pub matching: BindingMatch,
    /// The whole key.
    pub routing_key: String,
}

/// What a binding applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingMatch {
    /// The platform.
    pub channel: ChannelId,
    /// A person or chat; absent: everything of the platform.
    pub peer: Option<PeerMatch>,
}

/// One person or chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMatch {
    /// Which of the two.
    pub kind: PeerMatchKind,
    /// Its id.
    pub id: String,
}

/// What the id of a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerMatchKind {
    /// The other party of a direct chat.
    Direct,
    /// A group with all its threads.
    Group,
}

/// How sessions are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterConfig {
    /// For direct chats.
    pub dm_scope: DmScope,
    /// In the order of the file.
    pub bindings: Vec<Binding>,
}

/// The key of the conversation that takes place at `address`.
#[must_use]
pub fn resolve_routing_key(config: &RouterConfig, address: &Address) -> String {
    let channel = &address.channel;
    let bound = |named: bool| {
        config.bindings.iter().find(|binding| {
            binding.matching.channel == *channel
                && binding.matching.peer.is_some() == named
                && binding.matching.peer.as_ref().is_none_or(|peer| matches(peer, address))
        })
    };
    if let Some(binding) = bound(true).or_else(|| bound(false)) {
        return binding.routing_key.clone();
    }
    match (address.chat_type(), config.dm_scope) {
        (ChatType::Direct, DmScope::Main) => "main".to_owned(),
        (ChatType::Direct, DmScope::PerPeer) => format!("dm:{}", direct_peer(address)),
        (ChatType::Direct, DmScope::PerChannelPeer) => format!("{channel}:dm:{}", direct_peer(address)),
        (ChatType::Group { id }, _) => format!("{channel}:group:{id}"),
        (ChatType::Thread { group_id, thread_id }, _) => format!("{channel}:thread:{group_id}:{thread_id}"),
    }
}

fn direct_peer(address: &Address) -> &str {
    address.direct.as_ref().map_or(address.chat.as_str(), |peer| peer.as_str())
}

fn matches(peer: &PeerMatch, address: &Address) -> bool {
    match peer.kind {
        PeerMatchKind::Direct => address.direct.as_ref().is_some_and(|direct| direct.as_str() == peer.id),
        PeerMatchKind::Group => address.direct.is_none() && address.chat == peer.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(chat: &str, thread: Option<&str>, direct: Option<&str>) -> Address {
        let thread = thread.map(str::to_owned);
        Address { channel: "telegram".into(), chat: chat.into(), thread, direct: direct.map(Into::into) }
    }

    #[test]
    fn keys_follow_chat_type_and_scope() {
        let key = |scope, address: &Address| {
            resolve_routing_key(&RouterConfig { dm_scope: scope, bindings: Vec::new() }, address)
        };
        let direct = address("123", None, Some("123"));
        assert_eq!(key(DmScope::Main, &direct), "main");
        assert_eq!(key(DmScope::PerPeer, &direct), "dm:123");
        assert_eq!(key(DmScope::PerChannelPeer, &direct), "telegram:dm:123");
        assert_eq!(key(DmScope::Main, &address("-100999", None, None)), "telegram:group:-100999");
        assert_eq!(key(DmScope::Main, &address("-1", Some("7"), None)), "telegram:thread:-1:7");
    }

    #[test]
    fn a_binding_that_names_a_chat_goes_before_one_that_names_a_channel() {
        let binding = |peer: Option<(PeerMatchKind, &str)>, routing_key: &str| Binding {
            matching: BindingMatch {
                channel: "telegram".into(),
                peer: peer.map(|(kind, id)| PeerMatch { kind, id: id.into() }),
            },
            routing_key: routing_key.into(),
        };
        let bindings = vec![
            binding(None, "everything"),
            binding(Some((PeerMatchKind::Group, "-1")), "group"),
            binding(Some((PeerMatchKind::Direct, "5")), "person"),
        ];
        let config = RouterConfig { dm_scope: DmScope::default(), bindings };
        assert_eq!(resolve_routing_key(&config, &address("-1", Some("7"), None)), "group");
        assert_eq!(resolve_routing_key(&config, &address("5", None, Some("5"))), "person");
        assert_eq!(resolve_routing_key(&config, &address("-2", None, None)), "everything");
        let elsewhere = Address { channel: "slack".into(), ..address("C1", None, None) };
        assert_eq!(resolve_routing_key(&config, &elsewhere), "slack:group:C1");
    }
}
