//! Fuel: a budget of computing that is the same on every machine. Each instruction of the guest costs one unit, but for those
//! that do nothing (`nop`, `block`, `loop` and the like: wasmtime's `Config::consume_fuel`); a guest that has none left traps.
//!
//! A budget can be a bucket that fills again with time, up to a ceiling: then what is bounded is a rate.

use crate::error::SandboxError;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use wasmtime::{AsContext, AsContextMut};

/// Samples that an analyzer keeps.
const HISTORY: usize = 64;
/// Two halves of a history whose rates are closer than this, as a part of the first, are alike.
const ALIKE: f64 = 0.1;
/// A rate this many times the median of those before is unusual.
const UNUSUAL: f64 = 4.0;
/// Fewer samples say nothing of what is usual.
const FEWEST: usize = 4;

/// How much fuel a guest has, and whether it gets more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuelConfig {
    /// Units at the start.
    pub initial_fuel: u64,
    /// Milliseconds between two refills.
    pub fuel_interval_ms: u64,
    /// Units a refill.
    pub fuel_refill_amount: u64,
    /// The ceiling: a refill never makes more than this of it.
    pub max_fuel_accumulation: u64,
    /// Without it there is what there was at the start, and nothing else.
    pub enable_auto_refill: bool,
}

impl Default for FuelConfig {
    /// 10¹⁰ units, some seconds of computing, and no more.
    fn default() -> FuelConfig {
        FuelConfig::new(10_000_000_000)
    }
}

/// A time between refills: a duration, or milliseconds.
pub trait Interval {
    fn millis(self) -> u64;
}

impl Interval for u64 {
    fn millis(self) -> u64 {
        self
    }
}

