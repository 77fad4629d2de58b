//! Command line of the server `web`: `--searxng URL`, `--allow-private CIDR` and `--user-agent TEXT`, and the
//! keys of search providers from variables.

use super::crawler::Crawler;
use super::search::SearchProvider;
use super::{Web, WebSettings};

pub const BRAVE_KEY: &str = "BRAVE_API_KEY";
pub const TAVILY_KEY: &str = "TAVILY_API_KEY";

impl Web {
    /// Reads the command line of `trunkline server web`.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to give.
    pub fn from_arguments(
        arguments: &[String],
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let mut settings = WebSettings::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), rest.next().map(String::as_str)),
            };
            let given = |form: &str| value.ok_or_else(|| format!("{name} needs a value: {name} {form}"));
            match name {
                "--searxng" => settings.search.push(SearchProvider::searxng(given("URL")?)?),
                "--allow-private" => {
                    let network = given("CIDR")?.parse().map_err(|_| {
                        "--allow-private must be a network such as 10.0.0.0/8 or 127.0.0.1/32".to_owned()
                    })?;
                    settings.allow.push(network);
                }
                "--user-agent" => settings.crawler = Crawler::new(given("TEXT")?)?,
                _ => {
                    return Err(format!(
                        "`{name}` is not an argument of web: give --searxng URL, --allow-private CIDR or \
                         --user-agent TEXT"
                    ));
                }
            }
        }
        let mut key = |name: &str, provider: fn(&str) -> Result<SearchProvider, String>| {
            let Some(key) = variable(name) else { return Ok(()) };
            let provider = provider(&key).map_err(|error| format!("{name}: {error}"))?;
            settings.search.push(provider);
            Ok::<(), String>(())
        };
        key(BRAVE_KEY, SearchProvider::brave)?;
        key(TAVILY_KEY, SearchProvider::tavily)?;
        Ok(Self::new(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::search::ProviderKind;

    fn read(arguments: &[&str], keys: &[(&str, &str)]) -> Result<Vec<ProviderKind>, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variable =
            |name: &str| keys.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Web::from_arguments(&arguments, &variable).map(|web| web.providers())
    }

    #[test]
    fn arguments_and_keys_make_providers() {
        use ProviderKind::{Brave, Searxng, Tavily};
        let arguments = ["--searxng", "http://127.0.0.1:8080/searx", "--allow-private=10.0.0.0/8"];
        assert_eq!(read(&arguments, &[]), Ok(vec![Searxng]));
        let keys = [(TAVILY_KEY, "tvly-x"), (BRAVE_KEY, "bsa-x")];
        assert_eq!(read(&["--user-agent", "bot/1"], &keys), Ok(vec![Brave, Tavily]));
        assert_eq!(read(&[], &[]), Ok(Vec::new()));
        for (arguments, keys, part) in [
            (vec!["--searxng"], vec![], "--searxng needs a value"),
            (vec!["--searxng", "ftp://x"], vec![], "http:// or https://"),
            (vec!["--searxng", "x"], vec![], "must be a URL"),
            (vec!["--allow-private", "10.0.0.1"], vec![], "network such as"),
            (vec!["--user-agent", "a\nb"], vec![], "must begin with a name"),
            (vec!["--ignore-robots"], vec![], "`--ignore-robots` is not an argument of web"),
            (vec![], vec![(BRAVE_KEY, "secret\r\nX: y")], "BRAVE_API_KEY: the key of Brave"),
            (vec![], vec![(TAVILY_KEY, " ")], "TAVILY_API_KEY: the key of Tavily is empty"),
        ] {
            let error = read(&arguments, &keys).expect_err("an error");
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }
}
