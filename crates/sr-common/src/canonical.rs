//! Canonical JSON (RFC 8785), the only byte form in which Safe-Run hashes or signs a document.
//!
//! Most documents hold nothing but integers, text and ASCII names, for which serde_json's own writer gives the canonical
//! bytes, several times faster than the canonicalizer; they are told apart by looking.

use serde::Serialize;
use serde_json::Value;

/// The largest integer that a JSON number holds exactly for every reader (RFC 8785 §3.2.2.3): 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The canonical bytes of `value`. Fails on what RFC 8785 cannot express: NaN, infinities, non-string keys.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    value_bytes(&serde_json::to_value(value)?)
}

/// The canonical bytes of a JSON value.
pub fn value_bytes(value: &Value) -> Result<Vec<u8>, serde_json::Error> {
    if is_plain(value) {
        serde_json::to_vec(value)
    } else {
        serde_json_canonicalizer::to_vec(value)
    }
}

/// The canonical text of a JSON value.
pub fn value_text(value: &Value) -> Result<String, serde_json::Error> {
    if is_plain(value) {
        serde_json::to_string(value)
    } else {
        serde_json_canonicalizer::to_string(value)
    }
}

/// A string as it stands in canonical JSON: serde_json escapes exactly what RFC 8785 §3.2.2.2 does.
pub fn string(text: &str) -> Result<String, serde_json::Error> {
    serde_json::to_string(text)
}

/// SHA-256 of the canonical bytes.
pub fn digest<T: Serialize>(value: &T) -> Result<crate::Digest, serde_json::Error> {
    Ok(crate::Digest::of(&to_bytes(value)?))
}

/// Exact integers, no floats, and names in ASCII that already stand in order: byte order is then UTF-16 order.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(n) => match n.as_u64() {
            Some(u) => u <= MAX_INTEGER,
            None => n.as_i64().is_some_and(|i| i.unsigned_abs() <= MAX_INTEGER),
        },
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(map) => {
            let mut last: Option<&str> = None;
            map.iter().all(|(key, item)| {
                let ordered = key.is_ascii() && last.is_none_or(|last| last < key.as_str());
                last = Some(key);
                ordered && is_plain(item)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1000i64..1000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            "[\\x00-\\x80\u{e000}\u{10000}\\\\\"/]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c\u{7f}\u{e000}\u{10000}\"]{0,3}", inner.clone(), 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
                prop::collection::btree_map("[ -~]{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_fast_way_gives_the_canonical_bytes(value in any_json()) {
            let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(value_bytes(&value).unwrap(), canonical.clone());
            prop_assert_eq!(value_text(&value).unwrap().into_bytes(), canonical);
        }

        #[test]
        fn strings_too(text in "\\PC*|[\\x00-\\xff]*") {
            prop_assert_eq!(string(&text).unwrap(), serde_json_canonicalizer::to_string(&text).unwrap());
        }
    }

    /// RFC 8785 §3.2.3: names sort by UTF-16 code units, which is not the order of their bytes.
    #[test]
    fn published_order() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh", "1": "One",
            "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"
        });
        let text = value_text(&value).unwrap();
        let order =
            ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"].map(|name| text.find(name).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    /// RFC 8785 §3.2.2: the sample object.
    #[test]
    fn published_sample() {
        let value: Value = serde_json::from_str(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
        )
        .unwrap();
        assert_eq!(
            value_text(&value).unwrap(),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }
}
