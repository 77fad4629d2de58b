//! Listeners of the requests in flight, found by progress token or as the only one. Once the table has grown,
//! entries cost no allocation.

use std::sync::Arc;

use crate::upstream::Listener;

#[derive(Default)]
pub struct InFlight {
    all: Vec<Registered>,
    /// The number of requests ever registered.
    begun: u64,
}

struct Registered {
    /// Place in the table of requests in flight.
    place: u64,
    begun: u64,
    progress: Option<u64>,
    /// `None` for a request without a listener.
    listener: Option<Arc<dyn Listener>>,
}

/// A listener and its progress token.
pub type Listening<'a> = (&'a Arc<dyn Listener>, Option<u64>);

impl InFlight {
    /// Returns the slot, to be given to [`InFlight::remove`].
    pub fn register(&mut self, place: u64, listening: Option<Listening<'_>>) -> u32 {
        self.begun += 1;
        let listener = listening.map(|(listener, _)| listener.clone());
        let progress = listening.and_then(|(_, progress)| progress);
        self.all.push(Registered { place, begun: self.begun, progress, listener });
        (self.all.len() - 1) as u32
    }

    /// Returns the place of the request that moves to this slot.
    pub fn remove(&mut self, slot: u32) -> Option<u64> {
        self.all.swap_remove(slot as usize);
        self.all.get(slot as usize).map(|moved| moved.place)
    }

    pub fn remove_place(&mut self, place: u64) {
        self.all.retain(|registered| registered.place != place);
    }

    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Returns the listener of the request with this progress token.
    pub fn of_progress(&self, token: u64) -> Option<Arc<dyn Listener>> {
        self.all.iter().find(|registered| registered.progress == Some(token))?.listener.clone()
    }

    /// Returns the listener of the only request, or with `one_client` the newest of several, since all lead
    /// to the same client.
    pub fn of_only_request(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        match &self.all[..] {
            [only] => only.listener.clone(),
            several if one_client => {
                let newest = several.iter().filter(|it| it.listener.is_some()).max_by_key(|it| it.begun);
                newest?.listener.clone()
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::ServerRequest;

    struct Nobody;

    impl Listener for Nobody {
        fn on_notification(&self, _method: &str, _params: Option<&str>) {}
        fn on_request(&self, _request: ServerRequest) {}
    }

    #[test]
    fn the_only_one_or_the_newest() {
        let all: Vec<Arc<dyn Listener>> = (0..3).map(|_| Arc::new(Nobody) as Arc<dyn Listener>).collect();
        let mut in_flight = InFlight::default();
        let found = |found: Option<Arc<dyn Listener>>| {
            found.and_then(|found| all.iter().position(|one| Arc::ptr_eq(one, &found)))
        };
        assert_eq!(found(in_flight.of_only_request(true)), None);
        for (place, listener) in (0..).zip(&all) {
            in_flight.register(place, Some((listener, Some(100 + place))));
        }
        let both = |in_flight: &InFlight| [false, true].map(|one| found(in_flight.of_only_request(one)));
        assert_eq!(found(in_flight.of_progress(101)), Some(1));
        assert_eq!(both(&in_flight), [None, Some(2)]);
        // The last one moves to the first slot.
        assert_eq!(in_flight.remove(0), Some(2));
        assert_eq!(found(in_flight.of_only_request(true)), Some(2));
        assert_eq!(in_flight.remove(1), None);
        assert_eq!(both(&in_flight), [Some(2), Some(2)]);
        assert_eq!(found(in_flight.of_progress(101)), None);
        in_flight.register(7, None);
        assert_eq!(both(&in_flight), [None, Some(2)], "a caller who does not listen may be the one");
        in_flight.remove_place(2);
        assert_eq!(both(&in_flight), [None, None]);
    }
}
