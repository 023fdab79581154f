//! Approvals in a chat: who is asked, who decides, and that what was decided happens once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::{Value, json};
use stakpak_gateway::{PressAnswer, Role, Subject};
use support::{
    ANN, BOB, EVE, Stage,
    chat::{Shown, direct, group},
};

const APPROVERS: &str = "allow_users = [1, 3]\napprovers = [2]";

fn command(id: &'static str, command: &str) -> (&'static str, &'static str, Value) {
    (id, "stakpak__run_command", json!({ "command": command }))
}

fn refused(answer: &PressAnswer) -> &str {
    match answer {
        PressAnswer::Refused(reason) => reason,
        PressAnswer::Taken => panic!("the press counted"),
    }
}

/// G-P11: without `approval_mode` a person is asked, and what runs is what was allowed.
#[tokio::test]
async fn an_absent_mode_prompts_and_the_requester_decides_where_nobody_is_named() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "systemctl restart nginx")]);
    stage.chat.say(ANN, "restart nginx").await;
    let prompt = stage.chat.prompt(1).await;
    assert!(prompt.text.contains("systemctl restart nginx") && prompt.text.contains("for Ann"), "{prompt:?}");
    assert_eq!(prompt.buttons, ["Allow", "Allow for this session", "Deny", "Show all"]);
    assert_eq!(stage.agent.posts(), 0);
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
    let decision = stage.agent.decision("c1").await;
    assert_eq!((&decision["action"], &decision["by"]), (&json!("accept"), &json!("Ann")));
    let outcome = stage.chat.wait_for("the outcome", |shown| shown.id == prompt.id && shown.buttons.is_empty()).await;
    assert!(outcome.text.starts_with("Allowed by Ann.") && outcome.text.contains("nginx"), "{outcome:?}");
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
}

