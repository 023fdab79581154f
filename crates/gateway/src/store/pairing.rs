//! Codes that let people in: those that strangers get and the operator approves, and the one of the first owner.
//!
//! * A code is kept as its hash, counts once, and only until it expires.
//! * Groups get none: a code there would be everybody's.
//! * Admins are asked in their own chats too, see [`super::admission`].

use serde::Serialize;
use serde_json::json;
use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};
use utoipa::ToSchema;

use super::{
    AccessEntry, GatewayStore, Origin, StoreError, Subject,
    access::grant,
    admission,
    audit::{self, OPERATOR},
    notice,
};
use crate::{
    Address, ChannelId,
    access::{Claim, Role, hash, pairing_code},
    clock::now_ms,
};

const LIFE_MS: i64 = 3_600_000;
const MOST_OPEN: i64 = 3;
const OWNER_LIFE_MS: i64 = 600_000;
const MOST_TRIES_OF_ONE: i64 = 5;
const MOST_TRIES_OF_ALL: i64 = 20;

/// Somebody who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pairing {
    /// The platform.
    #[schema(value_type = String)]
    pub channel: ChannelId,
    /// The platform's immutable id.
    pub user_id: String,
    /// For people; chosen by its bearer.
    #[serde(rename = "display")]
    pub display_name: String,
    /// Unix ms.
    pub expires_at: i64,
}

/// What became of a code that somebody sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerTry {
    /// It was the right one; its sender is an admin now.
    Right,
    /// It was not.
    Wrong,
    /// There is none to be found, or not by this person any more.
    None,
}

