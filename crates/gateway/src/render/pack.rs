//! From leaves to messages: as many as fit, in order, the large ones divided.

use super::leaf::{Content, Leaf};

/// What a platform's message can hold.
pub(super) struct Room<'a> {
    /// Of all leaves of a message together.
    pub(super) limit: usize,
    /// What a leaf takes at most, with what separates it from the one before.
    pub(super) cost: &'a dyn Fn(&Leaf) -> usize,
    /// Whether a leaf can follow others in their message, whatever its length.
    pub(super) joins: &'a dyn Fn(&[Leaf], &Leaf) -> bool,
}

/// The leaves of each message. No message is empty.
pub(super) fn pack(leaves: Vec<Leaf>, room: &Room<'_>) -> Vec<Vec<Leaf>> {
    let mut packer = Packer { room, messages: Vec::new(), current: Vec::new(), used: 0 };
    // A stack, so that the rest of a divided leaf is the next one.
    let mut waiting: Vec<Leaf> = leaves.into_iter().rev().collect();
    while let Some(leaf) = waiting.pop() {
        if let Some(rest) = packer.push(leaf) {
            waiting.push(rest);
        }
    }
    packer.finish()
}

struct Packer<'a> {
    room: &'a Room<'a>,
    messages: Vec<Vec<Leaf>>,
    current: Vec<Leaf>,
    used: usize,
}

impl Packer<'_> {
    /// What did not fit and follows.
    fn push(&mut self, leaf: Leaf) -> Option<Leaf> {
        let cost = (self.room.cost)(&leaf);
        let left = self.room.limit.saturating_sub(self.used);
        let joins = self.current.is_empty() || (self.room.joins)(&self.current, &leaf);
        if joins && cost <= left {
            self.put(leaf, cost);
            return None;
        }
        // What fits into a message of its own is not torn; what does not uses the room there is.
        let usable = joins && cost > self.room.limit && left > self.room.limit / 2;
        if !self.current.is_empty() && !usable {
            self.next_message(&leaf);
            return Some(leaf);
        }
        match divide(&leaf, left, self.room.cost) {
            Some((head, tail)) => {
                let cost = (self.room.cost)(&head);
                if cost > left && !self.current.is_empty() {
                    self.next_message(&leaf);
                    return Some(leaf);
                }
                self.put(head, cost);
                Some(tail)
            }
            None if !self.current.is_empty() => {
                self.next_message(&leaf);
                Some(leaf)
            }
            // One character, at the least.
            None => {
                self.put(leaf, cost);
                None
            }
        }
    }

    fn put(&mut self, leaf: Leaf, cost: usize) {
        self.current.push(leaf);
        self.used += cost;
    }

    /// A heading goes with what follows it.
    fn next_message(&mut self, following: &Leaf) {
        let is_heading = |leaf: &Leaf| matches!(leaf.content, Content::Heading(..));
        let alone = self.current.len() < 2;
        let heading = self.current.pop_if(|last| {
            !alone && is_heading(last) && (self.room.cost)(last) + (self.room.cost)(following) <= self.room.limit
        });
        self.messages.push(std::mem::take(&mut self.current));
        self.used = heading.as_ref().map_or(0, self.room.cost);
        self.current.extend(heading);
    }

    fn finish(mut self) -> Vec<Vec<Leaf>> {
        if !self.current.is_empty() {
            self.messages.push(self.current);
        }
        self.messages
    }
}

/// Divides until the first part costs no more than `limit`.
fn divide(leaf: &Leaf, limit: usize, cost: &dyn Fn(&Leaf) -> usize) -> Option<(Leaf, Leaf)> {
    let whole = cost(leaf);
    let text = leaf.text_units();
    let overhead = cost(&leaf.emptied());
    // What one unit costs on average; escapes make it more than one.
    let mut target = text.saturating_mul(limit.saturating_sub(overhead)) / whole.saturating_sub(overhead).max(1);
    let mut best = None;
    loop {
        let Some((head, tail)) = leaf.split(target.max(2)) else { return best };
        let fits = cost(&head) <= limit;
        best = Some((head, tail));
        if fits || target <= 2 {
            return best;
        }
        target = target * 3 / 4;
    }
}