/// G-P11: whatever the profile would let run asks too, and is rejected.
#[tokio::test]
async fn deny_all_denies_without_asking() {
    let stage = Stage::new("approval_mode = \"deny_all\"", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let decision = stage.agent.decision("c1").await;
    assert_eq!(decision["action"], "reject");
    assert!(decision["content"].as_str().unwrap().contains("deny_all"), "{decision}");
    assert_eq!(stage.agent.posted()[0].1["overrides"], json!({"caller_auto_approve": "none"}));
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    assert!(stage.chat.shown().iter().all(|shown| shown.payloads.is_empty()));
}

/// G-P29: whoever may not, from elsewhere, again, or too late: nothing changes, and they hear why.
#[tokio::test]
async fn a_press_counts_once_from_the_prompt_by_who_may() {
    let stage = Stage::new("", APPROVERS).await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    let allow = prompt.payload("Allow");
    assert!(refused(&stage.chat.press(EVE, &prompt, &allow).await).contains("not an approver"));
    assert!(refused(&stage.chat.press(ANN, &prompt, &allow).await).contains("not an approver"), "the requester");
    let elsewhere = stage.chat.press_as(BOB, direct(BOB), &prompt.id, &allow, None).await;
    assert!(refused(&elsewhere).contains("not the message"));
    let forged = stage.chat.press_as(BOB, group("-5"), "out99", &allow, None).await;
    assert!(refused(&forged).contains("not the message"));
    let unknown = format!("a:{}:allow", "A".repeat(26));
    assert!(refused(&stage.chat.press(BOB, &prompt, &unknown).await).contains("not known"));
    assert!(refused(&stage.chat.press(BOB, &prompt, "a:7:allow").await).contains("expired"));
    assert_eq!(stage.agent.posts(), 0);
    let taken = stage.chat.press_as(BOB, group("-5"), &prompt.id, &allow, Some("once")).await;
    assert_eq!(taken, PressAnswer::Taken);
    stage.agent.decision("c1").await;
    let deny = allow.replace("allow", "deny");
    assert!(refused(&stage.chat.press(BOB, &prompt, &deny).await).contains("decided by Bob"));
    let answers = stage.chat.answers();
    // The same press delivered again is no second press.
    stage.chat.press_as(BOB, group("-5"), &prompt.id, &allow, Some("once")).await;
    assert_eq!((stage.chat.answers(), stage.agent.posts()), (answers, 1));
    assert_eq!(stage.agent.decisions()["c1"]["action"], "accept");
}

/// A press may be heard of before the receipt of its prompt is: it counts, once, by who may, and from no message that is
/// known to be another one.
#[tokio::test]
async fn a_press_that_is_faster_than_the_receipt_of_its_prompt_counts() {
    let mut stage = Stage::new("", APPROVERS).await;
    stage.agent.will_propose(vec![command("c0", "true")]);
    stage.chat.say_in(group("-5"), ANN, "first").await;
    let earlier = stage.chat.prompt(1).await;
    stage.chat.press(BOB, &earlier, &earlier.payload("Deny")).await;
    stage.agent.decision("c0").await;

    stage.chat.hold_receipts(true);
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let is_asked = |shown: &Shown| shown.text.contains("ls") && shown.buttons.len() > 1;
    let prompt = stage.chat.wait_for("the prompt", is_asked).await;
    let allow = prompt.payload("Allow");
    assert!(refused(&stage.chat.press(EVE, &prompt, &allow).await).contains("not an approver"));
    let elsewhere = stage.chat.press_as(BOB, direct(BOB), &prompt.id, &allow, None).await;
    assert!(refused(&elsewhere).contains("not the message"));
    let from_another = stage.chat.press_as(BOB, group("-5"), &earlier.id, &allow, None).await;
    assert!(refused(&from_another).contains("not the message"));
    assert_eq!(stage.agent.posts(), 1);
    assert_eq!(stage.chat.press(BOB, &prompt, &allow).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
    let again = stage.chat.press(BOB, &prompt, &prompt.payload("Deny")).await;
    assert!(refused(&again).contains("decided by Bob"));
    stage.chat.hold_receipts(false);
    let outcome = stage.chat.wait_for("the outcome", |shown| shown.id == prompt.id && shown.buttons.is_empty()).await;
    assert!(outcome.text.starts_with("Allowed by Bob."), "{outcome:?}");

    // Nothing was heard of the prompt when the process ended: it may be there.
    stage.chat.hold_receipts(true);
    stage.agent.will_propose(vec![command("c2", "df")]);
    stage.chat.say_in(group("-5"), ANN, "disks").await;
    let prompt = stage.chat.wait_for("the prompt", |shown| shown.text.contains("df") && shown.buttons.len() > 1).await;
    stage.kill().await;
    stage.start().await;
    assert_eq!(stage.chat.press(BOB, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c2").await["action"], "accept");
}

/// G-P29: a press after the end of its time is refused, and the end is a denial that the model hears of.
#[tokio::test]
async fn what_nobody_decides_in_time_is_denied() {
    let mut stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.kill().await;
    // Its time runs out while the gateway is down (G-P35).
    let database = rusqlite::Connection::open(stage.store_path()).unwrap();
    database.execute("UPDATE approvals SET expires_at = created_at + 1", []).unwrap();
    drop(database);
    stage.start().await;
    let decision = stage.agent.decision("c1").await;
    assert_eq!(decision["action"], "reject");
    assert!(decision["content"].as_str().unwrap().contains("nobody decided"), "{decision}");
    stage.chat.wait_for("a notice", |shown| shown.text.starts_with("Denied, because nobody decided")).await;
    let outcome = stage.chat.wait_for("the outcome", |shown| shown.id == prompt.id && shown.buttons.is_empty()).await;
    assert!(outcome.text.starts_with("Denied"), "{outcome:?}");
    let late = stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    assert!(refused(&late).contains("Already decided by nobody in time"), "{late:?}");
}

/// G-P35: the button of a prompt that an earlier process sent works.
#[tokio::test]
async fn a_prompt_outlives_the_process() {
    let mut stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.kill().await;
    stage.start().await;
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Deny")).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "reject");
    stage.chat.wait_for("the answer", |shown| shown.text == "All done.").await;
    let prompts = stage.chat.shown().into_iter().filter(|shown| !shown.payloads.is_empty()).count();
    assert_eq!(prompts, 1, "it is not asked twice");
}

/// A decision that the server could not hear is told until it has, also by another process.
#[tokio::test]
async fn a_decision_is_told_until_the_server_confirms() {
    let mut stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.is_down(true);
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    stage.kill().await;
    stage.agent.is_down(false);
    stage.start().await;
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
}

/// G-P32: the old press does not run what the call has become; it is asked about anew.
#[tokio::test]
async fn arguments_that_change_after_the_prompt_are_asked_about_again() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.change("c1", json!({"command": "rm -rf /"}));
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    let second = stage.chat.prompt(2).await;
    assert!(second.text.contains("rm -rf /"), "{second:?}");
    assert_eq!(stage.agent.posts(), 0, "nothing was told to the server");
    assert_ne!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
    assert_eq!(stage.chat.press(ANN, &second, &second.payload("Deny")).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "reject");
}

/// G-P34: what is typed while a prompt is open decides nothing and is not lost.
#[tokio::test]
async fn typing_decides_nothing_and_waits() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.chat.say(ANN, "yes").await;
    stage.chat.wait_for("a hint", |shown| shown.text.contains("This message waits")).await;
    stage.chat.say(ANN, "no").await;
    assert_eq!((stage.agent.posts(), stage.agent.messages().len()), (0, 1));
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    stage.agent.wait_for_messages(3).await;
    let messages = stage.agent.messages();
    assert!(messages[1].contains("yes") && messages[2].contains("no"), "{messages:?}");
    let hints = stage.chat.shown().iter().filter(|shown| shown.text.contains("This message waits")).count();
    assert_eq!(hints, 1);
}

#[tokio::test]
async fn a_message_denies_the_prompt_if_that_is_configured() {
    let stage = Stage::new("message_while_pending = \"reject\"", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say(ANN, "list").await;
    stage.chat.prompt(1).await;
    stage.chat.say(ANN, "no, rather this").await;
    assert_eq!(stage.agent.decision("c1").await["action"], "reject");
    stage.agent.wait_for_messages(2).await;
}

/// G-P36: two open approvals in one session, and several presses at once: each is decided once.
#[tokio::test]
async fn two_approvals_and_simultaneous_presses_are_decided_once_each() {
    let stage = Stage::new("", "allow_users = [1]\napprovers = [2, 3]").await;
    stage.agent.will_propose(vec![command("c1", "one")]);
    stage.chat.say_in(group("-5"), BOB, "both").await;
    let first = stage.chat.prompt(1).await;
    stage.agent.propose(vec![command("c2", "two")]);
    let second = stage.chat.prompt(2).await;
    assert!(second.text.contains("two") && !second.text.contains("one"), "{second:?}");
    let (allow, deny) = (first.payload("Allow"), first.payload("Deny"));
    let answers = tokio::join!(
        stage.chat.press(BOB, &first, &allow),
        stage.chat.press(EVE, &first, &deny),
        stage.chat.press(BOB, &first, &deny),
        stage.chat.press(EVE, &first, &allow),
    );
    let taken = [answers.0, answers.1, answers.2, answers.3].iter().filter(|a| **a == PressAnswer::Taken).count();
    assert_eq!(taken, 1);
    stage.agent.decision("c1").await;
    assert!(!stage.agent.decisions().contains_key("c2"));
    stage.chat.press(EVE, &second, &second.payload("Deny")).await;
    assert_eq!(stage.agent.decision("c2").await["action"], "reject");
    assert_eq!(stage.agent.posts(), 2);
}

/// Calls of one prompt can be decided one by one; each is told at once.
#[tokio::test]
async fn calls_can_be_decided_one_by_one() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "one"), command("c2", "two")]);
    stage.chat.say(ANN, "both").await;
    let prompt = stage.chat.prompt(1).await;
    assert!(prompt.buttons.contains(&"Allow All".to_owned()), "{prompt:?}");
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow 2")).await;
    assert_eq!(stage.agent.decision("c2").await["action"], "accept");
    stage.chat.wait_for("a note", |shown| shown.id == prompt.id && shown.text.contains("Not all is decided yet")).await;
    assert!(refused(&stage.chat.press(ANN, &prompt, &prompt.payload("Deny 2")).await).contains("Already decided"));
    stage.chat.press(ANN, &prompt, &prompt.payload("Deny All")).await;
    assert_eq!(stage.agent.decision("c1").await["action"], "reject");
    assert_eq!(stage.agent.decisions()["c2"]["action"], "accept");
}

