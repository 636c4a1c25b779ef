//! The clock of an engine's epochs. It ticks while guests run, and costs nothing otherwise.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::Engine;

/// How late a guest that computes learns that its time is up.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Nobody will run any more.
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with its engine's last sandbox.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

impl Ticker {
    pub(crate) fn of(engine: &Engine) -> Ticker {
        let shared = Arc::new(Shared::default());
        let (engine, own) = (engine.clone(), Arc::clone(&shared));
        std::thread::spawn(move || {
            loop {
                let state = own.state();
                let idle = |state: &mut State| state.running == 0 && !state.over;
                let state = own
                    .changed
                    .wait_while(state, idle)
                    .unwrap_or_else(PoisonError::into_inner);
                if state.over {
                    return;
                }
                drop(state);
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        });
        Ticker { shared }
    }

    /// It ticks until this is dropped.
    pub(crate) fn run(&self) -> Ticks<'_> {
        self.shared.state().running += 1;
        self.shared.changed.notify_one();
        Ticks { shared: &self.shared }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.changed.notify_one();
    }
}

pub(crate) struct Ticks<'a> {
    shared: &'a Shared,
}

impl Drop for Ticks<'_> {
    fn drop(&mut self) {
        self.shared.state().running -= 1;
    }
}
