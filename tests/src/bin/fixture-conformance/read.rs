//! Reads JSON of which some part has no value here, such as `1e400` or half a surrogate pair: that part is
//! null, the rest is read. What such a part was is kept in the text of the message.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

pub fn as_far_as_possible(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        return members.into_iter().map(|(name, value)| (name, as_far_as_possible(value.get()))).collect();
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return items.into_iter().map(|item| as_far_as_possible(item.get())).collect();
    }
    Value::Null
}
