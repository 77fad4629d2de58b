//! Who listens while a request is in flight, and whom something is for that names no request. Once its
//! table has grown, a listener costs no allocation.

use std::sync::Arc;

use crate::upstream::Listener;

#[derive(Default)]
pub struct Listeners {
    all: Vec<Listening>,
    /// Requests with a listener that there ever were.
    begun: u64,
}

struct Listening {
    /// The place of its request among those in flight.
    place: u32,
    begun: u64,
    progress: Option<u64>,
    listener: Arc<dyn Listener>,
}

/// A listener and its progress token.
pub type Hearing<'a> = (&'a Arc<dyn Listener>, Option<u64>);

impl Listeners {
    /// Where it is kept, to be given to [`Listeners::remove`].
    pub fn add(&mut self, place: u32, (listener, progress): Hearing<'_>) -> u32 {
        self.begun += 1;
        self.all.push(Listening { place, begun: self.begun, progress, listener: listener.clone() });
        (self.all.len() - 1) as u32
    }

    /// Says whose listener is kept in its stead from now on.
    pub fn remove(&mut self, slot: u32) -> Option<u32> {
        self.all.swap_remove(slot as usize);
        self.all.get(slot as usize).map(|moved| moved.place)
    }

    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Whoever gave this token to the upstream.
    pub fn of_progress(&self, token: u64) -> Option<Arc<dyn Listener>> {
        let found = self.all.iter().find(|listening| listening.progress == Some(token))?;
        Some(found.listener.clone())
    }

    /// Whom something is for that names no request: the only one. Where the upstream serves a single
    /// client, the newest of several is as good as another: all lead to the same one.
    pub fn addressee(&self, one_client: bool) -> Option<Arc<dyn Listener>> {
        let found = match &self.all[..] {
            [] => return None,
            [only] => only,
            several if one_client => several.iter().max_by_key(|listening| listening.begun)?,
            _ => return None,
        };
        Some(found.listener.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Question;

    struct Nobody;

    impl Listener for Nobody {
        fn hear(&self, _method: &str, _params: Option<&str>) {}
        fn ask(&self, _question: Question) {}
    }

    #[test]
    fn the_only_one_or_the_newest() {
        let all: Vec<Arc<dyn Listener>> = (0..3).map(|_| Arc::new(Nobody) as Arc<dyn Listener>).collect();
        let mut listeners = Listeners::default();
        let found = |found: Option<Arc<dyn Listener>>| {
            found.and_then(|found| all.iter().position(|one| Arc::ptr_eq(one, &found)))
        };
        assert_eq!(found(listeners.addressee(true)), None);
        for (place, listener) in all.iter().enumerate() {
            listeners.add(place as u32, (listener, Some(100 + place as u64)));
        }
        assert_eq!(found(listeners.of_progress(101)), Some(1));
        assert_eq!((found(listeners.addressee(false)), found(listeners.addressee(true))), (None, Some(2)));
        // The last one takes the place of the first.
        assert_eq!(listeners.remove(0), Some(2));
        assert_eq!(found(listeners.addressee(true)), Some(2));
        assert_eq!(listeners.remove(1), None);
        assert_eq!(found(listeners.addressee(false)), Some(2));
        assert_eq!(found(listeners.of_progress(101)), None);
    }
}
