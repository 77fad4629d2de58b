//! Requests in flight. An id is a place in a table and the place's number of uses, so that a late or repeated
//! answer never reaches the wrong caller. Once the table has grown, there are no allocations.

use std::task::Waker;
use std::time::Instant;

use protocol::Refusal;

use crate::peer::in_flight::{InFlight, Listening};
use crate::upstream::{Failure, UpstreamAnswer};

/// Bits of an id for the place; ids stay below 2^53, which servers in JavaScript need.
const PLACE_BITS: u32 = 16;
/// The most requests in flight to one server.
pub const MAX_IN_FLIGHT: usize = 1 << PLACE_BITS;

/// The slot of a request without a listener.
const NOBODY: u32 = u32::MAX;

pub type Reply = Result<UpstreamAnswer, Failure>;

#[derive(Default)]
pub struct Pending {
    places: Vec<Place>,
    free: Vec<u32>,
    in_flight: usize,
    /// Lower bound of all deadlines; `None` without requests.
    next_deadline: Option<Instant>,
    has_given_up: bool,
    /// Listeners of the requests without an answer.
    pub listeners: InFlight,
}

struct Place {
    uses: u64,
    deadline: Instant,
    /// Position of the message in all bytes ever queued for the server.
    position: u64,
    cancellable: bool,
    /// Slot of the listener, or [`NOBODY`].
    listener: u32,
    state: PlaceState,
}

enum PlaceState {
    Free,
    Waiting(Waker),
    Done(Reply),
}

/// A request that was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GivenUp {
    pub id: u64,
    pub cancellable: bool,
}

impl Pending {
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the only request in flight, apart from long-lived ones.
    pub fn only_waiting(&self, standing: &[u64]) -> Option<u64> {
        let waiting = |(index, place): (usize, &Place)| {
            let id = place.uses << PLACE_BITS | index as u64;
            (matches!(place.state, PlaceState::Waiting(_)) && !standing.contains(&id)).then_some(id)
        };
        let mut waiting = self.places.iter().enumerate().filter_map(waiting);
        let only = waiting.next()?;
        waiting.next().is_none().then_some(only)
    }

    /// Returns true if a request is in flight.
    pub fn is_waiting(&self, id: u64) -> bool {
        let place = self.places.get(id as usize & (MAX_IN_FLIGHT - 1));
        place.is_some_and(|place| {
            place.uses == id >> PLACE_BITS && matches!(place.state, PlaceState::Waiting(_))
        })
    }

    /// Returns true if a request was ever given up: its answer may still come.
    pub fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    /// Returns true if more than `few` requests are in flight.
    pub fn more_wait_than(&self, few: usize) -> bool {
        let waiting = self.places.iter().filter(|place| matches!(place.state, PlaceState::Waiting(_)));
        waiting.take(few + 1).count() > few
    }

    /// Returns the next time to call [`Pending::expire`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Takes a place; `None` if all are taken. Returns the id, and true if the next deadline is earlier now.
    pub fn insert(
        &mut self,
        deadline: Instant,
        position: u64,
        cancellable: bool,
        waker: Waker,
        listening: Option<Listening<'_>>,
    ) -> Option<(u64, bool)> {
        if self.in_flight == MAX_IN_FLIGHT {
            return None;
        }
        let state = PlaceState::Waiting(waker);
        let listener = NOBODY;
        let index = match self.free.pop() {
            Some(index) => {
                let place = &mut self.places[index as usize];
                *place = Place { uses: place.uses + 1, deadline, position, cancellable, listener, state };
                index
            }
            None => {
                self.places.push(Place { uses: 1, deadline, position, cancellable, listener, state });
                (self.places.len() - 1) as u32
            }
        };
        self.in_flight += 1;
        if listening.is_some() {
            let slot = self.listeners.register(index.into(), listening);
            self.places[index as usize].listener = slot;
        }
        let nearer = self.next_deadline.is_none_or(|next| deadline < next);
        if nearer {
            self.next_deadline = Some(deadline);
        }
        Some((self.places[index as usize].uses << PLACE_BITS | u64::from(index), nearer))
    }

    /// Stores a reply, and returns the caller's waker to be woken outside the lock. Returns `None` for an
    /// answer that comes twice, too late, or under an unknown id.
    pub fn complete(&mut self, id: u64, reply: Reply) -> Option<Waker> {
        let place = self.place(id)?;
        match std::mem::replace(&mut place.state, PlaceState::Free) {
            PlaceState::Waiting(waker) => {
                place.state = PlaceState::Done(reply);
                if place.listener != NOBODY {
                    self.deafen(id);
                }
                Some(waker)
            }
            other => {
                place.state = other;
                None
            }
        }
    }

    /// Takes the reply, or stores the waker until it comes.
    pub fn poll(&mut self, id: u64, waker: &Waker) -> Option<Reply> {
        let place = self.place(id)?;
        match &mut place.state {
            PlaceState::Waiting(known) => {
                known.clone_from(waker);
                return None;
            }
            PlaceState::Done(_) | PlaceState::Free => {}
        }
        match self.release(id)? {
            PlaceState::Done(reply) => Some(reply),
            PlaceState::Waiting(_) | PlaceState::Free => None,
        }
    }

