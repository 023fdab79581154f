//! Questions of the agent at the terminal: one after the other, by numbers or in the person's own words.

use std::io::{self, BufRead, Write};

use stakpak_tools::{Answer, Answers, Question, Questions};

use super::ask::visible;

/// Asks them all. The end of the input ends the questions.
pub(super) fn ask(asked: &Questions, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Answers> {
    let mut answers = Vec::new();
    for question in &asked.questions {
        write_question(question, output)?;
        match read_answer(question, input, output)? {
            Some(answer) => answers.push(answer),
            None => {
                return Ok(Answers { answers, ..Answers::none("no answer at the terminal") });
            }
        }
    }
    Ok(Answers { answers, completed: true, reason: None })
}

fn write_question(question: &Question, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "\n{}", visible(&question.question))?;
    for (number, choice) in (1..).zip(&question.options) {
        let mark = if choice.selected { "*" } else { " " };
        let more = choice.description.as_deref().map(|more| format!(" – {}", visible(more))).unwrap_or_default();
        writeln!(output, " {mark}{number}  {}{more}", visible(&choice.label))?;
    }
    Ok(())
}

fn read_answer(question: &Question, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Option<Answer>> {
    let how = match (question.options.is_empty(), question.multi_select, question.allow_custom) {
        (true, _, _) => "answer",
        (false, false, false) => "number",
        (false, false, true) => "number, or an answer of your own",
        (false, true, false) => "numbers, between commas",
        (false, true, true) => "numbers, between commas, or an answer of your own",
    };
    loop {
        write!(output, "{how}> ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(answer) = understood(question, line.trim()) {
            return Ok(Some(answer));
        }
        writeln!(output, "Please give: {how}.")?;
    }
}

fn understood(question: &Question, line: &str) -> Option<Answer> {
    let label = question.label.clone();
    let chosen = match line {
        "" => {
            question.options.iter().filter(|choice| choice.selected).map(|choice| choice.value().to_owned()).collect()
        }
        line => numbers(question, line).unwrap_or_default(),
    };
    if chosen.len() == 1 || (chosen.len() > 1 && question.multi_select) {
        let selected_values = question.multi_select.then(|| chosen.clone());
        return Some(Answer { question_label: label, answer: chosen.join(", "), is_custom: false, selected_values });
    }
    let own_words = question.allow_custom && !line.is_empty();
    own_words.then(|| Answer { question_label: label, answer: line.to_owned(), is_custom: true, selected_values: None })
}

/// The values of the options that the line names, each once; none if it names anything else.
fn numbers(question: &Question, line: &str) -> Option<Vec<String>> {
    let mut chosen: Vec<String> = Vec::new();
    for word in line.split(',').map(str::trim) {
        let number: usize = word.parse().ok()?;
        let value = question.options.get(number.checked_sub(1)?)?.value();
        if !chosen.iter().any(|chosen| chosen == value) {
            chosen.push(value.to_owned());
        }
    }
    Some(chosen)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(questions: &Value, typed: &str) -> (Value, String) {
        let questions: Questions = serde_json::from_value(json!({ "questions": questions })).unwrap();
        let mut shown = Vec::new();
        let answers = ask(&questions, &mut typed.as_bytes(), &mut shown).unwrap();
        (serde_json::to_value(answers).unwrap(), String::from_utf8(shown).unwrap())
    }

    #[test]
    fn numbers_and_own_words_become_answers() {
        let questions = json!([
            {"label": "env", "question": "Which one?", "options": [{"value": "prod", "label": "Production"}, {"label": "test"}]},
            {"label": "parts", "question": "What?", "multi_select": true, "options": [{"label": "a"}, {"label": "b"}, {"label": "c"}]},
            {"label": "name", "question": "Name?"},
        ]);
        let (answers, shown) = asked(&questions, "1\n3, 1\nAnn\n");
        assert_eq!(
            answers,
            json!({"completed": true, "answers": [
                {"question_label": "env", "answer": "prod", "is_custom": false},
                {"question_label": "parts", "answer": "c, a", "is_custom": false, "selected_values": ["c", "a"]},
                {"question_label": "name", "answer": "Ann", "is_custom": true},
            ]})
        );
        assert!(shown.contains("Which one?\n  1  Production\n  2  test\n"), "{shown}");
        let (answers, _) = asked(&questions, "neither\n");
        assert_eq!(answers["answers"][0], json!({"question_label": "env", "answer": "neither", "is_custom": true}));
        assert_eq!((&answers["completed"], &answers["reason"]), (&json!(false), &json!("no answer at the terminal")));
    }

    #[test]
    fn what_is_not_offered_is_asked_for_again() {
        let one = json!([{"label": "l", "question": "q", "allow_custom": false,
            "options": [{"label": "a"}, {"label": "b", "selected": true}]}]);
        for (typed, answer) in [("3\n0\n1,2\nx\n1\n", "a"), ("\n", "b")] {
            let (answers, _) = asked(&one, typed);
            assert_eq!(answers["answers"][0]["answer"], answer, "{typed:?}");
        }
        let (answers, _) = asked(&json!([{"label": "l", "question": "q"}]), "\n \nyes\n");
        assert_eq!(answers["answers"][0]["answer"], "yes");
    }
}
