//! The digests of many records, checked together.

use std::fmt;

use crate::Damaged;
use crate::digest::md5;
use crate::frame::{looks_aggregated, message};
use crate::lanes::md5_each;

/// The data of a Kinesis record whose digest was checked, if it looks aggregated.
#[derive(Clone, Copy)]
pub struct CheckedRecord<'a> {
    record: &'a [u8],
    frame: Frame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Plain,
    TooLarge,
    WrongDigest,
    Right,
}

impl<'a> CheckedRecord<'a> {
    /// Checks the records of one answer. Their digests are computed several at a time, which takes less time than one after
    /// the other.
    #[must_use]
    pub fn check_all(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<Self> {
        let mut checked: Vec<Self> = records.into_iter().map(Self::unchecked).collect();
        let messages = checked
            .iter()
            .filter(|record| record.frame == Frame::Right)
            .map(|record| message(record.record).0);
        let digests = md5_each(messages);
        let looks_right = checked
            .iter_mut()
            .filter(|record| record.frame == Frame::Right);
        for (record, computed) in looks_right.zip(digests) {
            let (_, digest) = message(record.record);
            record.conclude(computed == digest);
        }
        checked
    }

    /// Checks one record.
    #[must_use]
    pub fn check(record: &'a [u8]) -> Self {
        let mut checked = Self::unchecked(record);
        if checked.frame == Frame::Right {
            let (message, digest) = message(record);
            checked.conclude(md5(message) == digest);
        }
        checked
    }

    fn conclude(&mut self, is_right: bool) {
        if !is_right {
            self.frame = Frame::WrongDigest;
        }
    }

    /// What begins like an aggregated record counts as one.
    fn unchecked(record: &'a [u8]) -> Self {
        let frame = match looks_aggregated(record) {
            false => Frame::Plain,
            true if u32::try_from(record.len()).is_err() => Frame::TooLarge,
            true => Frame::Right,
        };
        Self { record, frame }
    }

    pub(crate) fn record(self) -> &'a [u8] {
        self.record
    }

    /// Whether the record is aggregated.
    pub(crate) fn is_aggregated(self) -> Result<bool, Damaged> {
        match self.frame {
            Frame::Plain => Ok(false),
            Frame::TooLarge => Err(Damaged::TooLarge),
            Frame::WrongDigest => Err(Damaged::Digest),
            Frame::Right => Ok(true),
        }
    }
}

/// Shows the size only: payloads do not belong in logs.
impl fmt::Debug for CheckedRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedRecord")
            .field("bytes", &self.record.len())
            .field("frame", &self.frame)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frame;

    #[test]
    fn each_record_gets_its_own_verdict() {
        let right: Vec<Vec<u8>> = (1..20).map(|len| frame(&[&vec![7; len * 11]])).collect();
        let mut all = Vec::new();
        for framed in &right {
            all.push((framed.clone(), Ok(true)));
            let mut wrong = framed.clone();
            wrong[5] ^= 1;
            all.push((wrong, Err(Damaged::Digest)));
            all.push((framed[1..].to_vec(), Ok(false)));
            all.push((Vec::new(), Ok(false)));
        }
        let checked = CheckedRecord::check_all(all.iter().map(|(record, _)| record.as_slice()));
        assert_eq!(checked.len(), all.len());
        for (checked, (record, verdict)) in checked.iter().zip(&all) {
            assert_eq!(checked.record(), record);
            assert_eq!(checked.is_aggregated(), *verdict);
            let alone = CheckedRecord::check(record);
            assert_eq!(alone.is_aggregated(), *verdict);
        }
    }
}
