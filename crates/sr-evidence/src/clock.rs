//! RFC 3339 times in UTC with microseconds: `2026-11-22T23:32:05.123456Z`. One spelling, 27 characters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `time` as text. Times before 1970 or after 9999 (a clock that is wrong anyway) are clamped.
pub fn rfc3339(time: SystemTime) -> String {
    const LAST_SECOND: u64 = 253_402_300_799;
    let mut since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since.as_secs() > LAST_SECOND {
        since = Duration::from_secs(LAST_SECOND);
    }
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z",
        since.subsec_micros()
    )
}

/// Whether `text` has exactly the form that [`rfc3339`] writes. Days are checked against 31 only.
pub fn is_rfc3339_micros(text: &str) -> bool {
    const FORM: &[u8; 27] = b"0000-00-00T00:00:00.000000Z";
    let bytes = text.as_bytes();
    let part = |from: usize, to: usize| {
        text.get(from..to)
            .and_then(|t| t.parse::<u32>().ok())
            .unwrap_or(u32::MAX)
    };
    bytes.len() == FORM.len()
        && bytes
            .iter()
            .zip(FORM)
            .all(|(b, form)| if *form == b'0' { b.is_ascii_digit() } else { b == form })
        && (1..=12).contains(&part(5, 7))
        && (1..=31).contains(&part(8, 10))
        && part(11, 13) < 24
        && part(14, 16) < 60
        && part(17, 19) <= 60
}

/// Year, month and day of a day counted from 1970-01-01 (the proleptic Gregorian calendar, in years that begin in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        // Checked with `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (1_795_390_325, "2026-11-22T23:32:05.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert!(is_rfc3339_micros(text));
        }
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_nanos(1_234_567)),
            "1970-01-01T00:00:00.001234Z"
        );
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_secs(u64::MAX >> 8)),
            "9999-12-31T23:59:59.000000Z"
        );
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "2026-11-22T23:32:05Z",
            "2026-11-22T23:32:05.123456+00:00",
            "2026-13-22T23:32:05.123456Z",
            "2026-00-22T23:32:05.123456Z",
            "2026-11-22t23:32:05.123456Z",
            "2026-11-22T24:32:05.123456Z",
            "+026-11-22T23:32:05.123456Z",
        ] {
            assert!(!is_rfc3339_micros(bad), "{bad}");
        }
    }
}
