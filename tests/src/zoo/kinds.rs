//! The kinds of death, as the report's JSON Schema lists them.

use std::collections::BTreeSet;

use killtrace::model::report::Kind;
use serde_json::Value;

/// Every kind.
///
/// # Panics
/// When the schema does not list them.
#[must_use]
pub fn kinds() -> BTreeSet<Kind> {
    let schema = killtrace::report::json::schema().expect("a schema");
    let schema: Value = serde_json::from_str(&schema).expect("it is JSON");
    let mut words = Vec::new();
    listed(&schema["$defs"]["Kind"], &mut words);
    assert!(!words.is_empty(), "the schema lists no kinds");
    words.into_iter().map(|word| serde_json::from_value(word).expect("a kind")).collect()
}

/// The words of an enumeration. Documented ones stand by themselves, as `const`.
fn listed(schema: &Value, words: &mut Vec<Value>) {
    words.extend(schema["enum"].as_array().into_iter().flatten().cloned());
    words.extend(schema.get("const").cloned());
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        listed(one, words);
    }
}
