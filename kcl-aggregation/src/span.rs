//! A stretch of an aggregated record, by offsets.

use std::ops::Range;

use bytes::Bytes;

/// A stretch of the aggregated record that was decoded: offsets instead of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Bytes before the stretch, counted from the first magic byte.
    pub start: u32,
    /// Bytes in the stretch.
    pub len: u32,
}

impl Span {
    /// The same as a range of indexes.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }

    /// These bytes of the aggregated record `record`; empty when `record` is shorter than the one that was decoded.
    #[must_use]
    pub fn of(self, record: &[u8]) -> &[u8] {
        record.get(self.range()).unwrap_or_default()
    }

    /// Like [`Span::of`], as a counted slice that keeps `record` alive instead of copying.
    #[must_use]
    pub fn bytes_of(self, record: &Bytes) -> Bytes {
        let range = self.range();
        if range.end <= record.len() {
            record.slice(range)
        } else {
            Bytes::new()
        }
    }

    /// These bytes as text; empty when they are none, which a decoded key never is.
    pub(crate) fn text_of(self, record: &[u8]) -> &str {
        str::from_utf8(self.of(record)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_a_shorter_record_is_empty() {
        let span = Span { start: 2, len: 3 };
        let record = Bytes::from_static(b"abcdef");
        assert_eq!(span.of(&record), b"cde");
        assert_eq!(span.bytes_of(&record), "cde");
        let shorter = record.slice(..4);
        assert_eq!(span.of(&shorter), b"");
        assert_eq!(span.bytes_of(&shorter), "");
    }
}
