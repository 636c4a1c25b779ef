//! Every target under random bytes, its seeds, and its seeds changed; a bounded number of cases each. `fuzz/` goes on from
//! there.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use sr_common::digest::hex;
use sr_fuzz::choices::{Choices, mutate};
use sr_fuzz::target;

/// Judges `cases` random inputs of up to `length` bytes.
fn judged(name: &str, cases: u32, length: usize) {
    let Some(target) = target(name) else {
        panic!("no target {name}")
    };
    let seeds = (target.seeds)();
    for seed in &seeds {
        assert_eq!((target.judge)(seed), Ok(()), "{:?}", String::from_utf8_lossy(seed));
    }
    let bytes = || prop::collection::vec(any::<u8>(), 0..length);
    let input = (
        any::<prop::sample::Index>(),
        any::<bool>(),
        bytes(),
        prop::collection::vec(any::<u8>(), 40),
    );
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let made = input.prop_map(|(index, seeded, bytes, how)| {
        let mut input = bytes;
        if seeded && !seeds.is_empty() {
            input = seeds[index.index(seeds.len())].clone();
            mutate(&mut input, &mut Choices::new(&how));
        }
        input
    });
    let run = TestRunner::new(config).run(&made, |input| (target.judge)(&input).map_err(TestCaseError::fail));
    match run {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{name}: {why}\nof the input {}", hex(&input)),
        Err(TestError::Abort(why)) => panic!("{name}: {why}"),
    }
}

#[test]
fn policy_text() {
    judged("policy_text", 4000, 300);
}

#[test]
fn policy_forms() {
    judged("policy_forms", 600, 300);
}

#[test]
fn guest_stream() {
    judged("guest_stream", 4000, 600);
}

#[test]
fn helper_request() {
    judged("helper_request", 4000, 300);
}

#[test]
fn archive() {
    judged("archive", 3000, 1600);
}

#[test]
fn layers() {
    judged("layers", 500, 500);
}

#[test]
fn events() {
    judged("events", 400, 40);
}

#[test]
fn approvals() {
    judged("approvals", 250, 40);
}

#[test]
fn report() {
    judged("report", 250, 60);
}

#[test]
fn documents() {
    judged("documents", 250, 60);
}

#[test]
fn bundle() {
    judged("bundle", 150, 400);
}

#[test]
fn filter() {
    judged("filter", 150, 200);
}

#[test]
fn program() {
    match sr_fuzz::kernel::takes(&[(0x06, 0, 0, 0)]) {
        Ok(taken) => assert!(taken, "the kernel takes a return"),
        Err(why) => return println!("SKIP program: {why}"),
    }
    judged("program", 6000, 400);
}

#[test]
fn execution() {
    match sr_fuzz::kernel::answers(&[(0x06, 0, 0, 0x8000_0001)], 1, 1) {
        Ok(answer) => assert_eq!(answer, 0x8000_0001),
        Err(why) => return println!("SKIP execution: {why}"),
    }
    judged("execution", 2000, 600);
}
