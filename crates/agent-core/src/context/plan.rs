//! What to do about a conversation that grows too large: clear, then sum up, then cut. Pure.

use stakpak_protocol::Role;

use super::{Compaction, ContextState, Conversation, Cut, Meter, Shrinking, estimate::whole};

/// Share of the window that clearing and cutting go down to: far enough below the trigger to last for many turns.
const CLEARED: f64 = 0.6;

/// Messages that clearing leaves alone, and that a summary leaves at least.
const NEWEST: u64 = 6;

/// Messages that a summary leaves at most.
const TAIL: u64 = 40;

/// Times that older messages are summed up in one turn.
const COMPACTIONS: u64 = 2;

/// What a step has to leave, or it was in vain.
const WORTH: f64 = 0.8;

/// Everything a plan depends on.
pub(crate) struct Situation<'a> {
    /// The history.
    pub conversation: &'a Conversation<'a>,
    /// What of it is shown.
    pub state: &'a ContextState,
    /// Tokens beside the messages that are shown: prompt, tools, summary.
    pub beside: u64,
    /// Tokens of the present summary, if there is one.
    pub summary: u64,
    /// How estimates become tokens.
    pub meter: Meter,
    /// Tokens there is room for.
    pub window: u64,
    /// As configured.
    pub compaction: &'a Compaction,
    /// What was done in this turn.
    pub shrinking: &'a Shrinking,
}

/// What to do before the next request.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing: it can be sent.
    Send,
    /// Results and long arguments of older messages become stubs.
    Clear {
        /// Those of messages before this one.
        before: u64,
        /// Tokens before and after.
        tokens: (u64, u64),
    },
    /// Older messages are summed up.
    Compact {
        /// The first that is not.
        first: u64,
        /// Tokens before.
        tokens: u64,
    },
    /// Long parts are cut.
    Cut {
        /// How.
        cut: Cut,
        /// Tokens before and after.
        tokens: (u64, u64),
    },
    /// It was refused, and cannot be made smaller.
    Stuck,
}

/// Longest summary, in tokens.
pub(crate) fn summary_tokens(window: u64) -> u64 {
    (window / 8).clamp(256, 4_096)
}

/// What to do before the next request.
pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let refused = situation.shrinking.refused.is_some();
    let tokens = situation.tokens_of(situation.state);
    // What was refused is too large, whatever is known of the window.
    let window = if refused { situation.window.min(tokens) } else { situation.window } as f64;
    if !situation.compaction.enabled || (!refused && tokens as f64 <= window * situation.compaction.trigger) {
        return if refused { Plan::Stuck } else { Plan::Send };
    }
    let step = situation.clear(tokens, window * CLEARED);
    let step = step.or_else(|| situation.compact(tokens, window));
    let step = step.or_else(|| situation.cut(tokens, window * CLEARED));
    step.unwrap_or(if refused { Plan::Stuck } else { Plan::Send })
}

