//! A place in a JSON text.

use std::borrow::Cow;

use memchr::memchr2;

use super::answer::Reader;
use super::columns::RecordSpans;
use super::decode_error::DecodeError;
use super::json;
use super::json_text::JsonText;
use super::members::MemberOrder;
use super::pool::{BufferPool, Lent, Stay};

/// Values that are passed over may be nested this deep; Kinesis needs four levels.
const MAX_DEPTH: u32 = 32;

#[derive(Debug)]
pub(super) struct JsonReader<'a> {
    /// What is not read yet.
    pub(super) rest: &'a [u8],
    /// Payloads of records.
    pub(super) payloads: Lent,
    /// Sequence number and key of the last record.
    pub(super) texts: Vec<u8>,
    pub(super) order: MemberOrder,
}

impl<'a> JsonReader<'a> {
    pub(super) fn new(text: &'a [u8], pool: &BufferPool) -> Self {
        Self {
            rest: text,
            payloads: pool.take(0, Stay::Long),
            texts: Vec::new(),
            order: MemberOrder::unknown(),
        }
    }

    #[inline]
    fn pass_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The first byte of what comes next.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<u8, DecodeError> {
        self.pass_space();
        self.rest.first().copied().ok_or(DecodeError::Truncated)
    }

    /// Goes on behind the byte that was seen.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), DecodeError> {
        if self.peek()? != byte {
            return Err(DecodeError::Expected(what));
        }
        self.advance();
        Ok(())
    }

    #[inline]
    pub(super) fn null(&mut self) -> Result<bool, DecodeError> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), DecodeError> {
        let behind = self.rest.strip_prefix(word);
        self.rest = behind.ok_or(DecodeError::Expected("value"))?;
        Ok(())
    }

    /// A string.
    #[inline]
    pub(super) fn text(&mut self) -> Result<JsonText<'a>, DecodeError> {
        self.expect(b'"', "text")?;
        let all = self.rest;
        let (mut end, mut escaped) = (0, false);
        loop {
            let rest = all.get(end..).ok_or(DecodeError::Truncated)?;
            end += memchr2(b'"', b'\\', rest).ok_or(DecodeError::Truncated)?;
            if all.get(end) == Some(&b'"') {
                break;
            }
            escaped = true;
            end += 2;
        }
        self.rest = all.get(end + 1..).unwrap_or_default();
        let raw = all.get(..end).unwrap_or_default();
        Ok(JsonText::new(raw, escaped))
    }

    /// The characters of a number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<&'a [u8], DecodeError> {
        self.pass_space();
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = self.rest.iter().take_while(|byte| is_part(byte)).count();
        let (number, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        match number {
            [] => Err(DecodeError::Expected("number")),
            _ => Ok(number),
        }
    }

    fn skip_nested(&mut self, depth: u32) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.peek()? {
            b'"' => self.text().map(drop),
            b'{' => self
                .object(&mut |reader, _| reader.skip_nested(depth + 1))
                .map(drop),
            b'[' => self
                .array(&mut |reader| reader.skip_nested(depth + 1))
                .map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number().map(drop),
        }
    }

    /// After a member or an item: whether another one follows.
    fn goes_on(&mut self, end: u8) -> Result<bool, DecodeError> {
        let next = self.peek()?;
        self.advance();
        match next {
            b',' => Ok(true),
            byte if byte == end => Ok(false),
            _ => Err(DecodeError::Expected("comma or end")),
        }
    }

    /// Whether the object or array that was just opened ends at once.
    fn is_empty(&mut self, end: u8) -> Result<bool, DecodeError> {
        let is_empty = self.peek()? == end;
        if is_empty {
            self.advance();
        }
        Ok(is_empty)
    }
}

impl Reader for JsonReader<'_> {
    fn object(
        &mut self,
        member: &mut impl FnMut(&mut Self, &[u8]) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError> {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'{', "object")?;
        if self.is_empty(b'}')? {
            return Ok(true);
        }
        loop {
            let name = self.text()?;
            self.expect(b':', "colon")?;
            member(self, &name.plain()?)?;
            if !self.goes_on(b'}')? {
                return Ok(true);
            }
        }
    }

    fn array(
        &mut self,
        item: &mut impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<bool, DecodeError> {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'[', "list")?;
        if self.is_empty(b']')? {
            return Ok(true);
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Ok(true);
            }
        }
    }

    fn is_string(&mut self) -> bool {
        self.peek() == Ok(b'"')
    }

    fn string(&mut self) -> Result<Option<String>, DecodeError> {
        if self.null()? {
            return Ok(None);
        }
        let text = self.text()?.plain().map(Cow::into_owned)?;
        String::from_utf8(text)
            .map(Some)
            .map_err(|_| DecodeError::NotUtf8)
    }

    fn integer(&mut self) -> Result<Option<i64>, DecodeError> {
        if self.null()? {
            return Ok(None);
        }
        let number = str::from_utf8(self.number()?).unwrap_or_default();
        if let Ok(integer) = number.parse() {
            return Ok(Some(integer));
        }
        let float: f64 = number
            .parse()
            .map_err(|_| DecodeError::Expected("number"))?;
        Ok(Some(float as i64))
    }

    fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_nested(0)
    }

    fn record(&mut self) -> Result<RecordSpans, DecodeError> {
        json::record(self)
    }

    fn texts(&self) -> &[u8] {
        &self.texts
    }

    fn more_like(&mut self, record: &RecordSpans, records: usize) {
        let alike = record.data.range().len().saturating_mul(records);
        // Base64 takes four bytes for three.
        let at_most = self.rest.len() / 4 * 3;
        self.payloads.reserve(alike.min(at_most));
    }

    fn left(&self) -> usize {
        self.rest.len()
    }

    fn end(&mut self) -> Result<(), DecodeError> {
        self.pass_space();
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}