impl Interval for Duration {
    fn millis(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FuelConfig {
    /// A budget of `initial_fuel` units, without refill.
    pub fn new(initial_fuel: u64) -> FuelConfig {
        FuelConfig {
            initial_fuel,
            fuel_interval_ms: 1000,
            fuel_refill_amount: 0,
            max_fuel_accumulation: initial_fuel,
            enable_auto_refill: false,
        }
    }

    /// `amount` units more each `interval`, up to the ceiling.
    pub fn with_refill(self, interval: impl Interval, amount: u64) -> FuelConfig {
        FuelConfig {
            fuel_interval_ms: interval.millis(),
            fuel_refill_amount: amount,
            enable_auto_refill: true,
            ..self
        }
    }

    /// Another ceiling than the fuel at the start.
    pub fn with_max_accumulation(self, max: u64) -> FuelConfig {
        FuelConfig {
            max_fuel_accumulation: max,
            ..self
        }
    }

    pub fn without_auto_refill(self) -> FuelConfig {
        FuelConfig {
            enable_auto_refill: false,
            ..self
        }
    }

    /// # Errors
    /// What can never be meant: no fuel, a ceiling below the start, refills of nothing or in no time.
    pub fn validate(&self) -> Result<(), SandboxError> {
        let bad = |field, found: String, remedy| Err(SandboxError::config(field, found, remedy));
        if self.initial_fuel == 0 {
            return bad(
                "initial_fuel",
                "0".into(),
                "a guest without fuel runs nothing; give it some",
            );
        }
        if self.max_fuel_accumulation < self.initial_fuel {
            let found = format!(
                "{} where the start has {}",
                self.max_fuel_accumulation, self.initial_fuel
            );
            return bad(
                "max_fuel_accumulation",
                found,
                "the ceiling must be at least the fuel at the start",
            );
        }
        if self.enable_auto_refill && self.fuel_refill_amount == 0 {
            return bad(
                "fuel_refill_amount",
                "0".into(),
                "say how much a refill is, or use no refill",
            );
        }
        if self.enable_auto_refill && self.fuel_interval_ms == 0 {
            return bad(
                "fuel_interval_ms",
                "0".into(),
                "say how much time is between refills, 1 ms at least",
            );
        }
        Ok(())
    }
}

/// What became of the fuel.
#[derive(Debug, Clone, PartialEq)]
pub struct FuelStats {
    /// Units left.
    pub current_fuel: u64,
    /// Units used since the start.
    pub consumed_fuel: u64,
    /// Units that refills gave.
    pub refilled_fuel: u64,
    pub refill_count: u64,
    /// Since the store was given its fuel.
    pub elapsed_time: Duration,
    /// Units a second, from the start until now.
    pub consumption_rate: f64,
}

/// Gives a store its fuel, and more of it as time goes by. One limiter is one budget: of one store.
#[derive(Debug)]
pub struct FuelLimiter {
    config: FuelConfig,
    account: Mutex<Account>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    start: Instant,
    refills: u64,
    refilled: u64,
    /// Intervals that have been accounted for.
    intervals: u64,
}

impl FuelLimiter {
    /// # Errors
    /// As [`FuelConfig::validate`].
    pub fn new(config: FuelConfig) -> Result<FuelLimiter, SandboxError> {
        config.validate()?;
        Ok(FuelLimiter {
            config,
            account: Mutex::new(Account::now()),
        })
    }

    /// # Errors
    /// None: its configuration is valid.
    pub fn with_default_config() -> Result<FuelLimiter, SandboxError> {
        FuelLimiter::new(FuelConfig::default())
    }

    pub fn config(&self) -> &FuelConfig {
        &self.config
    }

    pub fn initial_fuel(&self) -> u64 {
        self.config.initial_fuel
    }

    /// Gives a store the fuel of the start. From now on time counts.
    ///
    /// # Errors
    /// An engine without `consume_fuel` has none.
    pub fn set_fuel_to_store(&self, mut store: impl AsContextMut) -> Result<(), SandboxError> {
        let set = store.as_context_mut().set_fuel(self.config.initial_fuel);
        set.map_err(|e| SandboxError::engine("fuel", e))?;
        *self.account() = Account::now();
        Ok(())
    }

    /// Gives a store what became due meanwhile, up to the ceiling: whether it was anything. Whatever runs the guest calls it
    /// now and then, since fuel that is used up before a refill is due ends the guest.
    ///
    /// # Errors
    /// An engine without `consume_fuel` has none.
    pub fn check_and_refill(&self, store: impl AsContextMut) -> Result<bool, SandboxError> {
        self.refill_at(store, Instant::now())
    }

    fn refill_at(&self, mut store: impl AsContextMut, now: Instant) -> Result<bool, SandboxError> {
        if !self.config.enable_auto_refill {
            return Ok(false);
        }
        let mut account = self.account();
        let elapsed = Interval::millis(now.saturating_duration_since(account.start));
        let intervals = elapsed / self.config.fuel_interval_ms.max(1);
        let due = intervals.saturating_sub(account.intervals);
        account.intervals = intervals.max(account.intervals);
        if due == 0 {
            return Ok(false);
        }
        let mut store = store.as_context_mut();
        let left = store.get_fuel().map_err(|e| SandboxError::engine("fuel", e))?;
        let room = self.config.max_fuel_accumulation.saturating_sub(left);
        let amount = self.config.fuel_refill_amount.saturating_mul(due).min(room);
        if amount == 0 {
            return Ok(false);
        }
        store
            .set_fuel(left.saturating_add(amount))
            .map_err(|e| SandboxError::engine("fuel", e))?;
        account.refills += 1;
        account.refilled = account.refilled.saturating_add(amount);
        Ok(true)
    }

    /// Whether nothing is left. A store that has no fuel to speak of counts as one that has none left.
    pub fn is_exhausted(&self, store: impl AsContext) -> bool {
        store.as_context().get_fuel().unwrap_or(0) == 0
    }

    /// # Errors
    /// An engine without `consume_fuel` has none.
    pub fn get_stats(&self, store: impl AsContext) -> Result<FuelStats, SandboxError> {
        let current = store.as_context().get_fuel();
        let current = current.map_err(|e| SandboxError::engine("fuel", e))?;
        let account = *self.account();
        let given = self.config.initial_fuel.saturating_add(account.refilled);
        let consumed = given.saturating_sub(current);
        let elapsed = account.start.elapsed();
        Ok(FuelStats {
            current_fuel: current,
            consumed_fuel: consumed,
            refilled_fuel: account.refilled,
            refill_count: account.refills,
            elapsed_time: elapsed,
            consumption_rate: rate(consumed, elapsed),
        })
    }

    /// What a thread that panicked left is as good as ever: numbers.
    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Account {
    fn now() -> Account {
        Account {
            start: Instant::now(),
            refills: 0,
            refilled: 0,
            intervals: 0,
        }
    }
}

fn rate(units: u64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        seconds if seconds > 0.0 => units as f64 / seconds,
        _ => 0.0,
    }
}

/// Where a guest's consumption goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FuelTrend {
    /// The later half of the history has, to a tenth, the rate of the earlier.
    Stable,
    Increasing,
    Decreasing,
    /// Fewer than four samples.
    InsufficientData,
}

/// What is out of the ordinary about a guest's consumption.
#[derive(Debug, Clone, PartialEq)]
pub enum FuelAnomaly {
    /// The last rate, units a second, is more than four times the median of those before.
    AbnormallyHighConsumption { current: u64, average: u64 },
    /// All fuel was gone within a second.
    RapidDepletion { time: Duration, consumed: u64 },
    /// The last rate is less than a quarter of the median, or more than four times.
    UnusualRate { rate: f64, expected_range: (f64, f64) },
}

/// The last samples of a guest's fuel, and what they say. It looks, and stops nothing.
#[derive(Debug, Clone, Default)]
pub struct FuelAnalyzer {
    samples: VecDeque<FuelStats>,
    most: usize,
}

impl FuelAnalyzer {
    /// Keeps so many samples, two at least.
    pub fn new(max_history_size: usize) -> FuelAnalyzer {
        FuelAnalyzer {
            samples: VecDeque::new(),
            most: max_history_size.max(2),
        }
    }

