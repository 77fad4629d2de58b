//! Identity of the crawler: its `User-Agent` (RFC 9110, 10.1.5), whose product token is its name in
//! `robots.txt`.

use super::robots::is_product;

/// A checked user agent.
#[derive(Clone, Debug)]
pub struct Crawler {
    user_agent: String,
    product: String,
}

impl Default for Crawler {
    fn default() -> Self {
        let product = "trunkline".to_owned();
        Self { user_agent: format!("{product}/{}", env!("CARGO_PKG_VERSION")), product }
    }
}

impl Crawler {
    /// # Errors
    /// A sentence for a user agent that does not begin with a product token, or that no header can hold.
    pub fn new(user_agent: &str) -> Result<Self, String> {
        let is_plain = user_agent.len() <= 200 && user_agent.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let end = user_agent.find(|c: char| !is_product(c)).unwrap_or(user_agent.len());
        if !is_plain || end == 0 || user_agent.trim() != user_agent {
            return Err(
                "the user agent must begin with a name of letters, `-` and `_`, and have at most 200 \
                        plain characters, such as `example-bot/1.0 (+https://example.com/bot)`"
                    .to_owned(),
            );
        }
        Ok(Self { user_agent: user_agent.to_owned(), product: user_agent[..end].to_owned() })
    }

    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    pub fn product(&self) -> &str {
        &self.product
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_begins_with_its_product() {
        assert_eq!(Crawler::new("My-Bot/2.0 (+https://example.com)").expect("valid").product(), "My-Bot");
        assert_eq!(Crawler::default().product(), "trunkline");
        for bad in ["", " bot", "1bot", "bot\r\nCookie: a=b", "bot/ä", &"b".repeat(201)] {
            assert!(Crawler::new(bad).is_err(), "{bad:?}");
        }
    }
}