impl GatewayStore {
    /// Who asks to be let in, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn pairings(&self) -> Result<Vec<Pairing>, StoreError> {
        let now = now_ms();
        self.database
            .read(move |connection| {
                let sql = "SELECT channel, user_id, display_name, expires_at FROM pairings
                           WHERE state = 'open' AND expires_at > ?1 ORDER BY created_at";
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([now], |row| {
                    Ok(Pairing {
                        channel: row.get::<_, String>(0)?.into(),
                        user_id: row.get(1)?,
                        display_name: row.get(2)?,
                        expires_at: row.get(3)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Lets the person with this code in and tells them. None: the code is wrong, was used, or has expired.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn approve_pairing(&self, code: &str, role: Role) -> Result<Option<Settled>, StoreError> {
        let (code, now) = (hash(code), now_ms());
        self.database.write(move |connection| approve(connection, &code, role, &BY_OPERATOR, now)).await
    }

    /// Makes a code void, without a word to its bearer. None: it is wrong, was used, or has expired.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn deny_pairing(&self, code: &str) -> Result<Option<Settled>, StoreError> {
        let (code, now) = (hash(code), now_ms());
        self.database.write(move |connection| deny(connection, &code, &BY_OPERATOR, now)).await
    }

    /// A code that makes whoever sends `/pair CODE` to the bot within ten minutes its admin. An earlier one is void.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn new_owner_code(&self, channel: &ChannelId) -> Result<String, StoreError> {
        let (channel, now) = (channel.to_string(), now_ms());
        self.database.write(move |connection| new_owner_code(connection, &channel, now)).await
    }
}

/// A code that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whose it was.
    pub pairing: Pairing,
    /// The chats that are told of it, as the outbox names them.
    pub chats: Vec<String>,
}

/// Who settles a code: as the audit log names them, and for people.
#[derive(Debug)]
pub(super) struct Settler<'a> {
    pub(super) actor: &'a str,
    pub(super) name: &'a str,
}

const BY_OPERATOR: Settler<'static> = Settler { actor: OPERATOR, name: "the operator" };

/// A code for a stranger who wrote directly, unless they got one within the hour or too many are open. True if one was
/// queued.
pub(super) fn offer(connection: &Connection, claim: &Claim, display_name: &str, now: i64) -> Result<bool, StoreError> {
    connection.prepare_cached("DELETE FROM pairings WHERE expires_at <= ?1")?.execute([now])?;
    let (channel, user) = (claim.channel(), claim.user());
    let sql = "SELECT count(*) FILTER (WHERE user_id = ?2), count(*) FILTER (WHERE state = 'open')
               FROM pairings WHERE channel = ?1";
    let (own, open): (i64, i64) =
        connection.prepare_cached(sql)?.query_row(params![channel, user], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if own > 0 || open >= MOST_OPEN {
        return Ok(false);
    }
    let code = pairing_code()?;
    let sql = "INSERT INTO pairings (code_hash, channel, user_id, display_name, address, state, created_at, expires_at)
               VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6, ?7)";
    let address = serde_json::to_string(&claim.address)?;
    let values = params![hash(&code), channel, user, display_name, address, now, now + LIFE_MS];
    connection.prepare_cached(sql)?.execute(values)?;
    let text = format!(
        "This bot does not know you yet. Ask its operator to let you in, within the hour, with:\n\
         stakpak channel pair approve {code}"
    );
    notice::queue(connection, format!("pairing:{channel}:{user}:{now}"), &claim.address, &text, now)?;
    Ok(true)
}

/// Somebody sent a code; if it is the owner's they are an admin from here on.
pub(super) fn try_owner_code(
    connection: &Connection,
    claim: &Claim,
    display_name: &str,
    code: &str,
    now: i64,
) -> Result<OwnerTry, StoreError> {
    let (channel, user) = (claim.channel(), claim.user());
    let sql = "SELECT code_hash FROM owner_codes WHERE channel = ?1 AND expires_at > ?2";
    let right: Option<String> =
        connection.prepare_cached(sql)?.query_row(params![channel, now], |row| row.get(0)).optional()?;
    let Some(right) = right else { return Ok(OwnerTry::None) };
    let sql = "SELECT tries FROM owner_tries WHERE channel = ?1 AND user_id = ?2";
    let tries: Option<i64> =
        connection.prepare_cached(sql)?.query_row(params![channel, user], |row| row.get(0)).optional()?;
    if tries.is_some_and(|tries| tries >= MOST_TRIES_OF_ONE) {
        return Ok(OwnerTry::None);
    }
    if hash(code) == right {
        void_owner_code(connection, channel)?;
        grant(connection, &paired(channel, user, display_name, Role::Admin, now), &format!("{channel}:{user}"))?;
        return Ok(OwnerTry::Right);
    }
    let sql = "INSERT INTO owner_tries (channel, user_id, tries) VALUES (?1, ?2, 1)
               ON CONFLICT DO UPDATE SET tries = tries + 1";
    connection.prepare_cached(sql)?.execute(params![channel, user])?;
    let sql = "UPDATE owner_codes SET tries = tries + 1 WHERE channel = ?1 RETURNING tries";
    let all: i64 = connection.prepare_cached(sql)?.query_row([channel], |row| row.get(0))?;
    if all >= MOST_TRIES_OF_ALL {
        void_owner_code(connection, channel)?;
    }
    Ok(OwnerTry::Wrong)
}

fn new_owner_code(connection: &Connection, channel: &str, now: i64) -> Result<String, StoreError> {
    void_owner_code(connection, channel)?;
    let code = pairing_code()?;
    let sql = "INSERT INTO owner_codes (channel, code_hash, expires_at, tries) VALUES (?1, ?2, ?3, 0)";
    connection.prepare_cached(sql)?.execute(params![channel, hash(&code), now + OWNER_LIFE_MS])?;
    audit::record(connection, now, ("owner_code.made", OPERATOR), channel, json!({}))?;
    Ok(code)
}

fn void_owner_code(connection: &Connection, channel: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM owner_codes WHERE channel = ?1")?.execute([channel])?;
    connection.prepare_cached("DELETE FROM owner_tries WHERE channel = ?1")?.execute([channel])?;
    Ok(())
}

/// Lets the bearer of an open code in, by its hash.
pub(super) fn approve(
    connection: &Connection,
    code_hash: &str,
    role: Role,
    by: &Settler<'_>,
    now: i64,
) -> Result<Option<Settled>, StoreError> {
    let Some(ended) = settle(connection, code_hash, "approved", now)? else { return Ok(None) };
    let Pairing { channel, user_id, display_name, .. } = &ended.pairing;
    grant(connection, &paired(channel.as_str(), user_id, display_name, role, now), by.actor)?;
    let key = format!("paired:{channel}:{user_id}:{now}");
    let text = format!("You were let in as {}. Write what you need.", role.as_str());
    notice::queue(connection, key, &ended.address, &text, now)?;
    let mut chats = admission::tell(connection, &ended, &format!("was let in by {}.", by.name), now)?;
    chats.push(ended.address.chat_key());
    Ok(Some(Settled { pairing: ended.pairing, chats }))
}

/// Keeps the bearer of an open code out, by its hash.
pub(super) fn deny(
    connection: &Connection,
    code_hash: &str,
    by: &Settler<'_>,
    now: i64,
) -> Result<Option<Settled>, StoreError> {
    let Some(ended) = settle(connection, code_hash, "denied", now)? else { return Ok(None) };
    let subject = format!("{}:user:{}", ended.pairing.channel, ended.pairing.user_id);
    audit::record(connection, now, ("pairing.denied", by.actor), &subject, json!({}))?;
    let chats = admission::tell(connection, &ended, &format!("was kept out by {}.", by.name), now)?;
    Ok(Some(Settled { pairing: ended.pairing, chats }))
}

/// An open code that has just come to its end.
pub(super) struct Ended {
    pub(super) pairing: Pairing,
    /// Where its bearer wrote.
    pub(super) address: Address,
    pub(super) created_at: i64,
}

fn settle(connection: &Connection, code_hash: &str, state: &str, now: i64) -> Result<Option<Ended>, StoreError> {
    let sql = "UPDATE pairings SET state = ?2 WHERE code_hash = ?1 AND state = 'open' AND expires_at > ?3
               RETURNING channel, user_id, display_name, expires_at, address, created_at";
    let settled = connection
        .prepare_cached(sql)?
        .query_row(params![code_hash, state, now], |row| {
            let channel: String = row.get(0)?;
            let pairing = Pairing {
                channel: channel.into(),
                user_id: row.get(1)?,
                display_name: row.get(2)?,
                expires_at: row.get(3)?,
            };
            Ok((pairing, row.get::<_, String>(4)?, row.get(5)?))
        })
        .optional()?;
    let Some((pairing, address, created_at)) = settled else { return Ok(None) };
    Ok(Some(Ended { pairing, address: serde_json::from_str(&address)?, created_at }))
}

fn paired(channel: &str, user: &str, display_name: &str, role: Role, now: i64) -> AccessEntry {
    AccessEntry {
        channel: channel.into(),
        kind: Subject::User,
        id: user.to_owned(),
        role,
        origin: Origin::Paired,
        display_name: display_name.to_owned(),
        created_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sender, store::access::role};

    const NOW: i64 = 1_800_000_000_000;

    fn claim(user: &str) -> Claim {
        let sender = Sender { id: user.into(), username: None, display_name: None };
        let direct = Some(user.into());
        let address = Address { channel: "telegram".into(), chat: user.into(), thread: None, direct };
        Claim { address, sender, guild: None }
    }

    /// Runs `test` in one transaction.
    async fn in_store(test: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static) {
        GatewayStore::open_in_memory().unwrap().database.write(test).await.unwrap();
    }

    /// The code of the last reply.
    fn offered(connection: &Connection) -> String {
        let sql = "SELECT payload FROM outbox ORDER BY id DESC LIMIT 1";
        let payload: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let (_, tail) = payload.split_once("approve ").unwrap();
        tail[..8].to_owned()
    }

    /// G-P38: a code counts once and for an hour; nobody gets two in an hour; at most three are open.
    #[tokio::test]
    async fn a_code_counts_once_and_for_an_hour() {
        in_store(|connection| {
            assert!(offer(connection, &claim("1"), "Ann", NOW)?);
            let code = offered(connection);
            assert!(!offer(connection, &claim("1"), "Ann", NOW + LIFE_MS - 1)?, "one reply an hour");
            let approve = |code: &str, role, now| approve(connection, &hash(code), role, &BY_OPERATOR, now);
            assert_eq!(approve("AAAAAAAA", Role::User, NOW)?, None);
            assert_eq!(approve(&code, Role::User, NOW + LIFE_MS)?, None, "expired");
            let approved = approve(&code.to_lowercase(), Role::User, NOW + 5)?.unwrap();
            assert_eq!(approved.pairing.user_id, "1");
            assert_eq!(role(connection, "telegram", "1")?, Some(Role::User));
            assert_eq!(approve(&code, Role::Admin, NOW + 6)?, None, "used");
            assert_eq!(role(connection, "telegram", "1")?, Some(Role::User));
            let open = |user: &str| offer(connection, &claim(user), "", NOW + 10);
            assert_eq!((open("2")?, open("3")?, open("4")?, open("5")?), (true, true, true, false));
            assert!(offer(connection, &claim("5"), "", NOW + 10 + LIFE_MS)?, "an hour later there is room");
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_denied_code_is_void_and_its_bearer_gets_no_new_one_within_the_hour() {
        in_store(|connection| {
            offer(connection, &claim("1"), "Ann", NOW)?;
            let code = offered(connection);
            assert!(deny(connection, &hash(&code), &BY_OPERATOR, NOW + 1)?.is_some());
            assert_eq!(approve(connection, &hash(&code), Role::User, &BY_OPERATOR, NOW + 2)?, None);
            assert!(!offer(connection, &claim("1"), "Ann", NOW + 3)?);
            Ok(())
        })
        .await;
    }

    /// G-P38: five wrong tries of one person, twenty of all; ten minutes; once.
    #[tokio::test]
    async fn the_owner_code_has_few_tries_and_little_time() {
        in_store(|connection| {
            let attempt = |user: &str, code: &str, now| try_owner_code(connection, &claim(user), "", code, now);
            assert_eq!(attempt("1", "x", NOW)?, OwnerTry::None, "there is none");
            let code = new_owner_code(connection, "telegram", NOW)?;
            assert_eq!(attempt("1", &code, NOW + OWNER_LIFE_MS)?, OwnerTry::None, "expired");
            for _ in 0..5 {
                assert_eq!(attempt("1", "WRONG", NOW)?, OwnerTry::Wrong);
            }
            assert_eq!(attempt("1", &code, NOW)?, OwnerTry::None, "too many tries of this person");
            assert_eq!(attempt("2", &code, NOW)?, OwnerTry::Right);
            assert_eq!(role(connection, "telegram", "2")?, Some(Role::Admin));
            assert_eq!(attempt("3", &code, NOW)?, OwnerTry::None, "used");
            let code = new_owner_code(connection, "telegram", NOW)?;
            for user in ["a", "b", "c", "d"] {
                for _ in 0..5 {
                    assert_eq!(attempt(user, "WRONG", NOW)?, OwnerTry::Wrong);
                }
            }
            assert_eq!(attempt("e", &code, NOW)?, OwnerTry::None, "too many tries of all");
            assert_eq!(role(connection, "telegram", "e")?, None);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn codes_are_kept_as_hashes() {
        in_store(|connection| {
            offer(connection, &claim("1"), "Ann", NOW)?;
            let code = offered(connection);
            let kept: String = connection.query_row("SELECT code_hash FROM pairings", [], |row| row.get(0))?;
            assert_eq!(kept, hash(&code));
            Ok(())
        })
        .await;
    }
}