impl Situation<'_> {
    fn tokens_of(&self, state: &ContextState) -> u64 {
        self.meter.tokens(self.beside + self.conversation.size(state))
    }

    /// The nearest boundary that is enough; none if none is.
    fn clear(&self, tokens: u64, goal: f64) -> Option<Plan> {
        let ContextState { first, cleared, cut, .. } = *self.state;
        let newest = self.conversation.end().saturating_sub(NEWEST);
        let answer = self.conversation.last(|message| message.role == Role::Assistant)?;
        let limit = newest.min(answer);
        let now = self.conversation.sizes(first, cleared, cut);
        let then = self.conversation.sizes(first, limit, cut);
        let mut size = self.beside + now.iter().map(|(_, size)| size).sum::<u64>();
        for ((index, now), (_, then)) in now.into_iter().zip(then).filter(|((index, _), _)| *index < limit) {
            size = (size + then).saturating_sub(now);
            let after = self.meter.tokens(size);
            if after as f64 <= goal {
                return Some(Plan::Clear { before: index + 1, tokens: (tokens, after) });
            }
        }
        None
    }

    fn compact(&self, tokens: u64, window: f64) -> Option<Plan> {
        let Shrinking { compactions, in_vain, .. } = *self.shrinking;
        if compactions >= COMPACTIONS || in_vain {
            return None;
        }
        let first = self.tail(window * self.compaction.target);
        if first <= self.state.first {
            return None;
        }
        let after = self.size_after(first) + summary_tokens(whole(window));
        (self.meter.tokens(after) as f64 <= tokens as f64 * WORTH).then_some(Plan::Compact { first, tokens })
    }

    /// Estimate of a view that begins here, without a summary.
    fn size_after(&self, first: u64) -> u64 {
        self.beside.saturating_sub(self.summary) + self.conversation.size(&ContextState { first, ..self.state.clone() })
    }

    /// Where the messages begin that are not summed up: the last one of a user, or so near to the end that what is left
    /// is small, but neither too few nor too many messages.
    fn tail(&self, goal: f64) -> u64 {
        let end = self.conversation.end();
        let user = self.conversation.last(|message| message.role == Role::User).unwrap_or(end);
        let fewest = self.conversation.beginning_before(user.min(end.saturating_sub(NEWEST)));
        let most = self.conversation.beginning_from(end.saturating_sub(TAIL));
        let mut first = fewest.max(most).max(self.state.first);
        let limit = self.conversation.beginning_before(end.saturating_sub(NEWEST));
        let room = goal - summary_tokens(self.window) as f64;
        while first < limit && self.meter.tokens(self.size_after(first)) as f64 > room {
            first = self.conversation.beginning_from(first + 1);
        }
        first
    }

    /// The mildest cut that is enough, else the hardest, if it is worth something.
    fn cut(&self, tokens: u64, goal: f64) -> Option<Plan> {
        let end = self.conversation.end();
        let last = end.saturating_sub(1);
        let cuts = [(last, 2_000), (last, 400), (end, 2_000), (end, 400), (end, 100)];
        let mut hardest = None;
        for (before, keep) in cuts {
            let cut = Cut { before, keep };
            let after = self.tokens_of(&ContextState { cut: Some(cut), ..self.state.clone() });
            let plan = Plan::Cut { cut, tokens: (tokens, after) };
            if after as f64 <= goal {
                return Some(plan);
            }
            hardest = (after as f64 <= tokens as f64 * WORTH).then_some(plan);
        }
        hardest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use stakpak_protocol::{Message, MessageContent, MessagePart};

    use super::*;
    use crate::view;

    fn call(id: usize, bytes: usize) -> Message {
        let arguments = json!({ "text": "a".repeat(bytes) });
        let (id, name) = (format!("c{id}").as_str().into(), "stakpak__look".into());
        let part = MessagePart::ToolCall { id, name, arguments, metadata: None, provider_options: None };
        Message::assistant(vec![part])
    }

    fn result(id: usize, bytes: usize) -> Message {
        let (id, content) = (format!("c{id}").as_str().into(), Value::String("r".repeat(bytes)));
        let part = MessagePart::ToolResult { tool_call_id: id, content, is_error: false, provider_options: None };
        Message::new(Role::Tool, MessageContent::Parts(vec![part]))
    }

    /// A user's message, then calls each with its result.
    fn looking(results: &[usize]) -> Vec<Message> {
        let calls = results.iter().enumerate().flat_map(|(id, bytes)| [call(id, 5), result(id, *bytes)]);
        [Message::user("look")].into_iter().chain(calls).collect()
    }

    fn chat(turns: usize, bytes: usize) -> Vec<Message> {
        (0..turns)
            .flat_map(|turn| {
                let text = format!("{turn} {}", "x".repeat(bytes));
                [Message::user(text.clone()), Message::assistant(vec![MessagePart::text(text)])]
            })
            .chain([Message::user("and now?")])
            .collect()
    }

    struct Case {
        history: Vec<Message>,
        state: ContextState,
        shrinking: Shrinking,
        window: u64,
        compaction: Compaction,
    }

    impl Case {
        fn new(history: Vec<Message>, window: u64) -> Self {
            let (state, shrinking, compaction) = Default::default();
            Self { history, state, shrinking, window, compaction }
        }

        fn with<T>(&self, ask: impl FnOnce(&Situation<'_>) -> T) -> T {
            let conversation = Conversation::new((0..).zip(&self.history).map(|(at, message)| (at, message, None)));
            ask(&Situation {
                conversation: &conversation,
                state: &self.state,
                beside: 100,
                summary: 0,
                meter: Meter::new(None, "a/b"),
                window: self.window,
                compaction: &self.compaction,
                shrinking: &self.shrinking,
            })
        }

        fn plan(&self) -> Plan {
            self.with(plan)
        }

        fn tokens(&self) -> u64 {
            self.with(|situation| situation.tokens_of(&self.state))
        }

        fn view(&self) -> Vec<Message> {
            self.with(|situation| {
                let shown = situation.conversation.shown(&self.state);
                view::render(shown.iter().map(|(message, reasoning)| (message.as_ref(), *reasoning))).0
            })
        }

        fn refused(mut self) -> Self {
            self.shrinking.refused = Some("too long".into());
            self
        }

        fn follow(&mut self, plan: &Plan) {
            match *plan {
                Plan::Clear { before, .. } => self.state.cleared = before,
                Plan::Compact { first, .. } => {
                    self.state.first = first;
                    self.shrinking.compactions += 1;
                }
                Plan::Cut { cut, .. } => self.state.cut = Some(cut),
                Plan::Send | Plan::Stuck => {}
            }
            self.shrinking.refused = None;
        }
    }

    #[test]
    fn what_fits_is_sent() {
        assert_eq!(Case::new(looking(&[700; 20]), 14_000).plan(), Plan::Send);
        let mut off = Case::new(looking(&[7_000; 20]), 14_000);
        off.compaction.enabled = false;
        assert_eq!(off.plan(), Plan::Send);
        assert_eq!(off.refused().plan(), Plan::Stuck);
    }

    /// C-P21: results are cleared so far that the boundary stays put for many turns, and the newest stay.
    #[test]
    fn old_results_are_cleared_first_and_seldom() {
        let mut case = Case::new(looking(&[]), 14_000);
        let mut boundaries = vec![0];
        for id in 0..60 {
            let before = case.view();
            let known = boundaries.len();
            case.history.extend([call(id, 5), result(id, 3_500)]);
            match case.plan() {
                Plan::Send => assert!(case.tokens() <= 11_200),
                plan @ Plan::Clear { before: boundary, .. } => {
                    assert!(boundary + 6 <= case.history.len() as u64, "the newest stay");
                    case.follow(&plan);
                    assert!(case.tokens() <= 8_400, "{}", case.tokens());
                    assert_eq!(case.plan(), Plan::Send);
                    boundaries.push(boundary);
                }
                other => panic!("{other:?}"),
            }
            let after = case.view();
            if boundaries.len() == known {
                assert_eq!(before[..], after[..before.len()], "it grows at its end");
            }
        }
        assert!((2..=25).contains(&boundaries.len()), "{boundaries:?}");
        assert!(boundaries.windows(2).all(|pair| pair[0] < pair[1]), "{boundaries:?}");
        assert_eq!(case.view().len(), case.history.len(), "stubs stand where the results were");
    }

    /// What cannot be cleared is summed up, to the target.
    #[test]
    fn talk_is_summed_up() {
        let mut case = Case::new(chat(40, 500), 14_000);
        let plan = case.plan();
        let Plan::Compact { first, .. } = plan else { panic!("{plan:?}") };
        let left = case.history.len() as u64 - first;
        assert!((6..=40).contains(&left), "{left}");
        case.follow(&plan);
        assert!(case.tokens() + summary_tokens(14_000) <= 5_600);
        assert_eq!(case.plan(), Plan::Send);
        let twice = Shrinking { compactions: 2, ..Shrinking::default() };
        for shrinking in [twice, Shrinking { in_vain: true, ..Shrinking::default() }] {
            let again = Case { shrinking, ..Case::new(chat(40, 500), 14_000) };
            assert!(matches!(again.plan(), Plan::Cut { .. }), "{:?}", again.plan());
        }
    }

    /// What was refused is made smaller, whatever is thought of the window.
    #[test]
    fn what_was_refused_shrinks() {
        let mut case = Case::new(chat(20, 500), 1_000_000).refused();
        let before = case.tokens();
        let plan = case.plan();
        assert!(matches!(plan, Plan::Compact { .. }), "{plan:?}");
        case.follow(&plan);
        assert!(case.tokens() <= before / 2);
        assert_eq!(Case::new(chat(0, 0), 1_000_000).refused().plan(), Plan::Stuck);
    }

    /// C-P19: whatever is large, something is left that fits.
    #[test]
    fn nothing_wedges_a_session() {
        const LARGE: usize = 5_000_000;
        let table = [
            vec![Message::user("x".repeat(LARGE))],
            vec![Message::user(vec!["x".repeat(LARGE); 1].concat()), Message::assistant(vec![]), Message::user("?")],
            looking(&[LARGE]),
            looking(&[LARGE, LARGE, LARGE]),
            [looking(&[10]), vec![call(9, 1_000_000), result(9, 10)]].concat(),
            [chat(30, 500), vec![Message::assistant(vec![MessagePart::text("x".repeat(LARGE))])]].concat(),
        ];
        for history in table {
            let mut case = Case::new(history, 14_000);
            for _ in 0..6 {
                let plan = case.plan();
                if plan == Plan::Send {
                    break;
                }
                case.follow(&plan);
            }
            assert_eq!(case.plan(), Plan::Send);
            assert!(case.tokens() <= 11_200, "{} {:?}", case.tokens(), case.state);
            assert!(!case.view().is_empty());
        }
    }

    fn message() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(0..20_000usize, 0..5)
    }

    proptest! {
        /// C-P18, C-P19, C-P22: whatever the history and whatever was done to it, calls and results stay together and in
        /// order, each call has one result, and the history is as it was.
        #[test]
        fn calls_keep_their_results(turns in prop::collection::vec((message(), 0..4_000usize, any::<bool>()), 1..25), refused in any::<bool>()) {
            let mut history = Vec::new();
            let mut next = 0;
            for (calls, text, last) in turns {
                history.push(Message::user("u".repeat(text)));
                let ids: Vec<usize> = calls.iter().map(|_| { next += 1; next }).collect();
                let parts = ids.iter().flat_map(|id| call(*id, text).parts().to_vec()).collect();
                history.push(Message::assistant(parts));
                history.extend(ids.iter().zip(&calls).map(|(id, bytes)| result(*id, *bytes)));
                if last {
                    history.push(Message::assistant(vec![MessagePart::text("done")]));
                }
            }
            let mut case = Case::new(history.clone(), 14_000);
            if refused {
                case = case.refused();
            }
            let mut steps = 0;
            loop {
                let plan = case.plan();
                if matches!(plan, Plan::Send | Plan::Stuck) {
                    break;
                }
                if let Plan::Compact { first, .. } = plan {
                    let role = case.history[usize::try_from(first).unwrap()].role;
                    prop_assert!(role != Role::Tool, "a result without its call");
                }
                let before = case.tokens();
                case.follow(&plan);
                prop_assert!(case.tokens() < before, "{plan:?}");
                steps += 1;
                prop_assert!(steps < 8, "it goes on and on");
                check(&case.view());
            }
            prop_assert!(refused || case.tokens() <= 11_200, "{:?}", case.state);
            prop_assert_eq!(&case.history, &history);
        }
    }

    fn check(view: &[Message]) {
        let mut open: Vec<String> = Vec::new();
        for message in view {
            for part in message.parts() {
                match part {
                    MessagePart::ToolCall { id, arguments, .. } => {
                        assert!(arguments.is_object());
                        open.push(id.0.clone());
                    }
                    MessagePart::ToolResult { tool_call_id, content, .. } => {
                        assert_eq!(open.remove(0), tool_call_id.0, "in order");
                        assert!(!content.as_str().is_some_and(|text| text.contains("is not known")), "its own");
                    }
                    _ => assert!(open.is_empty(), "a result is missing"),
                }
            }
        }
        assert!(open.is_empty());
    }

    /// C-P22: one that is missing is told, and its siblings stay.
    #[test]
    fn a_missing_result_takes_no_sibling_along() {
        let calls =
            Message::assistant([call(1, 5), call(2, 5)].iter().flat_map(|call| call.parts().to_vec()).collect());
        let history = [Message::user("go"), calls, result(2, 30)];
        let none: Option<&Arc<Value>> = None;
        let (view, _) = view::render(history.iter().map(|message| (message, none)));
        assert_eq!(view.len(), 4);
        let told = |message: &Message| match message.parts() {
            [MessagePart::ToolResult { content: Value::String(text), is_error, .. }] => (text.clone(), *is_error),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&view[2]), ("The result of this call is not known.".to_owned(), true));
        assert_eq!(told(&view[3]), ("r".repeat(30), false));
    }
}
