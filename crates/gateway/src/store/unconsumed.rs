//! Messages that a run was given and did not use: they wait again.
//!
//! The run tells their texts with its own placeholders, the store keeps them with its; so placeholders are all the same.

use std::{borrow::Cow, convert::Infallible};

use stakpak_redact::{REDACTED, replace_placeholders};
use stakpak_sqlite::rusqlite::Connection;

use super::StoreError;

pub(super) fn wait_again(connection: &Connection, run_id: &str, unconsumed: &[String]) -> Result<(), StoreError> {
    if unconsumed.is_empty() {
        return Ok(());
    }
    let sql = "SELECT id, payload ->> 'text' FROM inbox WHERE run_id = ?1 AND state = 'steered'";
    let mut statement = connection.prepare_cached(sql)?;
    let steered = statement.query_map([run_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let steered: Vec<(i64, String)> = steered.collect::<Result<_, _>>()?;
    let unconsumed: Vec<_> = unconsumed.iter().map(|text| without_names(text)).collect();
    for (id, _) in steered.into_iter().filter(|(_, text)| unconsumed.contains(&without_names(text))) {
        let sql = "UPDATE inbox SET state = 'accepted', run_id = NULL WHERE id = ?1";
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

fn without_names(text: &str) -> Cow<'_, str> {
    let Ok(without) = replace_placeholders::<_, Infallible>(text, |_| Ok(Some(REDACTED)));
    without
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_a_secret_waits_again_under_another_placeholder() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE inbox (id INTEGER PRIMARY KEY, run_id TEXT, state TEXT, payload TEXT);
                 INSERT INTO inbox (run_id, state, payload) VALUES
                 ('r', 'steered', '{\"text\":\"use [REDACTED_SECRET:jwt:aaaaaa] now\"}'),
                 ('r', 'steered', '{\"text\":\"and hurry\"}'),
                 ('r', 'steered', '{\"text\":\"[REDACTED_SECRET:jwt:aaaaaa] was used\"}'),
                 ('other', 'steered', '{\"text\":\"and hurry\"}');",
            )
            .unwrap();
        let unconsumed = ["use [REDACTED_SECRET:jwt:bbbbbb] now".to_owned(), "and hurry".to_owned()];
        wait_again(&connection, "r", &unconsumed).unwrap();
        let mut statement = connection.prepare("SELECT state, run_id FROM inbox ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(String, Option<String>)> = rows.map(Result::unwrap).collect();
        let waits = ("accepted".to_owned(), None);
        let stays = |run: &str| ("steered".to_owned(), Some(run.to_owned()));
        assert_eq!(rows, [waits.clone(), waits, stays("r"), stays("other")]);
    }
}
