//! Who may talk and who may decide: nobody but the ids that are listed, in the file or in the store.
//!
//! * Ids only: a name can be anybody's.
//! * The file's lists are here; what people were granted while the gateway ran is read from the store in the
//!   transaction that asks, so that a grant or its end counts from the next message on.

mod codes;
mod limits;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Address, ChannelSettings, DmPolicy, GatewayConfig, GroupPolicy, InboundMessage, Sender};

pub(crate) use codes::{approval_id, hash, normal, pairing_code};
pub(crate) use limits::{Limits, Rate};

/// What somebody may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = GatewayRole)]
pub enum Role {
    /// Talk, and stop own runs.
    User,
    /// Decide approvals.
    Approver,
    /// Let others in.
    Admin,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::User, Self::Approver, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }
}

/// Somebody at a place, who wants to do something there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) address: Address,
    pub(crate) sender: Sender,
    /// The Discord server of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guild: Option<String>,
}

impl Claim {
    pub(crate) fn of(message: &InboundMessage) -> Self {
        let guild = &message.metadata["guild_id"];
        let guild = guild.as_str().map(str::to_owned).or_else(|| guild.as_u64().map(|id| id.to_string()));
        Self { address: message.address.clone(), sender: message.sender.clone(), guild }
    }

    pub(crate) fn channel(&self) -> &str {
        self.address.channel.as_str()
    }

    pub(crate) fn user(&self) -> &str {
        self.sender.id.as_str()
    }
}

/// What the store says about somebody and the chat they are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) role: Option<Role>,
    pub(crate) chat: bool,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is taken.
    Welcome,
    /// It is not, and its writer may ask to be let in.
    MayPair,
    /// It is not.
    Stranger,
}

/// The lists and policies of the file.
#[derive(Debug, Default)]
pub(crate) struct Access {
    channels: HashMap<String, Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    users: HashSet<String>,
    chats: HashSet<String>,
    approvers: HashSet<String>,
    guilds: HashSet<String>,
    dm_policy: DmPolicy,
    group_policy: GroupPolicy,
}

impl Access {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let set = |ids: &[String]| ids.iter().cloned().collect();
        let discord = config.channels.discord.as_ref();
        let listed = |(name, settings): (&'static str, &ChannelSettings)| {
            let guilds = discord.filter(|_| name == "discord").map(|discord| set(&discord.guilds)).unwrap_or_default();
            let listed = Listed {
                users: set(&settings.allow_users),
                chats: set(&settings.allow_chats),
                approvers: set(&settings.approvers),
                guilds,
                dm_policy: settings.dm_policy,
                group_policy: settings.group_policy,
            };
            (name.to_owned(), listed)
        };
        Self { channels: config.channels.settings().map(listed).collect() }
    }

    pub(crate) fn verdict(&self, claim: &Claim, granted: Granted) -> Verdict {
        let Some(listed) = self.channels.get(claim.channel()) else { return Verdict::Stranger };
        let chat = &claim.address.chat;
        let known = self.role(claim.channel(), claim.user(), granted.role).is_some()
            || granted.chat
            || listed.chats.contains(chat);
        let welcome = match &claim.address.direct {
            Some(_) => match listed.dm_policy {
                DmPolicy::Disabled => false,
                DmPolicy::Open => true,
                DmPolicy::Pairing if !known => return Verdict::MayPair,
                DmPolicy::Pairing | DmPolicy::Allowlist => known,
            },
            None => {
                let of_guild = claim.guild.as_ref().is_some_and(|guild| listed.guilds.contains(guild));
                let elsewhere = !listed.guilds.is_empty() && !of_guild;
                let open = listed.group_policy == GroupPolicy::Open;
                listed.group_policy != GroupPolicy::Disabled && !elsewhere && (known || of_guild || open)
            }
        };
        if welcome { Verdict::Welcome } else { Verdict::Stranger }
    }

    /// The higher one of what the file and what the store gives.
    pub(crate) fn role(&self, channel: &str, user: &str, granted: Option<Role>) -> Option<Role> {
        let listed = self.channels.get(channel)?;
        let approver = listed.approvers.contains(user).then_some(Role::Approver);
        approver.or_else(|| listed.users.contains(user).then_some(Role::User)).max(granted)
    }

    /// Whether the file names anybody who decides.
    pub(crate) fn lists_approvers(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|listed| !listed.approvers.is_empty())
    }

    pub(crate) fn lists_chat(&self, channel: &str, chat: &str) -> bool {
        self.channels.get(channel).is_some_and(|listed| listed.chats.contains(chat))
    }

    /// Whether a code can be sent there: to a bot that takes direct messages.
    pub(crate) fn takes_codes(&self, address: &Address) -> bool {
        let listed = self.channels.get(address.channel.as_str());
        address.direct.is_some() && listed.is_some_and(|listed| listed.dm_policy != DmPolicy::Disabled)
    }
}