/// G-P30: what has no room in the prompt is a file before it.
#[tokio::test]
async fn a_long_command_is_a_file_before_the_buttons() {
    let stage = Stage::new("", "allow_users = [1]").await;
    let long = format!("echo {} end-of-it", "words and ".repeat(500));
    stage.agent.will_propose((0..30).map(|_| command("c1", &long)).take(1).collect());
    stage.chat.say(ANN, "long").await;
    let prompt = stage.chat.prompt(1).await;
    let shown = stage.chat.shown();
    let file = shown.iter().position(|shown| shown.file.is_some()).unwrap();
    assert!(file < shown.iter().position(|shown| shown.id == prompt.id).unwrap());
    assert!(shown[file].file.as_ref().unwrap().contains(&long));
    assert!(prompt.text.encode_utf16().count() <= 2000 && prompt.text.contains("file above"), "{prompt:?}");
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
}

/// G-P30: without the file there is no way to allow until everything was shown as messages.
#[tokio::test]
async fn without_the_file_nothing_can_be_allowed_unseen() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.chat.refuse_files();
    const IDS: [&str; 30] = [
        "i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7", "i8", "i9", "i10", "i11", "i12", "i13", "i14", "i15", "i16",
        "i17", "i18", "i19", "i20", "i21", "i22", "i23", "i24", "i25", "i26", "i27", "i28", "i29",
    ];
    stage
        .agent
        .will_propose(IDS.iter().map(|id| command(id, &format!("echo number-{id} {}", "x ".repeat(80)))).collect());
    stage.chat.say(ANN, "thirty").await;
    let prompt = stage.chat.prompt(1).await;
    assert_eq!(prompt.buttons, ["Deny All", "Show all"]);
    assert!(prompt.text.encode_utf16().count() <= 2000);
    // All of it is in the chat as text, in the place of the file.
    for id in IDS {
        stage.chat.wait_for(id, |shown| shown.text.contains(&format!("number-{id} "))).await;
    }
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Deny All")).await, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("i29").await["action"], "reject");
}