    /// Of a size for one run.
    pub fn with_default_history() -> FuelAnalyzer {
        FuelAnalyzer::new(HISTORY)
    }

    pub fn record(&mut self, stats: FuelStats) {
        if self.samples.len() >= self.most {
            self.samples.pop_front();
        }
        self.samples.push_back(stats);
    }

    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// Units a second between each two samples that follow each other.
    fn rates(&self) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs
            .map(|(before, after)| {
                let units = after.consumed_fuel.saturating_sub(before.consumed_fuel);
                rate(units, after.elapsed_time.saturating_sub(before.elapsed_time))
            })
            .collect()
    }

    /// Over all that is kept, units a second.
    pub fn average_consumption_rate(&self) -> f64 {
        match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) if self.samples.len() > 1 => rate(
                last.consumed_fuel.saturating_sub(first.consumed_fuel),
                last.elapsed_time.saturating_sub(first.elapsed_time),
            ),
            (_, Some(only)) => only.consumption_rate,
            _ => 0.0,
        }
    }

    pub fn analyze_trend(&self) -> FuelTrend {
        let rates = self.rates();
        if self.samples.len() < FEWEST {
            return FuelTrend::InsufficientData;
        }
        let (earlier, later) = rates.split_at(rates.len() / 2);
        let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let (earlier, later) = (mean(earlier), mean(later));
        match later - earlier {
            change if change.abs() <= earlier.abs() * ALIKE => FuelTrend::Stable,
            change if change > 0.0 => FuelTrend::Increasing,
            _ => FuelTrend::Decreasing,
        }
    }

    pub fn detect_anomalies(&self) -> Vec<FuelAnomaly> {
        let mut found = Vec::new();
        let Some(last) = self.samples.back() else {
            return found;
        };
        if last.current_fuel == 0 && last.elapsed_time < Duration::from_secs(1) {
            found.push(FuelAnomaly::RapidDepletion {
                time: last.elapsed_time,
                consumed: last.consumed_fuel,
            });
        }
        let mut rates = self.rates();
        let Some(current) = rates.pop().filter(|_| rates.len() >= FEWEST - 1) else {
            return found;
        };
        rates.sort_by(f64::total_cmp);
        let Some(median) = rates.get(rates.len() / 2).copied() else {
            return found;
        };
        let expected_range = (median / UNUSUAL, median * UNUSUAL);
        if current > expected_range.1 {
            found.push(FuelAnomaly::AbnormallyHighConsumption {
                current: current as u64,
                average: median as u64,
            });
        }
        if current < expected_range.0 || current > expected_range.1 {
            found.push(FuelAnomaly::UnusualRate {
                rate: current,
                expected_range,
            });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, Instance, Module, Store};

    fn engine() -> Engine {
        Engine::new(Config::new().consume_fuel(true)).unwrap()
    }

    fn stats(consumed: u64, millis: u64) -> FuelStats {
        FuelStats {
            current_fuel: 1 << 40,
            consumed_fuel: consumed,
            refilled_fuel: 0,
            refill_count: 0,
            elapsed_time: Duration::from_millis(millis),
            consumption_rate: 0.0,
        }
    }

    #[test]
    fn what_can_never_be_meant_is_refused() {
        let field = |config: FuelConfig| match FuelLimiter::new(config) {
            Err(SandboxError::Config { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(FuelConfig::new(0)), "initial_fuel");
        assert_eq!(
            field(FuelConfig::new(9).with_max_accumulation(8)),
            "max_fuel_accumulation"
        );
        assert_eq!(field(FuelConfig::new(9).with_refill(1000, 0)), "fuel_refill_amount");
        assert_eq!(
            field(FuelConfig::new(9).with_refill(Duration::ZERO, 1)),
            "fuel_interval_ms"
        );
        assert!(
            FuelConfig::new(9)
                .with_refill(1000, 0)
                .without_auto_refill()
                .validate()
                .is_ok()
        );
        assert!(FuelConfig::default().validate().is_ok());
    }

    #[test]
    fn fuel_is_the_same_at_each_run_and_its_end_is_the_guests() {
        let engine = engine();
        let module = r#"(module (func (export "f") (param i32) (loop
            (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))))"#;
        let module = Module::new(&engine, module).unwrap();
        let used = |turns: i32, fuel: u64| {
            let limiter = FuelLimiter::new(FuelConfig::new(fuel)).unwrap();
            let mut store = Store::new(&engine, ());
            limiter.set_fuel_to_store(&mut store).unwrap();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let f = instance.get_typed_func::<i32, ()>(&mut store, "f").unwrap();
            let ended = f.call(&mut store, turns).is_ok();
            let stats = limiter.get_stats(&store).unwrap();
            assert_eq!(stats.current_fuel + stats.consumed_fuel, fuel);
            assert_eq!(limiter.is_exhausted(&store), stats.current_fuel == 0);
            (ended, stats.consumed_fuel)
        };
        let (ended, ten) = used(10, 10_000);
        assert!(ended && ten > 10);
        assert_eq!(used(10, 10_000), (true, ten));
        let (ended, thousand) = used(1000, 1_000_000);
        assert!(ended);
        // Each turn costs the same.
        assert_eq!((thousand - ten) % 990, 0);
        let (ended, all) = used(1000, 500);
        assert!(!ended && all == 500, "{all}");
    }

    #[test]
    fn refills_come_with_time_and_end_at_the_ceiling() {
        let engine = engine();
        let config = FuelConfig::new(1000).with_refill(100, 300).with_max_accumulation(1200);
        let limiter = FuelLimiter::new(config).unwrap();
        let mut store = Store::new(&engine, ());
        limiter.set_fuel_to_store(&mut store).unwrap();
        let start = limiter.account().start;
        let at = |store: &mut Store<()>, millis| {
            limiter
                .refill_at(&mut *store, start + Duration::from_millis(millis))
                .unwrap()
        };
        assert!(!at(&mut store, 99));
        assert!(at(&mut store, 100));
        assert_eq!(store.get_fuel().unwrap(), 1200);
        // Full: what is due then is not due later.
        assert!(!at(&mut store, 250));
        store.set_fuel(100).unwrap();
        assert!(!at(&mut store, 299));
        assert!(at(&mut store, 300));
        assert_eq!(store.get_fuel().unwrap(), 400);
        // Two at once.
        assert!(at(&mut store, 500));
        assert_eq!(store.get_fuel().unwrap(), 1000);
        let stats = limiter.get_stats(&store).unwrap();
        assert_eq!((stats.refill_count, stats.refilled_fuel), (3, 200 + 300 + 600));
    }

    #[test]
    fn an_engine_without_fuel_is_an_error() {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let limiter = FuelLimiter::with_default_config().unwrap();
        assert!(limiter.set_fuel_to_store(&mut store).is_err());
        assert!(limiter.get_stats(&store).is_err() && limiter.is_exhausted(&store));
    }

    #[test]
    fn trends_are_of_rates() {
        let of = |consumed: &[u64]| {
            let mut analyzer = FuelAnalyzer::with_default_history();
            for (n, consumed) in consumed.iter().enumerate() {
                analyzer.record(stats(*consumed, n as u64 * 100));
            }
            analyzer
        };
        assert_eq!(of(&[0, 1, 2]).analyze_trend(), FuelTrend::InsufficientData);
        let even = of(&[0, 100, 200, 300, 400]);
        assert_eq!(even.analyze_trend(), FuelTrend::Stable);
        assert!((even.average_consumption_rate() - 1000.0).abs() < 1e-6);
        assert!(even.detect_anomalies().is_empty());
        assert_eq!(of(&[0, 10, 20, 120, 220]).analyze_trend(), FuelTrend::Increasing);
        assert_eq!(of(&[0, 100, 200, 210, 220]).analyze_trend(), FuelTrend::Decreasing);
        let burst = of(&[0, 100, 200, 300, 1300]).detect_anomalies();
        assert!(
            matches!(
                burst[..],
                [
                    FuelAnomaly::AbnormallyHighConsumption {
                        current: 10_000,
                        average: 1000
                    },
                    FuelAnomaly::UnusualRate { .. }
                ]
            ),
            "{burst:?}"
        );
        assert!(matches!(
            of(&[0, 100, 200, 300, 301]).detect_anomalies()[..],
            [FuelAnomaly::UnusualRate { .. }]
        ));
        let mut gone = FuelAnalyzer::new(0);
        gone.record(FuelStats {
            current_fuel: 0,
            ..stats(7, 10)
        });
        assert!(matches!(
            gone.detect_anomalies()[..],
            [FuelAnomaly::RapidDepletion { consumed: 7, .. }]
        ));
        gone.clear();
        assert!(gone.detect_anomalies().is_empty() && gone.average_consumption_rate() == 0.0);
    }

    #[test]
    fn a_history_is_bounded() {
        let mut analyzer = FuelAnalyzer::new(3);
        (0..10).for_each(|n| analyzer.record(stats(n, n)));
        assert_eq!(analyzer.samples.len(), 3);
    }
}
