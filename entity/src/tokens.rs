//! Tokens of texts: counted by a tokenizer (o200k_base) once it is loaded, else estimated from the length. Its
//! vocabulary is part of the program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tiktoken_rs::CoreBPE;

/// The loaded tokenizer.
#[derive(Clone, Copy)]
pub struct Tokenizer(&'static CoreBPE);

static LOADED: OnceLock<Option<CoreBPE>> = OnceLock::new();
static LOADING: AtomicBool = AtomicBool::new(false);

impl Tokenizer {
    /// Returns the tokenizer if it is loaded. The first call begins to load it in a thread of its own, which takes
    /// about 140 ms, and 45 MB from then on.
    pub fn if_loaded() -> Option<Self> {
        if let Some(loaded) = LOADED.get() {
            return loaded.as_ref().map(Self);
        }
        if !LOADING.swap(true, Ordering::Relaxed) {
            let loader = std::thread::Builder::new().name("tokenizer".to_owned());
            if let Err(error) = loader.spawn(Self::load) {
                tracing::warn!(%error, "the tokenizer is not loaded: no thread for it");
                LOADING.store(false, Ordering::Relaxed);
            }
        }
        None
    }

    /// Returns the tokenizer; loads it first if it is not loaded, which blocks.
    pub fn load() -> Option<Self> {
        let load = || {
            let loaded = tiktoken_rs::o200k_base();
            loaded.inspect_err(|error| tracing::warn!(%error, "the tokenizer cannot be loaded")).ok()
        };
        LOADED.get_or_init(load).as_ref().map(Self)
    }

    /// Counts the tokens of a text, about 40 ns a byte; `None` for a text that the tokenizer fails at.
    pub fn count(self, text: &str) -> Option<u32> {
        // The vocabulary's expressions backtrack, and the crate panics at the end of its patience.
        let counted = catch_unwind(AssertUnwindSafe(|| self.0.count_ordinary(text)));
        counted.ok().and_then(|tokens| u32::try_from(tokens).ok())
    }
}

/// Estimates tokens without a tokenizer: four bytes a token.
pub fn estimated_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of the reference implementation in Python (`tiktoken`, o200k_base).
    #[test]
    fn texts_have_the_counts_of_the_reference() {
        let tokenizer = Tokenizer::load().unwrap();
        for (text, tokens) in [
            ("", 0),
            ("Hello, world!", 4),
            (r#"{"a":2,"b":3}"#, 9),
            (r#"{"content":[{"type":"text","text":"5"}],"structuredContent":{"result":5}}"#, 20),
            ("Größe 北京 🙂", 4),
            ("<|endoftext|>", 7),
            (&"x".repeat(64), 8),
        ] {
            assert_eq!(tokenizer.count(text), Some(tokens), "{text}");
        }
        assert!(Tokenizer::if_loaded().is_some());
    }
}
