//! The budget of a profile's day, looked at before each request.
//!
//! What requests under way may take at most counts as spent until their answers are recorded, so that runs side by side in
//! one process overspend no more than one does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use stakpak_protocol::{RunLimits, Usd};

use crate::{Journal, JournalError, Profile, Spending};

type Reserved = Arc<Mutex<HashMap<String, Spending>>>;

/// What requests under way may take, by profile.
#[derive(Debug, Default)]
pub struct Days {
    /// Held while one looks and reserves, so that no two see the same room.
    reserving: tokio::sync::Mutex<()>,
    reserved: Reserved,
}

/// Room of the day for one request. Given back by drop, once the answer is recorded or will not come.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) request: u64,
    profile: String,
    spending: Spending,
    reserved: Reserved,
}

/// A request that is about to be sent.
pub(super) struct Next {
    pub(super) request: u64,
    /// What it may take at most; none: its price is not known.
    pub(super) tokens: u64,
    pub(super) cost: Option<Usd>,
    /// Whether it is the first of its run.
    pub(super) is_first: bool,
}

impl Days {
    /// Room for a request, or why there is none.
    pub(super) async fn reserve(
        &self,
        journal: &dyn Journal,
        profile: &Profile,
        next: Next,
        now: DateTime<Utc>,
    ) -> Result<Result<Reservation, String>, JournalError> {
        let _alone = self.reserving.lock().await;
        let mut taken = Spending::default();
        if !profile.day.is_open() {
            // Before what is recorded is read: what is recorded in between counts twice rather than not at all.
            let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).get(&profile.name).copied();
            let recorded = journal.spent(&profile.name, profile.day.calendar.day_began(now)).await?;
            taken = recorded.plus(reserved.unwrap_or_default());
        }
        if let Some(why) = refusal(profile, &taken, &next) {
            return Ok(Err(why));
        }
        let spending =
            Spending { tokens: next.tokens, cost: next.cost.unwrap_or_default(), runs: u64::from(next.is_first) };
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let of_profile = reserved.entry(profile.name.clone()).or_default();
        *of_profile = of_profile.plus(spending);
        let (request, reserved) = (next.request, Arc::clone(&self.reserved));
        Ok(Ok(Reservation { request, profile: profile.name.clone(), spending, reserved }))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_profile) = reserved.get_mut(&self.profile) else { return };
        *of_profile = of_profile.minus(self.spending);
        if *of_profile == Spending::default() {
            reserved.remove(&self.profile);
        }
    }
}

/// Why a request does not fit into the day of its profile, if that is so.
fn refusal(profile: &Profile, taken: &Spending, next: &Next) -> Option<String> {
    let (day, name) = (&profile.day, &profile.name);
    let told = |limit: String, next: String, key: &str| {
        format!("{limit} {} {name}{next}; allow more with profiles.{name}.budget.{key}", RunLimits::DAY_TAKEN)
    };
    if let Some(limit) = day.runs.filter(|limit| next.is_first && taken.runs >= *limit) {
        return Some(told(format!("{} of {limit} runs", taken.runs), String::new(), "runs_per_day"));
    }
    if let Some(limit) = day.tokens.filter(|limit| taken.tokens.saturating_add(next.tokens) > *limit) {
        let next = format!(" and the next request may take {}", next.tokens);
        return Some(told(format!("{} of {limit} tokens", taken.tokens), next, "tokens_per_day"));
    }
    let limit = day.cost?;
    let Some(cost) = next.cost else {
        return Some(format!(
            "profiles.{name}.budget.usd_per_day applies and the price of the run's model is not known; set it in \
             config.toml, [cost], or use a model whose price is known"
        ));
    };
    (taken.cost.plus(cost) > limit).then(|| {
        let next = format!(" and the next request may cost {cost}");
        told(format!("{} of {limit} USD", taken.cost), next, "usd_per_day")
    })
}