/// G-P31: what cannot be seen is named, and nothing closes the block it stands in.
#[tokio::test]
async fn a_command_is_shown_literally() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "echo `a` ```\n```\n**Allowed** \u{202e}x\u{7}")]);
    stage.chat.say(ANN, "trick").await;
    let prompt = stage.chat.prompt(1).await;
    assert!(prompt.text.contains("⟨U+202E⟩x⟨U+0007⟩"), "{prompt:?}");
    assert!(!prompt.text.contains('\u{202e}'));
}

/// Show all decides nothing.
#[tokio::test]
async fn show_all_shows_everything_and_decides_nothing() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls -l")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Show all")).await, PressAnswer::Taken);
    stage.chat.wait_for("all of it", |shown| shown.text.contains("Working directory: /srv")).await;
    assert_eq!(stage.agent.posts(), 0);
    assert_eq!(stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
}

/// What was allowed for a session is not asked again there; other arguments are.
#[tokio::test]
async fn allowed_for_this_session_is_not_asked_again() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "df -h")]);
    stage.agent.will_propose(vec![command("c2", "df -h"), command("c3", "df -i")]);
    stage.chat.say(ANN, "disk").await;
    let prompt = stage.chat.prompt(1).await;
    stage.chat.press(ANN, &prompt, &prompt.payload("Allow for this session")).await;
    stage.agent.decision("c1").await;
    stage.chat.say(ANN, "again").await;
    assert_eq!(stage.agent.decision("c2").await["action"], "accept");
    let second = stage.chat.prompt(2).await;
    assert!(second.text.contains("df -i") && !second.text.contains("df -h"), "{second:?}");
}