/// The code of `/pair CODE`.
pub(crate) fn pair_code(text: &str) -> Option<&str> {
    let (command, code) = text.trim().strip_prefix(['/', '!'])?.split_once(char::is_whitespace)?;
    let name = command.split_once('@').map_or(command, |(name, _)| name);
    Some(code.trim()).filter(|code| name.eq_ignore_ascii_case("pair") && !code.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(listed: Listed) -> Access {
        Access { channels: HashMap::from([("discord".to_owned(), listed)]) }
    }

    fn claim(direct: bool, guild: Option<&str>) -> Claim {
        let sender = Sender { id: "u".into(), username: Some("listed".into()), display_name: None };
        let direct = direct.then(|| "u".into());
        let address = Address { channel: "discord".into(), chat: "c".into(), thread: None, direct };
        Claim { address, sender, guild: guild.map(str::to_owned) }
    }

    fn set(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn nobody_is_allowed_by_empty_lists_or_by_a_name() {
        let nobody = Granted::default();
        let empty = access(Listed::default());
        assert_eq!(empty.verdict(&claim(true, None), nobody), Verdict::MayPair);
        assert_eq!(empty.verdict(&claim(false, None), nobody), Verdict::Stranger);
        let named = access(Listed { users: set(&["listed"]), ..Listed::default() });
        assert_eq!(named.verdict(&claim(false, None), nobody), Verdict::Stranger);
        assert_eq!(Access::default().verdict(&claim(true, None), nobody), Verdict::Stranger);
    }

    #[test]
    fn direct_chats_follow_their_policy() {
        let verdict =
            |dm_policy, granted| access(Listed { dm_policy, ..Listed::default() }).verdict(&claim(true, None), granted);
        let paired = Granted { role: Some(Role::User), chat: false };
        let nobody = Granted::default();
        assert_eq!(verdict(DmPolicy::Pairing, paired), Verdict::Welcome);
        assert_eq!(verdict(DmPolicy::Allowlist, nobody), Verdict::Stranger);
        assert_eq!(verdict(DmPolicy::Allowlist, paired), Verdict::Welcome);
        assert_eq!(verdict(DmPolicy::Open, nobody), Verdict::Welcome);
        assert_eq!(verdict(DmPolicy::Disabled, paired), Verdict::Stranger);
    }

    /// G-P11: `guilds` has an effect: members of a listed guild may talk there, every other guild is refused.
    #[test]
    fn a_guild_that_is_not_listed_is_refused_even_to_those_who_are() {
        let nobody = Granted::default();
        let one = || Listed { guilds: set(&["g"]), users: set(&["u"]), ..Listed::default() };
        assert_eq!(access(one()).verdict(&claim(false, Some("g")), nobody), Verdict::Welcome);
        assert_eq!(access(one()).verdict(&claim(false, Some("h")), nobody), Verdict::Stranger);
        let stranger = Listed { guilds: set(&["g"]), ..Listed::default() };
        assert_eq!(access(stranger).verdict(&claim(false, Some("g")), nobody), Verdict::Welcome);
        let open = Listed { group_policy: GroupPolicy::Open, guilds: set(&["g"]), ..Listed::default() };
        assert_eq!(access(open).verdict(&claim(false, Some("h")), nobody), Verdict::Stranger);
        let none = Listed { group_policy: GroupPolicy::Disabled, users: set(&["u"]), ..Listed::default() };
        assert_eq!(access(none).verdict(&claim(false, Some("g")), nobody), Verdict::Stranger);
    }

    #[test]
    fn the_higher_role_counts() {
        let both = access(Listed { users: set(&["u"]), approvers: set(&["u", "a"]), ..Listed::default() });
        assert_eq!(both.role("discord", "u", None), Some(Role::Approver));
        assert_eq!(both.role("discord", "u", Some(Role::Admin)), Some(Role::Admin));
        assert_eq!(both.role("discord", "a", Some(Role::User)), Some(Role::Approver));
        assert_eq!(both.role("discord", "x", None), None);
        assert_eq!(both.role("slack", "u", Some(Role::Admin)), None, "a channel that is not configured");
    }

    #[test]
    fn a_code_comes_with_its_command() {
        assert_eq!(pair_code(" /pair  ab2d \n"), Some("ab2d"));
        assert_eq!(pair_code("!PAIR@my_bot x"), Some("x"));
        assert_eq!(pair_code("/pair"), None);
        assert_eq!(pair_code("/pairs x"), None);
        assert_eq!(pair_code("pair x"), None);
    }
}
