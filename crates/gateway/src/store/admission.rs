//! Strangers who got a code, as admins are asked about them: a message with two buttons in the chat of each.
//!
//! * Whatever settles the code, a press, a command or the API, all who were asked see it.
//! * The buttons name the person and the moment they asked, not the code: that is nobody's but theirs.

use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Content, GatewayStore, NewPart, StoreError,
    access::role,
    outbox,
    pairing::{self, Ended, Settler},
    strangers::display_name,
};
use crate::{
    Address, ApprovalButton, Body, ButtonStyle, ChannelId, Press,
    access::{Access, Claim, Role},
    render::literal,
};

/// Somebody who got a code, and who may let them in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) channel: ChannelId,
    pub(crate) admins: Vec<String>,
    user_id: String,
    display_name: String,
    /// With channel and person the name of the code.
    asked_at: i64,
}

/// Why somebody was not let in by a press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("Only an admin may let people in.")]
    NotAdmin,
    #[error("This is not the message that asks.")]
    OtherMessage,
    #[error("This is settled already, or its hour is over.")]
    Over,
}

/// What a button says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish<'a> {
    user_id: &'a str,
    asked_at: i64,
    admit: bool,
}

impl Admission {
    /// The messages that ask, one in each of the chats given.
    pub(crate) fn parts(&self, chats: Vec<(String, Address)>) -> Vec<NewPart> {
        let Self { channel, user_id, display_name, asked_at, .. } = self;
        let name = literal(display_name);
        let body = Body::plain(format!(
            "{name} (id {user_id}) wants to talk to this bot and does not belong to anybody it knows. This waits for an hour."
        ));
        let button = |label: &str, verb: &str, style| ApprovalButton {
            label: label.to_owned(),
            callback_data: format!("p:{user_id}:{asked_at}:{verb}"),
            style,
        };
        let buttons =
            vec![button("Let in", "allow", ButtonStyle::Success), button("Keep out", "deny", ButtonStyle::Danger)];
        let content = Content::Prompt { body, buttons, needs: None, without: Vec::new() };
        let prefix = asking(channel, user_id, *asked_at);
        chats
            .into_iter()
            .map(|(admin, address)| NewPart { idem_key: format!("{prefix}{admin}"), address, content: content.clone() })
            .collect()
    }
}

impl GatewayStore {
    /// Queues the messages that ask, unless somebody was faster. False then.
    pub(crate) async fn ask_admins(
        &self,
        admission: Admission,
        parts: Vec<NewPart>,
        now: i64,
    ) -> Result<bool, StoreError> {
        self.database
            .write(move |connection| {
                let Admission { channel, user_id, asked_at, .. } = &admission;
                let open = open_code(connection, channel, user_id, *asked_at, now)?.is_some();
                if open {
                    outbox::insert(connection, &parts, now)?;
                }
                Ok(open)
            })
            .await
    }
}

/// A stranger who got a code at `now`; none where there is no admin to be asked.
pub(super) fn of(
    connection: &Connection,
    claim: &Claim,
    display_name: &str,
    now: i64,
) -> Result<Option<Admission>, StoreError> {
    let sql = "SELECT id FROM access WHERE channel = ?1 AND kind = 'user' AND role = 'admin'";
    let mut statement = connection.prepare_cached(sql)?;
    let admins = statement.query_map([claim.channel()], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok((!admins.is_empty()).then(|| Admission {
        channel: claim.address.channel.clone(),
        admins,
        user_id: claim.user().to_owned(),
        display_name: display_name.to_owned(),
        asked_at: now,
    }))
}

/// None for what is no button of such a message.
pub(super) fn parse(payload: &str) -> Option<Wish<'_>> {
    let (user_id, rest) = payload.strip_prefix("p:")?.split_once(':')?;
    let (asked_at, verb) = rest.split_once(':')?;
    let admit = match verb {
        "allow" => true,
        "deny" => false,
        _ => return None,
    };
    Some(Wish { user_id, asked_at: asked_at.parse().ok()?, admit })
}

