//! Questions to the client, one form for both eras: a legacy client gets each of them as a request, a
//! modern one all at once in a result, and calls again with the replies.

use serde_json::{Map, Value, json};

use crate::call::{Call, Detour, Fault};
use crate::era::Era;
use crate::seal;

pub struct Question {
    key: &'static str,
    method: &'static str,
    params: Value,
    /// What the client must have declared.
    needs: Value,
}

impl Question {
    pub fn form(key: &'static str, message: &str, schema: Value) -> Question {
        let params = json!({ "message": message, "requestedSchema": schema });
        Question { key, method: "elicitation/create", params, needs: json!({ "elicitation": {} }) }
    }

    /// Asks for one text.
    pub fn text(key: &'static str, message: &str, field: &str) -> Question {
        let schema =
            json!({ "type": "object", "properties": { field: { "type": "string" } }, "required": [field] });
        Self::form(key, message, schema)
    }

    /// Sends the user to a page; only the legacy era gives that an id.
    pub fn page(call: &Call, key: &'static str, url: &str, id: &str) -> Question {
        let mut params = json!({ "mode": "url", "message": "Please visit this page", "url": url });
        if call.era == Era::Legacy {
            params["elicitationId"] = json!(id);
        }
        Question { key, method: "elicitation/create", params, needs: json!({ "elicitation": { "url": {} } }) }
    }

    pub fn sample(key: &'static str, prompt: &str, tokens: u32) -> Question {
        let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
        let params = json!({ "messages": [message], "maxTokens": tokens });
        Question { key, method: "sampling/createMessage", params, needs: json!({ "sampling": {} }) }
    }

    pub fn roots(key: &'static str) -> Question {
        Question { key, method: "roots/list", params: json!({}), needs: json!({ "roots": {} }) }
    }

    pub fn as_request(&self) -> Value {
        json!({ "method": self.method, "params": self.params })
    }

    pub fn is_declared(&self, capabilities: &Value) -> bool {
        let url = !self.needs["elicitation"]["url"].is_null();
        match (self.method, capabilities) {
            ("elicitation/create", has) if url => has["elicitation"]["url"].is_object(),
            // Without a mode a client has forms.
            ("elicitation/create", has) => has["elicitation"]
                .as_object()
                .is_some_and(|modes| modes.contains_key("form") || !modes.contains_key("url")),
            ("sampling/createMessage", has) => has["sampling"].is_object(),
            (_, has) => has["roots"].is_object(),
        }
    }

    fn is_answered_by(&self, reply: &Value) -> bool {
        match self.method {
            "elicitation/create" => reply["action"].is_string(),
            "sampling/createMessage" => !reply["content"].is_null(),
            _ => reply["roots"].is_array(),
        }
    }
}

impl Call {
    /// The replies in the order of the questions. What is `kept` comes back with the modern client's
    /// next call, sealed.
    pub fn ask(&self, questions: &[Question], kept: Option<Value>) -> Result<Vec<Value>, Detour> {
        let missing: Vec<&Question> =
            questions.iter().filter(|question| !question.is_declared(&self.capabilities)).collect();
        match self.era {
            Era::Legacy if !missing.is_empty() => {
                let what: Vec<&str> = missing.iter().map(|question| question.method).collect();
                Err(Detour::ToolError(format!("the client has not declared what {} needs", what.join(", "))))
            }
            Era::Legacy => questions
                .iter()
                .map(|question| self.server.ask(self, question.method, &question.params))
                .collect(),
            Era::Modern if !missing.is_empty() => {
                let needs = missing.iter().flat_map(|question| question.needs.as_object().cloned());
                Err(Fault::missing(needs.flatten().collect()).into())
            }
            Era::Modern => self.replies(questions).ok_or_else(|| self.input_required(questions, kept)),
        }
    }

    fn replies(&self, questions: &[Question]) -> Option<Vec<Value>> {
        let given = &self.params["inputResponses"];
        let replies = questions.iter().map(|question| (question, &given[question.key]));
        replies.map(|(question, reply)| question.is_answered_by(reply).then(|| reply.clone())).collect()
    }

    fn input_required(&self, questions: &[Question], kept: Option<Value>) -> Detour {
        let requests: Map<String, Value> =
            questions.iter().map(|question| (question.key.to_owned(), question.as_request())).collect();
        let mut result = json!({ "inputRequests": requests });
        if let Some(kept) = kept {
            result["requestState"] = json!(seal::seal(&self.name(), &kept));
        }
        Detour::InputRequired(result)
    }
}
