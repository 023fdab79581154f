//! `ask_user`: questions that only a person can answer. The tool itself never runs: the call waits like one that needs an
//! approval, and its answer is given as its result.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Questions {
    /// In the order in which they are asked.
    pub questions: Vec<Question>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// Names it in the answer.
    pub label: String,
    /// What is asked.
    pub question: String,
    /// What there is to choose from.
    #[serde(default)]
    pub options: Vec<Choice>,
    /// Whether the person may answer in other words.
    #[serde(default = "yes")]
    pub allow_custom: bool,
    /// Whether several may be chosen.
    #[serde(default)]
    pub multi_select: bool,
}

/// One of several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Choice {
    value: Option<String>,
    /// For the person.
    pub label: String,
    /// More for the person.
    pub description: Option<String>,
    /// Whether it is what an empty answer means.
    #[serde(default)]
    pub selected: bool,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// One a question.
    pub answers: Vec<Answer>,
    /// Whether all were answered.
    pub completed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a person said to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Its label.
    pub question_label: String,
    /// A value, several between commas, or the person's own words.
    pub answer: String,
    /// Whether it is in the person's own words.
    pub is_custom: bool,
    /// Where several could be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_values: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}

impl Choice {
    /// What the answer says.
    #[must_use]
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or(&self.label)
    }
}

impl Questions {
    /// What keeps a person from answering.
    pub(crate) fn flaw(&self) -> Option<String> {
        if self.questions.is_empty() {
            return Some("`questions` is empty".to_owned());
        }
        let mut labels = HashSet::new();
        for (index, question) in self.questions.iter().enumerate() {
            if !labels.insert(question.label.as_str()) {
                return Some(format!("`questions[{index}].label`: {:?} is there twice", question.label));
            }
            if question.question.trim().is_empty() {
                return Some(format!("`questions[{index}].question` is empty"));
            }
            if question.options.is_empty() && !question.allow_custom {
                return Some(format!("`questions[{index}].options` is empty, and no other answer is allowed"));
            }
        }
        None
    }
}

impl Answers {
    /// Nobody has answered.
    #[must_use]
    pub fn none(reason: &str) -> Self {
        Self { answers: Vec::new(), completed: false, reason: Some(reason.to_owned()) }
    }

    /// As the result of the call.
    #[must_use]
    pub fn as_result(&self) -> String {
        // Strings and booleans can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}
