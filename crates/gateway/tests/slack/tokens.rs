//! What is wrong with tokens, scopes and hosts is told apart, by name and without the token.

use std::sync::Arc;

use stakpak_gateway::{Channel, ChannelError};
use stakpak_test_support::{SlackApi, SlackFault};
use tokio_util::sync::CancellationToken;

use crate::{adapter, sink::Sink};

#[tokio::test]
async fn a_good_set_up_names_the_bot_and_what_it_does_without() {
    let slack = SlackApi::start().await;
    slack.revoke_scope("users:read");
    let tested = adapter(&slack.base_url(), "").test().await.unwrap();
    assert_eq!(tested.identity, "@stakpak");
    assert!(tested.details.contains("works without names of people (`users:read`)"), "{}", tested.details);
}

#[tokio::test]
async fn each_absent_scope_is_named() {
    let slack = SlackApi::start().await;
    slack.revoke_scope("mpim:history");
    slack.revoke_scope("app_mentions:read");
    let error = adapter(&slack.base_url(), "").test().await.unwrap_err();
    assert!(
        matches!(&error, ChannelError::MissingScope { scope, .. } if scope == "mpim:history, app_mentions:read"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_bad_bot_token_a_bad_app_token_and_a_dead_host_are_three_things() {
    let slack = SlackApi::start().await;
    let channel = adapter(&slack.base_url(), "");
    slack.fail_next("auth.test", None, SlackFault::Refused("invalid_auth"));
    let bot = channel.test().await.unwrap_err().to_string();
    slack.fail_next("apps.connections.open", None, SlackFault::Refused("invalid_auth"));
    let app = channel.test().await.unwrap_err().to_string();
    let fresh = adapter(&slack.base_url(), "");
    drop(slack);
    let host = fresh.test().await.unwrap_err().to_string();
    assert!(bot.contains("`bot_token`: invalid_auth"), "{bot}");
    assert!(app.contains("`app_token`: invalid_auth"), "{app}");
    assert!(host.starts_with("cannot reach 127.0.0.1:"), "{host}");
    // G-P50.
    assert!([bot, app, host].iter().all(|error| !error.contains("xoxb") && !error.contains("xapp")));
    assert!(!format!("{channel:?}").contains("xoxb"));
}

#[tokio::test]
async fn a_start_with_bad_tokens_fails_as_that() {
    let slack = SlackApi::start().await;
    slack.revoke_tokens(true);
    let channel = adapter(&slack.base_url(), "");
    let outcome = channel.start_durable(Arc::new(Sink::default()), CancellationToken::new()).await;
    assert!(matches!(outcome, Err(ChannelError::Unauthorized { .. })), "{outcome:?}");
}
