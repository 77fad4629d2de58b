//! What came back, together with what was sent: an expectation that fails prints both.

use std::time::Duration;

use protocol::Code;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// An HTTP answer and the request it answers.
#[derive(Clone)]
pub struct Answer {
    /// Method, path and body of the request.
    pub sent: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub took: Duration,
}

impl Answer {
    /// Fails with the whole exchange unless it holds.
    #[track_caller]
    pub fn must(&self, holds: bool, expectation: &str) -> &Answer {
        assert!(holds, "{expectation}\n{}", self.exchange());
        self
    }

    #[track_caller]
    pub fn status(&self, expected: u16) -> &Answer {
        self.must(self.status == expected, &format!("the status should be {expected}"))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body should be JSON: {error}\n{}", self.exchange()))
    }

    /// The JSON body of an answer with this status.
    #[track_caller]
    pub fn json_of(&self, expected: u16) -> Value {
        self.status(expected).json()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The `result` of a JSON-RPC answer.
    #[track_caller]
    pub fn result(&self) -> Value {
        let mut answer = self.json_of(200);
        self.must(answer["jsonrpc"] == "2.0", "the answer should be JSON-RPC 2.0");
        self.must(answer.get("error").is_none(), "the answer should be a result, not an error");
        self.must(answer.get("result").is_some(), "the answer should have a result");
        answer["result"].take()
    }

    /// The text of the first content block of a tool that succeeded.
    #[track_caller]
    pub fn tool_text(&self) -> String {
        let result = self.result();
        self.must(result["isError"] != true, "the tool should have succeeded");
        match result["content"][0]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("the result should have a text\n{}", self.exchange()),
        }
    }

    /// The JSON-RPC error, with one of the expected codes, a reason, what to do, and the request's id.
    #[track_caller]
    pub fn refused(&self, expected: &[Code]) -> Value {
        let answer = self.json();
        self.refusal_in(&answer, expected)
    }

    /// The same for one element of a batch, already taken out.
    #[track_caller]
    pub fn refusal_in(&self, answer: &Value, expected: &[Code]) -> Value {
        let error = answer["error"].clone();
        let wanted = expected.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(" or ");
        let found = expected.iter().find(|code| error["data"]["code"] == code.as_str());
        self.must(found.is_some(), &format!("the error's data.code should be {wanted}"));
        let numbered = found.is_some_and(|code| error["code"] == code.rpc());
        self.must(numbered, "the error's number should be the one that belongs to its code");
        self.must(is_sentence(&error["message"]), "the error should say in a sentence what happened");
        self.must(is_sentence(&error["data"]["reason"]), "the error's data should carry the reason");
        self.must(is_sentence(&error["data"]["hint"]), "the error's data should say what to do");
        let request = error["data"]["requestId"].as_str().is_some_and(|id| id.starts_with("req_"));
        self.must(request, "the error's data should carry the request's id");
        error
    }

    /// A problem (RFC 9457) with the status and code that belong together, what to do, and the request's id.
    #[track_caller]
    pub fn problem(&self, expected: Code) -> Value {
        self.status(expected.http());
        let kind = self.header("content-type").unwrap_or_default();
        self.must(kind.starts_with("application/problem+json"), "a problem is application/problem+json");
        let problem = self.json();
        self.must(problem["code"] == expected.as_str(), &format!("its code should be {expected:?}"));
        let sentence = is_sentence(&problem["detail"]) || is_sentence(&problem["title"]);
        self.must(sentence, "a problem should say in a sentence what happened");
        self.must(is_sentence(&problem["hint"]), "a problem should say what to do");
        let request = problem["requestId"].as_str().is_some_and(|id| id.starts_with("req_"));
        self.must(request, "a problem should carry the request's id");
        problem
    }

    /// Request, status and body, for a failed expectation.
    pub fn exchange(&self) -> String {
        let mut headers = String::new();
        for (name, value) in &self.headers {
            headers += &format!("\n    {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        let body = shortened(&self.body);
        format!("  sent: {}\n  status: {} ({:?}){headers}\n  body: {body}", self.sent, self.status, self.took)
    }
}

/// At most 4 KB of a body.
pub fn shortened(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
    if body.len() > 4096 { format!("{text}… ({} bytes)", body.len()) } else { text }
}

fn is_sentence(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 8 && text.contains(' '))
}
