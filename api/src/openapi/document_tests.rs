use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document_as_json() -> Value {
    serde_json::from_str(&text()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    found.insert(reference.clone());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
            _ => {}
        }
    }
    let document = document_as_json();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_operation_says_what_it_is_and_what_it_answers() {
    let document = document_as_json();
    let tags: Vec<&str> = TAGS.iter().map(|(name, _)| *name).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && ids.insert(id.to_owned()), "{name}: {id}");
        assert!(
            tags.contains(&operation["tags"][0].as_str().unwrap_or_default()),
            "{name}: {}",
            operation["tags"]
        );
        let answers = &operation["responses"];
        for (status, answer) in answers.as_object().unwrap() {
            let described = answer["description"].is_string() || answer["$ref"].is_string();
            assert!(described, "{name} {status} has no description");
        }
        if ["get /health", "get /ready"].contains(&name.as_str()) {
            continue;
        }
        assert!(operation["summary"].is_string(), "{name} has no summary");
        assert!(["200", "201", "204"].iter().any(|status| answers[*status].is_object()), "{name}");
        for status in ["400", "401", "403", "429", "503"] {
            assert!(answers[status].is_object(), "{name} has no {status}");
        }
        if name.contains('{') {
            assert!(answers["404"].is_object(), "{name} has no 404");
        }
    }
}
