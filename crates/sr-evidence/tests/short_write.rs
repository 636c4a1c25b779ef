//! A disk that fills in the middle of an event, stood in for by RLIMIT_FSIZE, which makes `write` take only part of
//! a line. Alone in its program: the limit is the whole process's.
#![allow(clippy::unwrap_used, reason = "a test")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use sr_common::{Code, Digest, RunId};
use sr_evidence::event::Event;
use sr_evidence::files;
use sr_evidence::log::EventLog;

#[test]
fn half_an_event_is_taken_back_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = EventLog::create(files::open_dir(dir.path()).unwrap(), &RunId::new(1, [1; 10]), false).unwrap();
    let path = dir.path().join(files::EVENTS);
    log.append("s", "run.start", json!({})).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let before = log.state();

    let limit = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(whole.len() as u64 + 100),
            maximum: limit.maximum,
        },
    )
    .unwrap();
    let fault = log.append("s", "x", json!({"text": "y".repeat(500)})).unwrap_err();
    setrlimit(Resource::Fsize, limit).unwrap();

    assert_eq!(fault.code, Code::Evd001);
    assert!(fault.found.starts_with("only 100 of "), "{fault}");
    assert_eq!((std::fs::read(&path).unwrap(), log.state()), (whole, before));

    log.append("s", "run.end", json!({})).unwrap();
    let text = std::fs::read(&path).unwrap();
    assert_eq!(Digest::of(&text), log.content_digest());
    let last = text.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap();
    assert_eq!(
        (Event::parse(last).unwrap().seq, Event::parse(last).unwrap().prev),
        (2, before.head)
    );
}
