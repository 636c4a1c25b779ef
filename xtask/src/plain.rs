//! Numbers as people read them.

use std::time::Duration;

pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{} s", time.as_secs()),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// The middle one; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => sorted.get(middle - 1).map_or(*upper, |lower| (lower + upper) / 2.0),
        (Some(value), _) => *value,
        (None, _) => 0.0,
    }
}

pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::min).unwrap_or(0.0)
}

/// The middle one of the ratios, pair by pair: what the machine did besides met both of a pair.
pub fn median_ratio(of: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&ratios)
}

/// A number behind `--NAME`, or the default.
pub fn number(options: &[&str], name: &str, default: u32) -> Result<u32, String> {
    match options.iter().position(|o| *o == name) {
        None => Ok(default),
        Some(at) => match options.get(at + 1).map(|n| n.parse()) {
            Some(Ok(n)) => Ok(n),
            _ => Err(format!("{name} wants a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(
            (median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])),
            (0.0, 2.0, 2.5)
        );
        assert_eq!(median_ratio(&[1.0, 8.0, 3.0], &[2.0, 2.0, 3.0]), 1.0);
    }
}
