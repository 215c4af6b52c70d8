//! `%COALESCE({"operators":[…]})%`: the first of several operators that has a value.

use serde_json::Value;

use super::command::{Command, Extensions, Spelled};

/// # Errors
/// In Envoy's words.
pub(super) fn parse(argument: &str, extensions: Extensions) -> Result<Box<[Command]>, String> {
    let json: Value = serde_json::from_str(argument).map_err(|error| {
        format!("COALESCE: failed to parse JSON configuration: JSON supplied is not valid. {error}")
    })?;
    let operators = json
        .get("operators")
        .and_then(Value::as_array)
        .ok_or("COALESCE: JSON configuration must contain 'operators' array")?;
    if operators.is_empty() {
        return Err("COALESCE: 'operators' array must not be empty".into());
    }
    let parsed = operators.iter().enumerate().map(|(i, operator)| {
        one(operator, extensions).map_err(|why| format!("COALESCE: failed to parse operator at index {i}: {why}"))
    });
    parsed.collect()
}

fn one(operator: &Value, extensions: Extensions) -> Result<Command, String> {
    let text = |key: &str| match operator.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(format!("'{key}' must be a string, got {other}")),
    };
    let (name, argument, max_length) = match operator {
        Value::String(name) => (name.as_str(), None, None),
        Value::Object(_) => {
            let max_length = match operator.get("max_length") {
                None => None,
                Some(value) => {
                    let length = value.as_u64().and_then(|length| usize::try_from(length).ok());
                    Some(length.ok_or_else(|| format!("'max_length' must be a number, got {value}"))?)
                }
            };
            (text("command")?.ok_or("'command' is missing")?, text("param")?, max_length)
        }
        other => return Err(format!("expected a string or an object, got {other}")),
    };
    Command::build(&Spelled { name, argument, max_length }, extensions)
        .map_err(|why| why.replace("Not supported field in StreamInfo: ", "unknown command: "))
}
