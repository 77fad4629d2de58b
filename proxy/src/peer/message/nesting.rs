//! Nesting of brackets, which shows if JSON is complete, without a parser.

/// Counter of brackets over any number of pieces.
#[derive(Clone, Default, Debug)]
pub struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Returns the nesting at the end of a text.
    pub fn of(text: &[u8]) -> Nesting {
        let mut nesting = Nesting::default();
        nesting.feed(text);
        nesting
    }

    pub fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Returns true if the JSON is incomplete.
    pub fn is_open(&self) -> bool {
        self.depth > 0 || self.in_string
    }
}

/// Returns true if a text begins like a message.
pub fn begins_message(text: &[u8]) -> bool {
    text.starts_with(b"{") || text.starts_with(b"[")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_followed() {
        for (text, open) in [
            (r#"{"a":[1,{"b":"}"}]}"#, false),
            (r#"{"a":"\"}"#, true),
            (r#"{"a":"\\"}"#, false),
            ("{", true),
            (r#"{"a":1},"#, false),
            ("]}", false),
        ] {
            assert_eq!(Nesting::of(text.as_bytes()).is_open(), open, "{text}");
        }
    }
}
