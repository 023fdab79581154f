//! How many runs work at the same time. A run without a slot is accepted, durable and queued: first in, first out.
//!
//! * A slot that is given back goes to the first in the queue; nobody overtakes.
//! * A run that waits for a person holds none. Which runs are queued is not stored: after a restart they queue again.
//! * Taking and giving back is one short lock; only a queued run waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stakpak_protocol::SessionId;
use tokio::sync::{Notify, oneshot};

/// The slots of a process. A cheap handle.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    state: Mutex<State>,
    /// Told when the last slot is given back after [`Slots::close`].
    idle: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    closed: bool,
    next_ticket: u64,
    /// In order of their tickets.
    queue: VecDeque<Waiter>,
    tickets: HashMap<SessionId, u64>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    session: SessionId,
    grant: oneshot::Sender<()>,
}

impl Slots {
    /// At least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        let state =
            State { free: limit, closed: false, next_ticket: 0, queue: VecDeque::new(), tickets: HashMap::new() };
        Self(Arc::new(Shared { limit, state: Mutex::new(state), idle: Notify::new() }))
    }

    /// Where the session's run stands in the queue, from 1; none when it is not queued.
    #[must_use]
    pub fn position(&self, session: SessionId) -> Option<u64> {
        let state = self.lock();
        let ticket = state.tickets.get(&session)?;
        Some(state.place(*ticket)? as u64 + 1)
    }

    /// Runs in the queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    /// Grants no more slots: who is queued stays so.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.idle.notify_one();
    }

    /// Waits until no slot is held. For one caller, after [`Self::close`].
    pub async fn idle(&self) {
        while self.lock().free < self.0.limit {
            self.0.idle.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(&self) -> bool {
        self.lock().take()
    }

    /// A slot that is free is granted at once.
    fn queue(&self, session: SessionId) -> (u64, oneshot::Receiver<()>) {
        let (grant, granted) = oneshot::channel();
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        if state.take() {
            let _ = grant.send(());
        } else {
            state.queue.push_back(Waiter { ticket, session, grant });
            state.tickets.insert(session, ticket);
        }
        (ticket, granted)
    }

    /// Leaves the queue; false when the slot was granted meanwhile.
    fn leave(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        let Some(place) = state.place(ticket) else { return false };
        if let Some(waiter) = state.queue.remove(place) {
            state.tickets.remove(&waiter.session);
        }
        true
    }

    fn give_back(&self) {
        let mut state = self.lock();
        let next = if state.closed { None } else { state.queue.pop_front() };
        match next {
            Some(next) => {
                state.tickets.remove(&next.session);
                // Who has gone away meanwhile finds its ticket gone and gives the slot back.
                let _ = next.grant.send(());
            }
            None => {
                state.free += 1;
                if state.closed && state.free == self.0.limit {
                    self.0.idle.notify_one();
                }
            }
        }
    }
}

impl State {
    fn take(&mut self) -> bool {
        let takes = self.free > 0 && !self.closed;
        self.free -= usize::from(takes);
        takes
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

/// One session's part: nothing, a place in the queue, or a slot. Dropping it gives back what it is.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    session: SessionId,
    has: Has,
}

#[derive(Debug)]
enum Has {
    Nothing,
    Place { ticket: u64, granted: oneshot::Receiver<()> },
    Slot,
}

impl Slot {
    pub(super) fn new(slots: &Slots, session: SessionId) -> Self {
        Self { slots: slots.clone(), session, has: Has::Nothing }
    }

    /// Takes a slot if one is free; whether it holds one now.
    pub(super) fn try_take(&mut self) -> bool {
        if matches!(self.has, Has::Nothing) && self.slots.try_take() {
            self.has = Has::Slot;
        }
        self.is_held()
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.has, Has::Slot)
    }

    /// Queues when a slot is needed and none is held, for [`Self::granted`] to tell; gives back what is not needed.
    pub(super) fn settle(&mut self, needed: bool) {
        match (&self.has, needed) {
            (Has::Nothing, true) => {
                let (ticket, granted) = self.slots.queue(self.session);
                self.has = Has::Place { ticket, granted };
            }
            (Has::Place { .. } | Has::Slot, false) => self.give_back(),
            (Has::Nothing, false) | (Has::Place { .. } | Has::Slot, true) => {}
        }
    }

    /// Resolves when the queue's slot is this one's. Cancel safe.
    pub(super) async fn granted(&mut self) {
        let Has::Place { granted, .. } = &mut self.has else { return std::future::pending().await };
        match granted.await {
            Ok(()) => self.has = Has::Slot,
            Err(_) => std::future::pending().await,
        }
    }

    fn give_back(&mut self) {
        match std::mem::replace(&mut self.has, Has::Nothing) {
            Has::Nothing => {}
            Has::Place { ticket, .. } if self.slots.leave(ticket) => {}
            Has::Place { .. } | Has::Slot => self.slots.give_back(),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    fn queued(slots: &Slots, number: u128) -> Slot {
        let mut slot = Slot::new(slots, session(number));
        slot.settle(true);
        slot.granted().now_or_never();
        slot
    }

    #[test]
    fn slots_are_granted_in_the_order_they_were_asked_for() {
        let slots = Slots::new(1);
        let first = queued(&slots, 1);
        let (mut second, mut third) = (queued(&slots, 2), queued(&slots, 3));
        assert_eq!([1, 2, 3].map(|number| slots.position(session(number))), [None, Some(1), Some(2)]);
        drop(first);
        assert!(!Slot::new(&slots, session(4)).try_take(), "nobody overtakes");
        assert!(third.granted().now_or_never().is_none());
        second.granted().now_or_never().unwrap();
        assert_eq!(slots.position(session(3)), Some(1));
        second.settle(false);
        third.granted().now_or_never().unwrap();
        assert!(third.is_held() && !second.is_held());
    }

    #[test]
    fn who_leaves_the_queue_holds_nobody_up() {
        let slots = Slots::new(1);
        let first = queued(&slots, 1);
        let (mut second, third) = (queued(&slots, 2), queued(&slots, 3));
        second.settle(false);
        assert_eq!(slots.position(session(3)), Some(1));
        // The slot is granted to the third, which goes away before it notices.
        drop(first);
        drop(third);
        assert!(queued(&slots, 4).is_held());
    }

    #[test]
    fn closing_grants_nothing_more_and_tells_when_all_is_given_back() {
        let slots = Slots::new(2);
        let (first, second) = (queued(&slots, 1), queued(&slots, 2));
        let mut third = queued(&slots, 3);
        slots.close();
        drop(first);
        assert!(third.granted().now_or_never().is_none());
        assert!(slots.idle().now_or_never().is_none());
        drop(second);
        slots.idle().now_or_never().unwrap();
        assert!(!queued(&slots, 4).is_held());
    }
}
