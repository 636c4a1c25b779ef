//! The JSON Schema of the policy document, generated from its types.

use crate::document::PolicyDocument;
use serde_json::{Value, json};

/// The schema (JSON Schema 2020-12) of a policy document, with descriptions. It is as strict as the reader about
/// fields and types; combination rules are beyond a schema.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(PolicyDocument).to_value();
    forbid_null(&mut schema);
    // The reader takes a bare number as bytes.
    if let Some(size) = schema.pointer_mut("/$defs/ByteSize").and_then(Value::as_object_mut) {
        size.insert("type".into(), json!(["string", "integer"]));
        size.insert("minimum".into(), json!(0));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, value) in [("apiVersion", sr_common::API_VERSION), ("kind", "Policy")] {
            if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
                property.insert("const".into(), json!(value));
            }
        }
    }
    schema
}

/// The types say "optional", which schemars writes as "or null"; the reader takes a field as absent only where it is.
fn forbid_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|c| *c != json!({"type": "null"}));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    map.extend(only);
                }
            }
            map.values_mut().for_each(forbid_null);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::BackendChoice;

    #[test]
    fn the_schema_is_strict_and_described() {
        let schema = json_schema();
        assert_eq!(
            schema["required"],
            json!(["apiVersion", "metadata", "runtime", "mounts"])
        );
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["apiVersion"]["const"], "safe-run/v1");
        assert_eq!(schema["properties"]["runtime"]["required"], json!(["args"]));
        assert_eq!(schema["$defs"]["ByteSize"]["type"], json!(["string", "integer"]));
        assert!(schema["properties"]["session"]["description"].is_string());
        let backends: Vec<_> = BackendChoice::all().map(BackendChoice::name).collect();
        let backend = &schema["$defs"]["BackendChoice"];
        assert_eq!(
            (&backend["type"], &backend["enum"]),
            (&json!("string"), &json!(backends))
        );
        assert!(!schema.to_string().contains("\"null\""), "{schema:#}");
    }

    #[test]
    fn a_rule_for_a_host_call_is_a_word_or_a_map() {
        let schema = json_schema();
        let wasm = &schema["$defs"]["WasmSection"];
        assert_eq!(
            wasm["properties"]["hostCalls"]["additionalProperties"],
            json!({"$ref": "#/$defs/HostCallRule"})
        );
        let forms: Vec<_> = ["HostCallWord", "HostCallSection"]
            .map(|name| json!({"$ref": format!("#/$defs/{name}")}))
            .into();
        assert_eq!(schema["$defs"]["HostCallRule"]["anyOf"], json!(forms));
        let section = &schema["$defs"]["HostCallSection"];
        assert_eq!(section["additionalProperties"], json!(false));
        for field in wasm["properties"].as_object().unwrap().values() {
            assert!(field["description"].is_string(), "{field:#}");
        }
    }
}
