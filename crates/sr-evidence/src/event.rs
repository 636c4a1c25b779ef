//! One event of a run: its shape, its canonical line, its hash, and the data that the first and last events carry.

use crate::clock;
use crate::portable::MAX_INTEGER;
use crate::report::RunResult;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sr_common::{Digest, RunId, canonical};

/// The type of a run's first event. Its data are at least those of [`start_data`].
pub const RUN_START: &str = "run.start";
/// The type of a run's last event. Its data are at least those of [`end_data`].
pub const RUN_END: &str = "run.end";

/// The type of the event that tells the digest of `changes.json`, as `manifest`.
pub const CAPTURE_DONE: &str = "capture.done";

/// One line of `events.jsonl`: a canonical JSON object (RFC 8785).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// 1 for the first event, then without gaps: the number of the line.
    #[schemars(extend("minimum" = 1, "maximum" = MAX_INTEGER))]
    pub seq: u64,
    /// Wall-clock time, RFC 3339 in UTC with microseconds.
    pub time: String,
    /// Microseconds since the run began, by a clock that is never set. Does not decrease.
    #[schemars(extend("maximum" = MAX_INTEGER))]
    pub monotonic: u64,
    /// Who says so, such as `supervisor`.
    pub source: String,
    /// What happened, such as `run.start`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What there is to say about it; always an object. Integers beyond ±(2⁵³−1) are strings.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub data: Value,
    /// `hash` of the event before; for the first event the digest of the run id's text.
    pub prev: Digest,
    /// Digest of the canonical JSON of this event without `hash`.
    pub hash: Digest,
}

/// An event before it has a hash.
pub(crate) struct Draft<'a> {
    pub seq: u64,
    pub time: &'a str,
    pub monotonic: u64,
    pub source: &'a str,
    pub kind: &'a str,
    /// Its canonical text.
    pub data: &'a str,
    pub prev: &'a Digest,
}

