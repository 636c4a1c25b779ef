//! Work on many things at once, and what comes of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn add<T>(list: &Mutex<Vec<T>>, what: T) {
    if let Ok(mut list) = list.lock() {
        list.push(what);
    }
}

/// As many at once as there are CPUs where the tests run.
const AT_ONCE: usize = 2;

/// `work` for each number below `count`, two at once.
pub fn at_once(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}
