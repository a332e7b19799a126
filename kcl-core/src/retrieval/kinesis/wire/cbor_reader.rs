//! A place in a CBOR text.

use super::answer::Reader;
use super::cbor;
use super::cbor_head::{Head, take};
use super::columns::RecordSpans;
use super::decode_error::DecodeError;
use super::members::MemberOrder;
use crate::retrieval::batch::Span;

/// Values that are passed over may be nested this deep; Kinesis needs four levels.
pub(super) const MAX_DEPTH: u32 = 32;

pub(super) const UNSIGNED: u8 = 0;
pub(super) const NEGATIVE: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const MAP: u8 = 5;
pub(super) const TAG: u8 = 6;
pub(super) const SIMPLE: u8 = 7;

#[derive(Debug)]
pub(super) struct CborReader<'a> {
    whole: &'a [u8],
    /// What is not read yet.
    pub(super) rest: &'a [u8],
    pub(super) order: MemberOrder,
}

impl<'a> CborReader<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self {
            whole,
            rest: whole,
            order: MemberOrder::unknown(),
        }
    }

    #[inline]
    pub(super) fn head(&mut self) -> Result<Head, DecodeError> {
        Head::take(&mut self.rest)
    }

    /// Whether the container of unknown length ends here; if so, goes on behind its end.
    #[inline]
    pub(super) fn ends(&mut self) -> Result<bool, DecodeError> {
        match self.rest {
            [0xff, rest @ ..] => {
                self.rest = rest;
                Ok(true)
            }
            [] => Err(DecodeError::Truncated),
            _ => Ok(false),
        }
    }

    /// A string of this kind, without what it is made of. `None` for null.
    #[inline]
    pub(super) fn span(&mut self, kind: u8) -> Result<Option<Span>, DecodeError> {
        let head = self.head()?;
        if head.is_null() {
            return Ok(None);
        }
        if head.kind != kind {
            return Err(DecodeError::Expected("string"));
        }
        if head.is_endless {
            return Err(DecodeError::InPieces);
        }
        let start = self.whole.len() - self.rest.len();
        let string = take(&mut self.rest, head.value)?;
        Ok(Some(Span {
            start: u32::try_from(start).map_err(|_| DecodeError::TooLarge)?,
            len: u32::try_from(string.len()).map_err(|_| DecodeError::TooLarge)?,
        }))
    }

    #[inline]
    pub(super) fn at(&self, span: Span) -> &'a [u8] {
        self.whole.get(span.range()).unwrap_or_default()
    }

    /// The name of a member.
    pub(super) fn name(&mut self) -> Result<&'a [u8], DecodeError> {
        let name = self.span(TEXT)?.ok_or(DecodeError::Expected("name"))?;
        Ok(self.at(name))
    }

    /// Calls `next` at every item or member of a container until its end. False for null.
    pub(super) fn each(
        &mut self,
        kind: u8,
        next: &mut impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError> {
        let head = self.head()?;
        if head.is_null() {
            return Ok(false);
        }
        if head.kind != kind {
            return Err(DecodeError::Expected("list or object"));
        }
        if head.is_endless {
            while !self.ends()? {
                next(self)?;
            }
        } else {
            // A length that is a lie ends with the text: every item takes a byte of it.
            for _ in 0..head.value {
                next(self)?;
            }
        }
        Ok(true)
    }

    /// A number of any kind, tagged or not, rounded to a whole one. `None` for null.
    #[inline]
    pub(super) fn whole_number(&mut self) -> Result<Option<i64>, DecodeError> {
        let mut head = self.head()?;
        while head.kind == TAG {
            head = self.head()?;
        }
        let too_large = DecodeError::Expected("number of 64 bits");
        match head.kind {
            UNSIGNED => i64::try_from(head.value).map(Some).map_err(|_| too_large),
            NEGATIVE => i64::try_from(head.value)
                .map(|value| Some(-1 - value))
                .map_err(|_| too_large),
            _ if head.is_null() => Ok(None),
            _ => head
                .float()
                .map(|float| Some(float.round() as i64))
                .ok_or(DecodeError::Expected("number")),
        }
    }

    pub(super) fn skip_nested(&mut self, depth: u32) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let before = self.rest;
        let head = self.head()?;
        match head.kind {
            BYTES | TEXT if head.is_endless => Err(DecodeError::InPieces),
            BYTES | TEXT => take(&mut self.rest, head.value).map(drop),
            ARRAY => {
                self.rest = before;
                self.each(ARRAY, &mut |reader| reader.skip_nested(depth + 1))
                    .map(drop)
            }
            MAP => {
                self.rest = before;
                self.each(MAP, &mut |reader| {
                    reader.skip_nested(depth + 1)?;
                    reader.skip_nested(depth + 1)
                })
                .map(drop)
            }
            TAG => self.skip_nested(depth + 1),
            // A break where no container is open.
            SIMPLE if head.is_endless => Err(DecodeError::Expected("value")),
            _ => Ok(()),
        }
    }
}

impl Reader for CborReader<'_> {
    fn object(
        &mut self,
        member: &mut impl FnMut(&mut Self, &[u8]) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError> {
        self.each(MAP, &mut |reader| {
            let name = reader.name()?;
            member(reader, name)
        })
    }

    fn array(
        &mut self,
        item: &mut impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError> {
        self.each(ARRAY, item)
    }

    fn is_string(&mut self) -> bool {
        self.rest.first().is_some_and(|first| first >> 5 == TEXT)
    }

    fn string(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(span) = self.span(TEXT)? else {
            return Ok(None);
        };
        let text = str::from_utf8(self.at(span)).map_err(|_| DecodeError::NotUtf8)?;
        Ok(Some(text.to_owned()))
    }

    fn integer(&mut self) -> Result<Option<i64>, DecodeError> {
        self.whole_number()
    }

    fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_nested(0)
    }

    #[inline]
    fn record(&mut self) -> Result<RecordSpans, DecodeError> {
        cbor::record(self)
    }

    fn texts(&self) -> &[u8] {
        self.whole
    }

    fn left(&self) -> usize {
        self.rest.len()
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}
