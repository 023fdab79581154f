use stakpak_client::protocol::RunId;

use super::*;

fn delta(text: &str) -> Event {
    Event::TextDelta { run_id: RunId::random(), delta: text.to_owned() }
}

fn complete(text: &str) -> Event {
    Event::TextComplete { run_id: RunId::random(), text: text.to_owned() }
}

fn discard() -> Event {
    let run_id = RunId::random();
    Event::RetryAttempt { run_id, attempt: 1, delay_ms: 0, reason: String::new(), discard_text: Some(true) }
}

fn segments(sent: &Sent, events: &[Event]) -> (Vec<String>, Sent) {
    let (mut segments, now) = (Segments::new(sent.clone()), Instant::now());
    let said = events.iter().filter_map(|event| segments.take(event, now)).collect();
    (said, segments.sent)
}

fn fresh(events: &[Event]) -> Vec<String> {
    segments(&Sent::default(), events).0
}

#[tokio::test]
async fn a_blank_line_ends_a_message_but_not_within_a_fence() {
    assert_eq!(fresh(&[delta("One\ntwo\n\nthr"), delta("ee")]), ["One\ntwo\n\n"]);
    let fence = "Look:\n```sh\na\n\nb\n```\n\nafter";
    assert_eq!(fresh(&[delta(fence)]), ["Look:\n```sh\na\n\nb\n```\n\n"]);
    assert_eq!(fresh(&[delta("Look:\n```sh\na\n\nb\n")]), Vec::<String>::new());
    let line = format!("{}\n", "x".repeat(LONG));
    assert_eq!(fresh(&[delta(&format!("```\n{line}"))]), Vec::<String>::new());
    assert_eq!(fresh(&[delta(&line), delta("more")]), [line]);
}

#[tokio::test]
async fn a_line_that_waited_is_a_message() {
    let (mut segments, start) = (Segments::new(Sent::default()), Instant::now());
    assert_eq!(segments.take(&delta("One\ntwo"), start), None);
    assert_eq!(segments.due(), Some(start + PATIENCE));
    assert_eq!(segments.due_now(start + PATIENCE - Duration::from_millis(1)), None);
    assert_eq!(segments.due_now(start + PATIENCE).as_deref(), Some("One\n"));
    assert_eq!(segments.due(), None, "no line has ended since");
    assert_eq!(segments.take(&delta("!\n"), start + 2 * PATIENCE).as_deref(), Some("two!\n"));
}

#[tokio::test]
async fn a_finished_turn_keeps_nothing_back_and_blank_ones_say_nothing() {
    let events = [delta("a\n\nb"), complete("a\n\nb"), complete(" \n"), delta("c"), complete("c")];
    assert_eq!(fresh(&events), ["a\n\n", "b", "c"]);
}

/// Following again from the start, with the events in other pieces, sends what is left and nothing twice.
#[tokio::test]
async fn following_again_sends_only_what_is_left() {
    let text = "One.\n\nTwo ends here.\n\nThree.";
    let all = [delta("One.\n"), delta("\nTwo ends"), delta(" here.\n\nThr"), complete(text), complete("Four.")];
    let whole = fresh(&all);
    assert_eq!(whole.concat(), format!("{text}Four."));
    for until in 0..=all.len() {
        let (before, sent) = segments(&Sent::default(), &all[..until]);
        for pieces in [vec![delta(text)], text.chars().map(|it| delta(&it.to_string())).collect(), Vec::new()] {
            let again = [&pieces[..], &all[3..]].concat();
            let (after, _) = segments(&sent, &again);
            assert_eq!([before.concat(), after.concat()].concat(), whole.concat(), "after {until} events");
        }
    }
}

#[tokio::test]
async fn a_turn_that_is_begun_anew_goes_on_or_is_said_whole() {
    let same = [delta("One.\n\nTw"), discard(), delta("One.\n\n"), delta("Two.\n\n"), complete("One.\n\nTwo.\n\nEnd.")];
    assert_eq!(fresh(&same), ["One.\n\n", "Two.\n\n", "End."]);
    let other = [delta("One.\n\nTw"), discard(), delta("Uno.\n\n"), delta("Dos."), complete("Uno.\n\nDos.")];
    assert_eq!(fresh(&other), ["One.\n\n", "Uno.\n\n", "Dos."]);
    for until in 0..=other.len() {
        let (before, sent) = segments(&Sent::default(), &other[..until]);
        let (after, _) = segments(&sent, &other);
        assert_eq!([before, after].concat(), ["One.\n\n", "Uno.\n\n", "Dos."], "after {until} events");
    }
}

#[tokio::test]
async fn of_texts_that_are_read_at_the_end_only_the_rest_is_left() {
    let (_, sent) = segments(&Sent::default(), &[complete("One."), delta("Two.\n\nThr")]);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let unsent = |given: &[&str]| Segments::new(sent.clone()).unsent(texts(given));
    assert_eq!(unsent(&["One.", "Two.\n\nThree.", "One."]), ["", "Three.", "One."]);
    assert_eq!(unsent(&["Two.\n\nThree."]), ["Three."], "what came before a word of a person is not in the list");
}