impl Draft<'_> {
    /// The event's hash and its canonical text, without a newline. Sorted by name, `hash` stands between `data` and
    /// `monotonic`, so both forms are made from one serialization of the data.
    pub fn encode(&self) -> Result<(Digest, String), serde_json::Error> {
        let rest = format!(
            r#","monotonic":{},"prev":"{}","seq":{},"source":{},"time":{},"type":{}}}"#,
            self.monotonic,
            self.prev,
            self.seq,
            canonical::string(self.source)?,
            canonical::string(self.time)?,
            canonical::string(self.kind)?,
        );
        let mut line = String::with_capacity(self.data.len() + rest.len() + 100);
        line.push_str(r#"{"data":"#);
        line.push_str(self.data);
        let at = line.len();
        line.push_str(&rest);
        let hash = Digest::of(line.as_bytes());
        line.insert_str(at, &format!(r#","hash":"{hash}""#));
        Ok((hash, line))
    }
}

impl Event {
    /// Reads one line (without its newline) and checks all that can be checked of it alone: strict form, canonical
    /// bytes, hash.
    pub fn parse(line: &[u8]) -> Result<Event, String> {
        let event: Event = serde_json::from_slice(line).map_err(|e| format!("is not an event: {e}"))?;
        match event.canonical()?.as_bytes() == line {
            true => Ok(event),
            false => Err("is not canonical JSON (RFC 8785)".into()),
        }
    }

    /// The event's canonical text, if its form and its hash hold.
    pub(crate) fn canonical(&self) -> Result<String, String> {
        let event = self;
        if !event.data.is_object() {
            return Err("is not an event: data is not an object".into());
        }
        if event.seq > MAX_INTEGER || event.monotonic > MAX_INTEGER {
            return Err("is not an event: seq or monotonic is beyond 2^53".into());
        }
        if !clock::is_rfc3339_micros(&event.time) {
            return Err(format!(
                "is not an event: time {:?} is not RFC 3339 in UTC with microseconds",
                event.time
            ));
        }
        let no_form = |e: serde_json::Error| format!("has no canonical form: {e}");
        let data = canonical::to_text(&event.data).map_err(no_form)?;
        let (hash, text) = event.draft(&data).encode().map_err(no_form)?;
        match hash == event.hash {
            true => Ok(text),
            false => Err(format!("hash is {}, its content gives {hash}", event.hash)),
        }
    }

    fn draft<'a>(&'a self, data: &'a str) -> Draft<'a> {
        Draft {
            seq: self.seq,
            time: &self.time,
            monotonic: self.monotonic,
            source: &self.source,
            kind: &self.kind,
            data,
            prev: &self.prev,
        }
    }
}

/// What the first event's `prev` is: it binds the chain to its run.
pub fn genesis(run_id: &RunId) -> Digest {
    Digest::of(run_id.as_str().as_bytes())
}

/// The data that a [`RUN_START`] event must hold; more may be added.
pub fn start_data(run_id: &RunId, policy: &Digest, bundle: &Digest) -> Value {
    json!({"runId": run_id, "policy": policy, "bundle": bundle})
}

/// The data that a [`RUN_END`] event must hold; more may be added.
pub fn end_data(result: &RunResult) -> Value {
    json!({
        "cause": result.cause,
        "exitCode": result.exit_code,
        "signal": result.signal,
        "status": result.status,
        "limitsHit": result.limits_hit,
    })
}

/// The JSON Schema of one line of `events.jsonl`.
pub fn event_schema() -> Value {
    let mut schema = schemars::schema_for!(Event).to_value();
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".into(), "Safe-Run event, v1".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_common::canonical;

    fn event() -> (Digest, String) {
        let data = json!({"z": 1.0, "\u{20ac}": [true, null, -0.0, 1e21, 1e-7, "\u{7}\u{2028}"], "a": {"y": 333_333_333.333_333_3}});
        let data = canonical::to_text(&data).unwrap();
        let draft = Draft {
            seq: 1,
            time: "2026-11-22T23:32:05.000001Z",
            monotonic: 17,
            source: "super\u{e9}\"",
            kind: RUN_START,
            data: &data,
            prev: &Digest::ZERO,
        };
        draft.encode().unwrap()
    }

    #[test]
    fn the_line_is_the_canonical_form_of_the_event() {
        let (hash, line) = event();
        let parsed = Event::parse(line.as_bytes()).unwrap();
        assert_eq!(line, String::from_utf8(canonical::to_bytes(&parsed).unwrap()).unwrap());
        // RFC 8785 §3.2.2.3: numbers as ECMAScript writes them.
        assert!(
            line.starts_with(r#"{"data":{"a":{"y":333333333.3333333},"z":1,"€":[true,null,0,1e+21,1e-7,"\u0007"#),
            "{line}"
        );
        let mut without = serde_json::to_value(&parsed).unwrap();
        without.as_object_mut().unwrap().remove("hash");
        assert_eq!(canonical::digest(&without).unwrap(), hash);
    }

    #[test]
    fn other_spellings_of_the_same_event_are_refused() {
        let (_, line) = event();
        for (other, why) in [
            (line.replace("\"z\":1", "\"z\":1.0"), "canonical"),
            (line.replace(",\"seq\":1", ", \"seq\":1"), "canonical"),
            (line.replace("{\"data\"", "{\"data\":{},\"data\""), "duplicate"),
            (line.replace("\"seq\":1", "\"seq\":1,\"extra\":1"), "unknown field"),
            (line.replace("\"z\":1", "\"z\":2,\"z\":1"), "canonical"),
            (line.replace("\"z\":1", "\"z\":2"), "hash is"),
            (format!("{line} "), "canonical"),
            (format!("{line}{line}"), "trailing"),
            (String::new(), "EOF"),
        ] {
            let error = Event::parse(other.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