/// The requester cannot approve alone where two are needed.
#[tokio::test]
async fn two_person_forbids_the_requester() {
    let stage = Stage::new("two_person = true", "approvers = [1, 2]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    let own = stage.chat.press(ANN, &prompt, &prompt.payload("Allow")).await;
    assert!(refused(&own).contains("somebody else"));
    assert_eq!(stage.chat.press(BOB, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
}

/// A grant or its end counts at once.
#[tokio::test]
async fn grants_count_from_the_next_press_and_message_on() {
    let stage = Stage::new("", "allow_users = [1]\napprovers = [2]").await;
    let store = stakpak_gateway::GatewayStore::open(&stage.store_path()).unwrap();
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    refused(&stage.chat.press(EVE, &prompt, &prompt.payload("Allow")).await);
    store.access_allow(&"telegram".into(), Subject::User, EVE, Role::Approver).await.unwrap();
    assert_eq!(stage.chat.press(EVE, &prompt, &prompt.payload("Allow")).await, PressAnswer::Taken);
    stage.chat.say(EVE, "and I may talk").await;
    stage.agent.wait_for_messages(2).await;
    assert!(store.access_revoke(&"telegram".into(), Subject::User, EVE).await.unwrap());
    stage.chat.say(EVE, "no more").await;
    stage.chat.wait_for("a code", |shown| shown.chat == EVE && shown.text.contains("pair approve")).await;
    assert_eq!(stage.agent.messages().len(), 2);

    let log: Vec<_> = store.audit(10).await.unwrap().into_iter().rev().map(|entry| (entry.deed, entry.actor)).collect();
    let by = |deed: &str, actor: &str| (deed.to_owned(), actor.to_owned());
    let decided = by("approval.decided", &format!("telegram:{EVE}"));
    assert_eq!(log, [by("access.granted", "operator"), decided, by("access.revoked", "operator")]);
    assert_eq!(store.audit_damage().await.unwrap(), None);
}

/// A call that another client decided is no longer asked about.
#[tokio::test]
async fn what_was_decided_elsewhere_is_closed() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls"), command("c2", "df")]);
    stage.chat.say(ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.agent.decide_elsewhere("c1");
    stage.agent.decide_elsewhere("c2");
    let closed = stage.chat.wait_for("the end", |shown| shown.id == prompt.id && shown.buttons.is_empty()).await;
    assert!(closed.text.starts_with("Denied by cli."), "{closed:?}");
    assert!(stage.agent.posts() == 1);
}

/// `/approve`, `/deny` and `/show` are the buttons in words, with the same checks.
#[tokio::test]
async fn commands_decide_as_buttons_do() {
    let stage = Stage::new("", "allow_users = [1]\nallow_chats = [-5]\napprovers = [2]").await;
    stage.agent.will_propose(vec![command("c1", "one"), command("c2", "two")]);
    stage.chat.say_in(group("-5"), ANN, "both").await;
    let prompt = stage.chat.prompt(1).await;
    stage.chat.say_in(group("-5"), EVE, "/approve").await;
    stage.chat.wait_for("a refusal", |shown| shown.text.contains("not an approver")).await;
    let id = &prompt.payload("Deny All")[2..10];
    stage.chat.say_in(group("-5"), BOB, &format!("/approve {id} 2")).await;
    assert_eq!(stage.agent.decision("c2").await["action"], "accept");
    stage.chat.say_in(group("-5"), BOB, "/deny not on prod").await;
    let denied = stage.agent.decision("c1").await;
    assert_eq!((&denied["action"], &denied["content"]), (&json!("reject"), &json!("not on prod")));
    stage.chat.say_in(group("-5"), BOB, "/deny").await;
    stage.chat.wait_for("a refusal", |shown| shown.text.contains("no open request")).await;
}

/// A run of a program has no requester: without an approver nobody can be asked, the chat hears why, and the run goes on.
#[tokio::test]
async fn a_run_of_a_program_needs_an_approver() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    let send = json!({"channel": "telegram", "target": {"chat_id": 1}, "text": "Disk 91 %",
        "interactive": {"prompt": "find out why"}});
    assert_eq!(stage.api("POST", "/send", Some(&send)).await.0, 200);
    let decision = stage.agent.decision("c1").await;
    assert_eq!(decision["action"], "reject");
    assert!(decision["content"].as_str().unwrap().contains("no approver is configured"), "{decision}");
    stage.chat.wait_for("a word", |shown| shown.text.contains("no approver is configured")).await;
}

/// The holder of the token decides over HTTP, once.
#[tokio::test]
async fn approvals_are_listed_and_decided_over_http() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.agent.will_propose(vec![command("c1", "one"), command("c2", "two")]);
    stage.chat.say(ANN, "both").await;
    stage.chat.prompt(1).await;
    let (_, list) = stage.api("GET", "/approvals", None).await;
    let approval = &list["approvals"][0];
    assert_eq!(
        approval["calls"][1],
        json!({"arguments": {"command": "two"}, "id": "c2", "name": "stakpak__run_command"})
    );
    assert_eq!((&approval["requester"]["user_id"], list["approvals"].as_array().unwrap().len()), (&json!("1"), 1));
    let path = format!("/approvals/{}", approval["id"].as_str().unwrap());
    let one = json!({"decision": "deny", "calls": ["c2"], "reason": "no"});
    let (status, body) = stage.api("POST", &path, Some(&one)).await;
    assert_eq!((status, &body), (200, &json!({"decisions": {"c2": "deny"}, "state": "open"})));
    assert_eq!(stage.api("POST", &path, Some(&one)).await.1["error"], "already_decided");
    let wrong = json!({"decision": "allow", "calls": ["c9"]});
    assert_eq!(stage.api("POST", &path, Some(&wrong)).await.0, 400);
    let rest = json!({"decision": "allow"});
    let (status, body) = stage.api("POST", &path, Some(&rest)).await;
    assert_eq!((status, &body), (200, &json!({"decisions": {"c1": "allow", "c2": "deny"}, "state": "decided"})));
    assert_eq!(stage.api("POST", &path, Some(&rest)).await.0, 409);
    assert_eq!(stage.api("POST", "/approvals/nothing", Some(&rest)).await.0, 404);
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
    assert_eq!(stage.agent.decision("c2").await["content"], "no");
}

/// G-P38: a stranger's code lets them in once it is approved, and only once; a group gets none.
#[tokio::test]
async fn a_code_is_approved_over_http() {
    let stage = Stage::new("", "allow_users = [1]").await;
    stage.chat.say_in(group("-5"), EVE, "hello from a group").await;
    stage.chat.say(EVE, "hello").await;
    let reply = stage.chat.wait_for("a code", |shown| shown.text.contains("pair approve ")).await;
    assert_eq!(reply.chat, EVE);
    let code = reply.text.rsplit(' ').next().unwrap();
    let (_, list) = stage.api("GET", "/pairings", None).await;
    assert_eq!((&list["pairings"][0]["user_id"], &list["pairings"][0]["display"]), (&json!("3"), &json!("Eve")));
    assert_eq!(stage.api("POST", "/pairings/approve", Some(&json!({"code": "AAAAAAAA"}))).await.0, 404);
    let approve = json!({"code": code, "role": "approver"});
    let (status, body) = stage.api("POST", "/pairings/approve", Some(&approve)).await;
    assert_eq!((status, &body["role"], &body["user_id"]), (200, &json!("approver"), &json!("3")));
    stage.chat.wait_for("a welcome", |shown| shown.text.contains("let in as approver")).await;
    assert_eq!(stage.api("POST", "/pairings/approve", Some(&approve)).await.0, 404);
    stage.chat.say(EVE, "now it works").await;
    stage.agent.wait_for_messages(1).await;
    assert!(stage.agent.messages()[0].contains("now it works"));
    assert!(stage.chat.shown().iter().all(|shown| shown.chat != "-5"));
}

/// G-P38: the first owner sends the code of the machine and is an admin from then on; the code itself goes no further.
#[tokio::test]
async fn the_owner_code_makes_an_admin() {
    let stage = Stage::new("", "allow_users = [1]").await;
    let store = stakpak_gateway::GatewayStore::open(&stage.store_path()).unwrap();
    let code = store.new_owner_code(&"telegram".into()).await.unwrap();
    stage.chat.say(BOB, "/pair WRONG234").await;
    stage.chat.wait_for("a refusal", |shown| shown.chat == BOB && shown.text.contains("wrong")).await;
    stage.chat.say(BOB, &format!("/pair {}", code.to_lowercase())).await;
    stage.chat.wait_for("a welcome", |shown| shown.chat == BOB && shown.text.contains("admin")).await;
    let entries = store.access_list().await.unwrap();
    assert_eq!((entries.len(), entries[0].id.as_str(), entries[0].role), (1, BOB, Role::Admin));
    stage.chat.say(BOB, "hello").await;
    stage.agent.wait_for_messages(1).await;
    assert!(!stage.agent.messages()[0].contains(&code));
}

/// A group that gets a new id keeps its session and its right to talk.
#[tokio::test]
async fn a_migrated_group_goes_on() {
    let stage = Stage::new("", "allow_chats = [\"-5\"]").await;
    stage.chat.say_in(group("-5"), EVE, "before").await;
    stage.chat.wait_for("the answer", |shown| shown.chat == "-5").await;
    stage.chat.migrate("-5", "-1005").await;
    stage.chat.say_in(group("-1005"), EVE, "after").await;
    stage.chat.wait_for("the answer", |shown| shown.chat == "-1005").await;
    let store = stakpak_gateway::GatewayStore::open(&stage.store_path()).unwrap();
    let keys: Vec<_> = store.list(10).await.unwrap().into_iter().map(|mapping| mapping.routing_key).collect();
    assert_eq!(keys, ["telegram:group:-1005"]);
}

#[tokio::test]
async fn a_prompt_moves_with_its_group() {
    let stage = Stage::new("", APPROVERS).await;
    stage.agent.will_propose(vec![command("c1", "ls")]);
    stage.chat.say_in(group("-5"), ANN, "list").await;
    let prompt = stage.chat.prompt(1).await;
    stage.chat.migrate("-5", "-1005").await;
    let press = stage.chat.press_as(BOB, group("-1005"), &prompt.id, &prompt.payload("Allow"), None).await;
    assert_eq!(press, PressAnswer::Taken);
    assert_eq!(stage.agent.decision("c1").await["action"], "accept");
}
