//! The prompt of a delivery: it waits, `awaiting`, until the messages before it have come to an end.
//!
//! * With all of them sent, or perhaps sent, it is accepted. If one was refused for good, it is not run, nor when that one
//!   is sent again: the program was told that nothing was started, and may have started it otherwise.
//! * One in a session of its own does not wait for a platform that is slow: the program's request releases it.
//! * Who answers a message of the bot goes on in the conversation that the message belongs to.

use stakpak_sqlite::rusqlite::{Connection, OptionalExtension, params};

use super::{
    GatewayStore, Part, StoreError,
    sends::{address_of, delivery_of, part_states, readdress},
};
use crate::Address;

impl GatewayStore {
    /// Conversations with a prompt of a program that no run has taken up.
    pub(crate) async fn released_prompts(&self) -> Result<Vec<String>, StoreError> {
        self.database
            .read(|connection| {
                let sql = "SELECT DISTINCT routing_key FROM inbox WHERE state = 'accepted' AND kind = 'api'";
                let mut statement = connection.prepare_cached(sql)?;
                let keys = statement.query_map([], |row| row.get(0))?;
                Ok(keys.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The prompt of a delivery waits for its texts no longer. False if it did not wait.
    pub(crate) async fn release_prompt(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |connection| {
                let sql = "UPDATE inbox SET state = 'accepted'
                           WHERE id = (SELECT prompt FROM deliveries WHERE id = ?1) AND state = 'awaiting'";
                Ok(connection.prepare_cached(sql)?.execute([id])? > 0)
            })
            .await
    }

    /// Whether the bot opened this thread with a message of its own.
    pub(crate) async fn opened_thread(&self, address: &Address) -> Result<bool, StoreError> {
        let (lane, thread) = (address.chat_key(), address.thread.clone());
        self.database
            .read(move |connection| {
                let sql =
                    "SELECT 1 FROM outbox WHERE platform_message_id = ?1 AND lane = ?2 AND idem_key LIKE 'send:%'";
                Ok(connection.prepare_cached(sql)?.exists(params![thread, lane])?)
            })
            .await
    }
}

/// Where the prompt of a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptState {
    /// For its texts.
    Waits,
    /// It was run, or will be.
    Taken,
    /// One of its texts was refused: it is not run.
    Dropped,
    /// The server refused it.
    Refused,
}

/// None when the delivery has no prompt.
pub(super) fn prompt_state(connection: &Connection, id: &str) -> Result<Option<PromptState>, StoreError> {
    let sql = "SELECT inbox.state, inbox.batch_id IS NOT NULL FROM deliveries
               LEFT JOIN inbox ON inbox.id = deliveries.prompt
               WHERE deliveries.id = ?1 AND deliveries.prompt IS NOT NULL";
    let read = |row: &stakpak_sqlite::rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: Option<(Option<String>, bool)> = connection.prepare_cached(sql)?.query_row([id], read).optional()?;
    Ok(found.map(|(state, is_batched)| match (state.as_deref(), is_batched) {
        (Some("awaiting"), _) => PromptState::Waits,
        (Some("dead"), true) => PromptState::Refused,
        (Some("dead"), false) => PromptState::Dropped,
        _ => PromptState::Taken,
    }))
}

/// A message came to an end. True if a prompt may run now.
pub(super) fn part_ended(
    connection: &Connection,
    idem_key: &str,
    message_id: Option<&str>,
) -> Result<bool, StoreError> {
    let Some(id) = delivery_of(idem_key) else { return Ok(false) };
    if let Some(message_id) = message_id.filter(|_| idem_key == format!("send:{id}:text:0")) {
        move_beneath(connection, id, message_id)?;
    }
    let sql = "SELECT inbox.id FROM deliveries JOIN inbox ON inbox.id = deliveries.prompt
               WHERE deliveries.id = ?1 AND inbox.state = 'awaiting'";
    let prompt: Option<i64> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    let Some(prompt) = prompt else { return Ok(false) };
    let parts = part_states(connection, id)?;
    let any = |states: &[&str]| parts.iter().any(|part| states.contains(&part.state.as_str()));
    let state = if any(&["failed", "dropped"]) {
        "dead"
    } else if any(&["queued", "sending"]) {
        return Ok(false);
    } else {
        "accepted"
    };
    connection.prepare_cached("UPDATE inbox SET state = ?2 WHERE id = ?1")?.execute(params![prompt, state])?;
    Ok(state == "accepted")
}

/// On Slack the first message of a delivery opens a thread: what follows it, and what is said there, belongs together.
fn move_beneath(connection: &Connection, id: &str, message_id: &str) -> Result<(), StoreError> {
    let Some(from) = address_of(connection, id)? else { return Ok(()) };
    match from.beneath(message_id) {
        Some(to) => move_delivery(connection, id, &from, &to),
        None => Ok(()),
    }
}

/// What a run says that began before the first message of its delivery was sent goes into the thread that it opened since.
pub(super) fn in_thread(connection: &Connection, part: Part) -> Result<Part, StoreError> {
    if part.address.beneath("").is_none() {
        return Ok(part);
    }
    let mut words = part.idem_key.split(':');
    let (sql, id) = match (words.next(), words.next()) {
        (Some("run"), id) => ("SELECT address FROM runs WHERE run_id = ?1 AND address <> ?2", id),
        // The prompt itself may be asked for in another chat.
        (Some("approval"), id) => {
            ("SELECT runs.address FROM approvals JOIN runs USING (run_id) WHERE approvals.id = ?1 AND origin = ?2", id)
        }
        _ => return Ok(part),
    };
    let address = serde_json::to_string(&part.address)?;
    let found: Option<String> =
        connection.prepare_cached(sql)?.query_row(params![id, address], |row| row.get(0)).optional()?;
    let Some(place) = found.filter(|place| *place != address) else { return Ok(part) };
    let sql = "UPDATE outbox SET address = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![part.id, place])?;
    Ok(Part { address: serde_json::from_str(&place)?, ..part })
}

/// What of a delivery is not sent yet, its prompt and its context belong to another place from here on.
pub(super) fn move_delivery(connection: &Connection, id: &str, from: &Address, to: &Address) -> Result<(), StoreError> {
    readdress(connection, id, to)?;
    let place = serde_json::to_string(to)?;
    let sql = "UPDATE deliveries SET address = ?2 WHERE id = ?1 RETURNING prompt, routing_key, created_at";
    let read = |row: &stakpak_sqlite::rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (prompt, routing_key, created_at): (Option<i64>, Option<String>, i64) =
        connection.prepare_cached(sql)?.query_row(params![id, place], read)?;
    connection.prepare_cached("UPDATE inbox SET address = ?2 WHERE id = ?1")?.execute(params![prompt, place])?;
    // A run that did not wait for the first message tells the rest there.
    let sql = "UPDATE runs SET address = ?2 WHERE run_id = (SELECT run_id FROM inbox WHERE id = ?1)";
    connection.prepare_cached(sql)?.execute(params![prompt, place])?;
    let sql = "UPDATE sessions SET channel_meta = json_set(channel_meta, '$.target_key', ?2) WHERE routing_key = ?1";
    connection.prepare_cached(sql)?.execute(params![routing_key, to.target_key()])?;
    let sql = "UPDATE OR REPLACE delivery_context SET target_key = ?3
               WHERE channel = ?1 AND target_key = ?2 AND delivered_at = ?4";
    connection.prepare_cached(sql)?.execute(params![
        to.channel.as_str(),
        from.target_key(),
        to.target_key(),
        created_at
    ])?;
    Ok(())
}

/// The conversation that a message of the bot belongs to, if it is of a run or of a delivery with one.
pub(super) fn conversation_of(
    connection: &Connection,
    lane: &str,
    message_id: &str,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT idem_key FROM outbox WHERE platform_message_id = ?1 AND lane = ?2 ORDER BY id DESC LIMIT 1";
    let key: Option<String> =
        connection.prepare_cached(sql)?.query_row([message_id, lane], |row| row.get(0)).optional()?;
    let mut words = key.as_deref().unwrap_or_default().split(':');
    let sql = match words.next() {
        Some("send") => "SELECT routing_key FROM deliveries WHERE id = ?1",
        Some("run") => "SELECT routing_key FROM runs WHERE run_id = ?1",
        _ => return Ok(None),
    };
    let found = connection.prepare_cached(sql)?.query_row([words.next()], |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        Body, DeliveryContext, Queued,
        dispatcher::Sent,
        store::{Approval, Content, NewInbox, NewPart, NewSend, OpenRun, Stage, Work},
    };

    fn slack(chat: &str) -> Address {
        Address { channel: "slack".into(), chat: chat.to_owned(), thread: None, direct: None }
    }

    fn send(address: &Address, prompt: bool) -> NewSend {
        let part = |key: &str| NewPart {
            idem_key: format!("send:d:{key}:0"),
            address: address.clone(),
            content: Content::Text { body: Body::plain(key) },
        };
        let row = NewInbox {
            channel: "slack".to_owned(),
            account: "api".to_owned(),
            event_key: "d".to_owned(),
            kind: "api",
            state: "awaiting",
            routing_key: "slack:group:C1#d".to_owned(),
            address: Some(address.clone()),
            sender: None,
            order_key: 0,
            message_id: None,
            payload: r#"{"text": "why?"}"#.to_owned(),
        };
        NewSend {
            idem_key: None,
            body_hash: String::new(),
            delivery_id: "d".to_owned(),
            address: address.clone(),
            parts: vec![part("text"), part("check")],
            prompt: prompt.then(|| (row, "s".to_owned())),
            context: Some((DeliveryContext(serde_json::json!({"status": "failed"})), 100)),
        }
    }

    /// G-P46: on Slack everything that follows the first message is in its thread, and who answers there needs no mention.
    #[tokio::test]
    async fn what_follows_a_text_on_slack_is_in_its_thread() {
        let store = GatewayStore::open_in_memory().unwrap();
        let channel = slack("C1");
        store.begin_send(send(&channel, true), 1).await.unwrap();
        let first = store.take_part("slack:C1").await.unwrap();
        assert!(
            !store.sent(first.id, Some("17.1".to_owned())).await.unwrap().released,
            "the check output is not sent yet"
        );
        let second = store.take_part("slack:C1").await.unwrap();
        let thread = Address { thread: Some("17.1".to_owned()), ..channel };
        assert_eq!(second.address, thread);
        assert!(store.sent(second.id, Some("17.2".to_owned())).await.unwrap().released, "now the run may start");
        assert_eq!(store.delivery("d").await.unwrap().unwrap().address, thread);
        assert_eq!(store.released_prompts().await.unwrap(), ["slack:group:C1#d"]);
        let work = store.next_work("slack:group:C1#d", Queued::Each, 2, |_| None).await.unwrap();
        let Some(Work::Start(batch)) = work else { panic!("{work:?}") };
        assert_eq!((&batch.address, batch.context.is_some()), (&thread, true));

        assert!(store.opened_thread(&thread).await.unwrap());
        let elsewhere = Address { chat: "C2".to_owned(), ..thread };
        assert!(!store.opened_thread(&elsewhere).await.unwrap());
        let of = |lane: &'static str, id: &'static str| {
            let database = store.database.clone();
            async move { database.read(move |connection| conversation_of(connection, lane, id)).await.unwrap() }
        };
        assert_eq!(of("slack:C1", "17.1").await.as_deref(), Some("slack:group:C1#d"));
        assert_eq!(of("slack:C1", "17.2").await.as_deref(), Some("slack:group:C1#d"));
        assert_eq!(of("slack:C2", "17.1").await, None);
    }

    /// A run in a session of its own does not wait for its first message; what it says does, in the thread of that message.
    #[tokio::test]
    async fn a_run_that_did_not_wait_answers_in_the_thread_all_the_same() {
        let store = GatewayStore::open_in_memory().unwrap();
        let (channel, elsewhere) = (slack("C1"), slack("C2"));
        store.begin_send(send(&channel, true), 1).await.unwrap();
        assert!(store.release_prompt("d").await.unwrap());
        let work = store.next_work("slack:group:C1#d", Queued::Each, 2, |_| None).await.unwrap();
        let Some(Work::Start(batch)) = work else { panic!("{work:?}") };
        assert_eq!(batch.address, channel, "there is no thread yet");
        let run = OpenRun { run_id: "r".to_owned(), address: channel.clone(), ..run() };
        store.started(&batch, &run, None).await.unwrap();
        let part = |key: &str, address: &Address| NewPart {
            idem_key: key.to_owned(),
            address: address.clone(),
            content: Content::Text { body: Body::plain(key) },
        };
        let approval = approval("a", &run, &elsewhere);
        let parts = vec![part("approval:a:note:0", &channel), part("approval:a:prompt", &elsewhere)];
        store.ask(approval, parts).await.unwrap();
        store.queue_parts(vec![part("run:r:0:0", &channel), part("send:e:text:0", &channel)], 3).await.unwrap();

        let mut sent = Vec::new();
        for lane in ["slack:C1", "slack:C2"] {
            while let Some(part) = store.take_part(lane).await {
                store.sent(part.id, Some(format!("17.{}", sent.len()))).await.unwrap();
                sent.push((part.idem_key, part.address.thread));
            }
        }
        let thread = || Some("17.0".to_owned());
        assert_eq!(
            sent,
            [
                ("send:d:text:0".to_owned(), None),
                ("send:d:check:0".to_owned(), thread()),
                ("approval:a:note:0".to_owned(), thread()),
                ("run:r:0:0".to_owned(), thread()),
                ("send:e:text:0".to_owned(), None),
                ("approval:a:prompt".to_owned(), None),
            ]
        );
        let answer = store.message_of("run:r:0:0").await.unwrap().unwrap();
        assert_eq!(answer.address.thread, thread(), "edits find it");
    }

    fn run() -> OpenRun {
        OpenRun {
            run_id: String::new(),
            session_id: "s".to_owned(),
            address: slack("C1"),
            cursor: 0,
            started_at: 2,
            question: None,
            requester: None,
            timeout_s: None,
            sent: Sent::default(),
            fresh: true,
        }
    }

    fn approval(id: &str, run: &OpenRun, address: &Address) -> Approval {
        Approval {
            id: id.to_owned(),
            run_id: run.run_id.clone(),
            session_id: run.session_id.clone(),
            routing_key: String::new(),
            calls: Vec::new(),
            cwd: None,
            args_hash: String::new(),
            policy_version: String::new(),
            requester: None,
            origin: run.address.clone(),
            address: address.clone(),
            prompt_key: format!("approval:{id}:prompt"),
            file_key: None,
            stage: Stage::Open,
            decisions: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            created_at: 3,
            remind_at: None,
            expires_at: 4,
        }
    }

    /// Without a run the context waits for whoever answers in the thread.
    #[tokio::test]
    async fn the_context_of_a_text_on_slack_is_that_of_its_thread() {
        let store = GatewayStore::open_in_memory().unwrap();
        store.begin_send(send(&slack("C1"), false), 1).await.unwrap();
        let first = store.take_part("slack:C1").await.unwrap();
        store.sent(first.id, Some("17.1".to_owned())).await.unwrap();
        let kept: Vec<String> = store
            .database
            .read(|connection| {
                let mut statement = connection.prepare("SELECT target_key FROM delivery_context")?;
                let keys = statement.query_map([], |row| row.get(0))?;
                Ok::<_, StoreError>(keys.collect::<Result<_, _>>()?)
            })
            .await
            .unwrap();
        assert_eq!(kept, ["slack:channel:C1:thread:17.1"]);
    }

    #[tokio::test]
    async fn a_direct_chat_on_slack_has_no_threads() {
        assert_eq!(slack("D024BE91L").beneath("1"), None);
        assert_eq!(slack("U024BE91L").beneath("1"), None);
        assert!(slack("#Deploys").beneath("1").is_some());
    }
}
