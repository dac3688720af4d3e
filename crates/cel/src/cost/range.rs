//! Ranges of costs and sizes; what does not fit 64 bits stays at their end.

/// A least and a greatest cost or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
}

impl Range {
    /// Nothing is known.
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    /// A range of one.
    pub const fn fixed(n: u64) -> Range {
        Range { min: n, max: n }
    }

    pub(crate) const fn new(min: u64, max: u64) -> Range {
        Range { min, max }
    }

    pub(crate) fn add(self, other: Range) -> Range {
        Range {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(crate) fn multiply(self, other: Range) -> Range {
        Range {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    /// Times a factor, rounded up.
    pub(crate) fn factor(self, factor: f64) -> Range {
        let times = |n: u64| {
            let n = n as f64;
            if n > 0.0 && factor > 0.0 && n > u64::MAX as f64 / factor {
                return u64::MAX;
            }
            // the cast stops at the end of 64 bits
            (n * factor).ceil() as u64
        };
        Range {
            min: times(self.min),
            max: times(self.max),
        }
    }

    /// The range of both.
    pub(crate) fn union(self, other: Range) -> Range {
        Range {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}
