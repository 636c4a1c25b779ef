//! JSON values that every reader reads alike: integers beyond ±(2⁵³−1) travel as strings, nesting is bounded.

use serde::Serialize;
use serde_json::Value;
use sr_common::canonical;

pub use sr_common::canonical::MAX_INTEGER;

/// How deep arrays and objects may nest in an event's data.
pub const MAX_DEPTH: usize = 64;

/// The canonical text of `value`, with large integers as decimal strings; else why it has none.
pub fn text<T: Serialize>(value: &T) -> Result<String, String> {
    let problem = |e: serde_json::Error| e.to_string();
    if let Some(text) = canonical::to_exact_text(value, MAX_DEPTH).map_err(problem)? {
        return Ok(text);
    }
    let value = portable(serde_json::to_value(value).map_err(problem)?);
    let value = value.ok_or_else(|| format!("it nests deeper than {MAX_DEPTH}"))?;
    canonical::to_text(&value).map_err(problem)
}

/// `value` with large integers as decimal strings. `None` where it nests deeper than [`MAX_DEPTH`].
pub fn portable(mut value: Value) -> Option<Value> {
    below(&mut value, MAX_DEPTH)?;
    Some(value)
}

fn below(value: &mut Value, depth: usize) -> Option<()> {
    match value {
        Value::Number(n) => {
            if let Some(text) = large(n) {
                *value = Value::String(text);
            }
            Some(())
        }
        Value::Array(items) => {
            let depth = depth.checked_sub(1)?;
            items.iter_mut().try_for_each(|item| below(item, depth))
        }
        Value::Object(map) => {
            let depth = depth.checked_sub(1)?;
            map.values_mut().try_for_each(|item| below(item, depth))
        }
        _ => Some(()),
    }
}

fn large(n: &serde_json::Number) -> Option<String> {
    if let Some(u) = n.as_u64() {
        return (u > MAX_INTEGER).then(|| u.to_string());
    }
    if let Some(i) = n.as_i64() {
        return (i.unsigned_abs() > MAX_INTEGER).then(|| i.to_string());
    }
    // 2⁵³ itself is exact as a double.
    n.as_f64()
        .filter(|f| f.abs() >= 9_007_199_254_740_992.0)
        .map(|f| format!("{f}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_integers_become_strings() {
        let value = json!({"a": u64::MAX, "b": [i64::MIN, MAX_INTEGER, -1], "c": 1.5, "d": 1e20});
        assert!(canonical::to_exact_bytes(&value).is_err());
        let text = text(&value).unwrap();
        let value = portable(value).unwrap();
        assert_eq!(text, canonical::to_text(&value).unwrap());
        assert_eq!(
            value,
            json!({"a": "18446744073709551615", "b": ["-9223372036854775808", MAX_INTEGER, -1], "c": 1.5,
                   "d": "100000000000000000000"})
        );
        assert!(canonical::to_exact_bytes(&value).is_ok());
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = |n: usize| (0..n).fold(json!(1), |inner, _| json!([inner]));
        assert!(portable(deep(MAX_DEPTH)).is_some());
        assert!(portable(deep(MAX_DEPTH + 1)).is_none());
        assert!(text(&deep(MAX_DEPTH)).is_ok());
        assert!(text(&deep(MAX_DEPTH + 1)).unwrap_err().contains("nests deeper"));
    }
}
