//! `[server.limits]` of what is kept, in the running binary.

use std::time::Duration;

use stakpak_client::{Message, SendMessageOptions};

use crate::support::{Home, PATIENCE, stderr};

/// The job runs under `up` by itself and holds the bounds of the file.
#[tokio::test(flavor = "multi_thread")]
async fn old_events_go_by_themselves_and_messages_stay() {
    let home = Home::new();
    home.write("autopilot.toml", "[server.limits]\nevents_age = \"1s\"\n");
    let up = home.up();
    let client = up.client();
    let session = client.create_session("kept").await.unwrap().id.to_string();
    let posted =
        client.send_messages(&session, vec![Message::user("help")], SendMessageOptions::default()).await.unwrap();
    let mut events = client.subscribe_events(&session, Some(posted.cursor)).await.unwrap();
    while !events.next_event().await.unwrap().is_run_terminal() {}

    let gap = async {
        loop {
            let mut events = client.subscribe_events(&session, Some(0)).await.unwrap();
            if let Some(gap) = events.next_event().await.unwrap().as_gap_detected() {
                return (gap, events.next_event().await.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (gap, newest) = tokio::time::timeout(PATIENCE, gap).await.expect("the first events go");
    assert_eq!((gap.oldest_available_id, gap.requested_after_id), (gap.newest_available_id, 0));
    assert!(newest.is_run_terminal() && newest.event_id_u64 == Some(gap.newest_available_id));
    assert_eq!(client.get_messages(&session, 100, 0).await.unwrap().total, 3);
}

#[test]
fn a_bound_that_cannot_be_read_stops_the_start_and_says_where() {
    let home = Home::new();
    home.write("autopilot.toml", "[server.limits]\nevents_bytes = \"plenty\"\n");
    let output = home.run(&["up", "--bind", "127.0.0.1:0"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("autopilot.toml:2") && told.contains("events_bytes") && told.contains("64 MiB"), "{told}");
}