/// An admin says whether somebody comes in: the chats that are told.
pub(super) fn press(
    connection: &Connection,
    press: &Press,
    wish: Wish<'_>,
    access: &Access,
    now: i64,
) -> Result<Result<Vec<String>, NotAdmitted>, StoreError> {
    let Wish { user_id, asked_at, admit } = wish;
    let (channel, presser) = (&press.address.channel, press.sender.id.as_str());
    if access.role(channel.as_str(), presser, role(connection, channel.as_str(), presser)?) < Some(Role::Admin) {
        return Ok(Err(NotAdmitted::NotAdmin));
    }
    let key = format!("{}{presser}", asking(channel, user_id, asked_at));
    if !outbox::is_message(connection, &key, &press.address, &press.message_id)? {
        return Ok(Err(NotAdmitted::OtherMessage));
    }
    let Some(code_hash) = open_code(connection, channel, user_id, asked_at, now)? else {
        return Ok(Err(NotAdmitted::Over));
    };
    let (actor, name) = (format!("{channel}:{presser}"), display_name(&press.sender));
    let by = Settler { actor: &actor, name: &name };
    let settled = if admit {
        pairing::approve(connection, &code_hash, Role::User, &by, now)?
    } else {
        pairing::deny(connection, &code_hash, &by, now)?
    };
    Ok(settled.map(|settled| settled.chats).ok_or(NotAdmitted::Over))
}

/// Those who were asked hear what became of it; their chats.
pub(super) fn tell(connection: &Connection, ended: &Ended, what: &str, now: i64) -> Result<Vec<String>, StoreError> {
    let Ended { pairing, created_at, .. } = ended;
    let text = format!("{} (id {}) {what}", literal(&pairing.display_name), pairing.user_id);
    let prefix = asking(&pairing.channel, &pairing.user_id, *created_at);
    let sql = "SELECT idem_key, address FROM outbox WHERE idem_key >= ?1 AND idem_key < ?1 || char(0x10FFFF)";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| -> Result<(String, String), _> { Ok((row.get(0)?, row.get(1)?)) };
    let mut parts = Vec::new();
    for row in statement.query_map([&prefix], read)? {
        let (of, address) = row?;
        let idem_key = format!("told:{of}");
        let content = Content::Edit { of, body: Body::plain(&text), buttons: Vec::new(), must_show: false };
        parts.push(NewPart { idem_key, address: serde_json::from_str(&address)?, content });
    }
    outbox::insert(connection, &parts, now)?;
    Ok(parts.iter().map(NewPart::lane).collect())
}

/// What the keys of the messages that ask about somebody begin with.
fn asking(channel: &ChannelId, user_id: &str, asked_at: i64) -> String {
    format!("admission:{channel}:{user_id}:{asked_at}:")
}

fn open_code(
    connection: &Connection,
    channel: &ChannelId,
    user_id: &str,
    asked_at: i64,
    now: i64,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT code_hash FROM pairings
               WHERE channel = ?1 AND user_id = ?2 AND created_at = ?3 AND state = 'open' AND expires_at > ?4";
    let values = params![channel.as_str(), user_id, asked_at, now];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buttons_of_the_longest_id_fit_the_platforms() {
        let admission = Admission {
            channel: "discord".into(),
            admins: Vec::new(),
            user_id: "18446744073709551615".to_owned(),
            display_name: "Eve".to_owned(),
            asked_at: 9_999_999_999_999,
        };
        let address = Address { channel: "discord".into(), chat: "1".to_owned(), thread: None, direct: None };
        let parts = admission.parts(vec![("2".to_owned(), address)]);
        let [NewPart { content: Content::Prompt { buttons, .. }, .. }] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!(buttons.len(), 2);
        for (button, admit) in buttons.iter().zip([true, false]) {
            assert!(button.callback_data.len() <= 64, "{button:?}");
            let wish = Wish { user_id: &admission.user_id, asked_at: admission.asked_at, admit };
            assert_eq!(parse(&button.callback_data), Some(wish));
        }
        for other in ["p:1:2", "p:1:x:allow", "p:1:2:run", "a:1:2:allow", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