    /// Frees the place of a caller that is gone. Returns the request if it has no answer yet.
    pub fn forget(&mut self, id: u64) -> Option<GivenUp> {
        let cancellable = self.place(id)?.cancellable;
        match self.release(id)? {
            PlaceState::Waiting(_) => {
                self.has_given_up = true;
                Some(GivenUp { id, cancellable })
            }
            PlaceState::Done(_) | PlaceState::Free => None,
        }
    }

    /// Refuses all requests after their deadline.
    pub fn expire(&mut self, now: Instant, refusal: &Refusal, wakers: &mut Vec<Waker>) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        let mut next = None;
        for (index, place) in self.places.iter_mut().enumerate() {
            if !matches!(place.state, PlaceState::Waiting(_)) {
                continue;
            }
            if place.deadline > now {
                next = Some(next.map_or(place.deadline, |next: Instant| next.min(place.deadline)));
                continue;
            }
            let failure = Failure { refusal: refusal.clone(), sent: true };
            if let PlaceState::Waiting(waker) =
                std::mem::replace(&mut place.state, PlaceState::Done(Err(failure)))
            {
                wakers.push(waker);
            }
            let id = place.uses << PLACE_BITS | index as u64;
            given_up.push(GivenUp { id, cancellable: place.cancellable });
        }
        self.next_deadline = next;
        self.has_given_up |= !given_up.is_empty();
        for given_up in &given_up {
            self.deafen(given_up.id);
        }
        given_up
    }

    /// Refuses all requests. Those with a position from `written` on were never sent.
    pub fn refuse_all(&mut self, refusal: &Refusal, written: u64, wakers: &mut Vec<Waker>) {
        self.listeners.clear();
        for place in &mut self.places {
            place.listener = NOBODY;
            if !matches!(place.state, PlaceState::Waiting(_)) {
                continue;
            }
            let failure = Failure { refusal: refusal.clone(), sent: place.position < written };
            if let PlaceState::Waiting(waker) =
                std::mem::replace(&mut place.state, PlaceState::Done(Err(failure)))
            {
                wakers.push(waker);
            }
        }
        self.next_deadline = None;
    }

    fn place(&mut self, id: u64) -> Option<&mut Place> {
        let place = self.places.get_mut(id as usize & (MAX_IN_FLIGHT - 1))?;
        (place.uses == id >> PLACE_BITS && !matches!(place.state, PlaceState::Free)).then_some(place)
    }

    /// Removes the listener of a request.
    fn deafen(&mut self, id: u64) {
        let Some(place) = self.place(id) else { return };
        match std::mem::replace(&mut place.listener, NOBODY) {
            NOBODY => {}
            slot => self.forget_listener(slot),
        }
    }

    fn forget_listener(&mut self, slot: u32) {
        if let Some(moved) = self.listeners.remove(slot) {
            self.places[moved as usize].listener = slot;
        }
    }

    fn release(&mut self, id: u64) -> Option<PlaceState> {
        let place = self.place(id)?;
        let state = std::mem::replace(&mut place.state, PlaceState::Free);
        match std::mem::replace(&mut place.listener, NOBODY) {
            NOBODY => {}
            slot => self.forget_listener(slot),
        }
        self.free.push((id as usize & (MAX_IN_FLIGHT - 1)) as u32);
        self.in_flight -= 1;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use protocol::Code;

    use super::*;

    fn answer(text: &'static str) -> Reply {
        Ok(UpstreamAnswer::Result(Bytes::from_static(text.as_bytes())))
    }

    fn insert(pending: &mut Pending, deadline: Instant) -> u64 {
        pending.insert(deadline, 0, true, Waker::noop().clone(), None).unwrap().0
    }

    #[test]
    fn a_late_or_repeated_answer_reaches_nobody() {
        let mut pending = Pending::default();
        let soon = Instant::now();
        let first = insert(&mut pending, soon);
        assert!(pending.complete(first, answer("1")).is_some());
        assert!(pending.complete(first, answer("again")).is_none());
        assert_eq!(pending.poll(first, Waker::noop()).unwrap().unwrap(), answer("1").unwrap());
        let second = insert(&mut pending, soon);
        assert_ne!(first, second);
        assert!(pending.complete(first, answer("late")).is_none());
        assert!(pending.complete(9999, answer("strange")).is_none());
        assert_eq!(pending.forget(second), Some(GivenUp { id: second, cancellable: true }));
        assert!(pending.complete(second, answer("late")).is_none());
        assert_eq!(pending.in_flight(), 0);
    }

    #[test]
    fn deadlines_pass_in_order() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let (long, short) = (now + Duration::from_secs(9), now + Duration::from_secs(1));
        let stays = insert(&mut pending, long);
        let goes = insert(&mut pending, short);
        assert_eq!(pending.next_deadline(), Some(short));
        let refusal = Refusal::new(Code::TimedOut, "late");
        let gone = pending.expire(short, &refusal, &mut Vec::new());
        assert_eq!(gone.iter().map(|gone| gone.id).collect::<Vec<_>>(), [goes]);
        assert_eq!(pending.next_deadline(), Some(long));
        assert!(pending.poll(stays, Waker::noop()).is_none());
        assert_eq!(pending.poll(goes, Waker::noop()).unwrap().unwrap_err().refusal.code, Code::TimedOut);
    }
}
