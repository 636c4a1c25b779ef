//! Work on many things at once, and what comes of it.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn add<T>(list: &Mutex<Vec<T>>, what: T) {
    if let Ok(mut list) = list.lock() {
        list.push(what);
    }
}

/// As many at once at most as there are CPUs where the tests run.
const AT_ONCE: usize = 2;

/// `work` for each number below `count`, two at once where there are two CPUs.
pub fn at_once(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cpus.min(AT_ONCE) {
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
