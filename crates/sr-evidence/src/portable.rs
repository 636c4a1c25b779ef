//! JSON values that every reader reads alike: integers beyond ±(2⁵³−1) travel as strings, nesting is bounded.

use serde_json::Value;

pub use sr_common::canonical::MAX_INTEGER;

/// How deep arrays and objects may nest in an event's data.
pub const MAX_DEPTH: usize = 64;

/// `value` with large integers as decimal strings. `None` where it nests deeper than [`MAX_DEPTH`].
pub fn portable(value: Value) -> Option<Value> {
    below(value, MAX_DEPTH)
}

fn below(value: Value, depth: usize) -> Option<Value> {
    Some(match value {
        Value::Number(n) => match large(&n) {
            Some(text) => Value::String(text),
            None => Value::Number(n),
        },
        Value::Array(items) => {
            let depth = depth.checked_sub(1)?;
            Value::Array(
                items
                    .into_iter()
                    .map(|item| below(item, depth))
                    .collect::<Option<_>>()?,
            )
        }
        Value::Object(map) => {
            let depth = depth.checked_sub(1)?;
            Value::Object(
                map.into_iter()
                    .map(|(k, item)| Some((k, below(item, depth)?)))
                    .collect::<Option<_>>()?,
            )
        }
        other => other,
    })
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
    use sr_common::canonical;

    #[test]
    fn large_integers_become_strings() {
        let value = json!({"a": u64::MAX, "b": [i64::MIN, MAX_INTEGER, -1], "c": 1.5, "d": 1e20});
        assert!(canonical::to_exact_bytes(&value).is_err());
        let value = portable(value).unwrap();
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
    }
}
