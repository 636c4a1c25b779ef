//! JSON for people: indented, but a list of plain values stays on one line.

use serde::Serialize;
use serde_json::Value;
use sr_common::{Code, Fault};
use std::fmt::Write as _;

/// The value as indented text with a newline at the end, its fields sorted by name.
pub fn pretty<T: Serialize>(value: &T) -> Result<String, Fault> {
    let value = serde_json::to_value(value).map_err(|e| {
        Fault::new(
            Code::Cmp002,
            "output",
            format!("cannot be written as JSON: {e}"),
            "report this as a defect",
        )
    })?;
    let mut out = String::new();
    write(&value, 0, &mut out);
    out.push('\n');
    Ok(out)
}

fn write(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) if items.iter().any(|i| i.is_array() || i.is_object()) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                line(depth + 1, i, out);
                write(item, depth + 1, out);
            }
            line(depth, 0, out);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                line(depth + 1, i, out);
                // Writing to a string cannot fail.
                let _ = write!(out, "{}: ", Value::from(key.as_str()));
                write(item, depth + 1, out);
            }
            line(depth, 0, out);
            out.push('}');
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            let _ = write!(out, "[{}]", items.join(", "));
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}

fn line(depth: usize, before: usize, out: &mut String) {
    let comma = if before > 0 { "," } else { "" };
    let _ = write!(out, "{comma}\n{:indent$}", "", indent = depth * 2);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn it_is_the_same_json() {
        let value = json!({"a": [1, "x\u{1b}"], "b": [[1, 2], [3, 4]], "c": {}, "d": [], "e": {"f": null, "g\"": 1.5}});
        let text = super::pretty(&value).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(
            text.contains("\"a\": [1, \"x\\u001b\"],\n") && text.contains("    [1, 2],\n"),
            "{text}"
        );
    }
}
