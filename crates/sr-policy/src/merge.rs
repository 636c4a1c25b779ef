//! How one layer lies over another: maps merge, lists and single values replace.

use std::collections::BTreeMap;

/// Lays `self` over `base`.
pub(crate) trait Merge {
    fn over(self, base: Self) -> Self;
}

impl<T: Merge> Merge for Option<T> {
    fn over(self, base: Self) -> Self {
        match (self, base) {
            (Some(upper), Some(base)) => Some(upper.over(base)),
            (upper, base) => upper.or(base),
        }
    }
}

impl<T> Merge for Vec<T> {
    fn over(self, _: Self) -> Self {
        self
    }
}

impl<T> Merge for BTreeMap<String, T> {
    fn over(self, mut base: Self) -> Self {
        base.extend(self);
        base
    }
}

/// Types that replace as a whole.
macro_rules! replaces {
    ($($ty:ty),* $(,)?) => { $( impl $crate::merge::Merge for $ty {
        fn over(self, _: Self) -> Self { self }
    } )* };
}
pub(crate) use replaces;

replaces!(bool, u32, u64, sr_common::ByteSize, sr_common::Millis);
