//! Answers in JSON: payloads are decoded from base64 into one buffer, and the larger body can go at once.

use super::answer::{Answer, Reader, read};
use super::columns::{RecordSpans, encryption_named};
use super::decode_error::DecodeError;
use super::json_reader::JsonReader;
use super::json_time::millis_of_seconds;
use super::members::Member;
use super::pool::{BufferPool, Stay};
use crate::retrieval::batch::Span;
use crate::retrieval::record::EncryptionType;

/// Decodes an answer.
pub(crate) fn decode(body: &[u8], pool: &BufferPool) -> Result<Answer, DecodeError> {
    if u32::try_from(body.len()).is_err() {
        return Err(DecodeError::TooLarge);
    }
    let mut reader = JsonReader::new(body, pool);
    let answer = read(&mut reader)?;
    answer.bind(reader.payloads.into_bytes(Stay::Long))
}

/// The members of one record, at its opening brace.
pub(super) fn record(reader: &mut JsonReader<'_>) -> Result<RecordSpans, DecodeError> {
    let mut record = RecordSpans::default();
    reader.texts.clear();
    reader.expect(b'{', "record")?;
    if reader.peek()? == b'}' {
        reader.advance();
        return Ok(record);
    }
    for index in 0.. {
        match member(reader, index)? {
            Member::Data => record.data = payload(reader)?,
            Member::PartitionKey => record.partition_key = text(reader)?,
            // Digits, which is checked later.
            Member::SequenceNumber => record.sequence_number = copied(reader)?.unwrap_or_default(),
            Member::Arrival => record.arrival_millis = arrival(reader)?,
            Member::Encryption => record.encryption = encryption(reader)?,
            Member::Other => reader.skip()?,
        }
        match reader.peek()? {
            b',' => reader.advance(),
            b'}' => break,
            _ => return Err(DecodeError::Expected("comma or end of a record")),
        }
    }
    reader.advance();
    Ok(record)
}

/// The name of the next member.
fn member(reader: &mut JsonReader<'_>, index: usize) -> Result<Member, DecodeError> {
    let guess = reader.order.guess(index);
    let rest = reader.rest;
    let behind = match guess {
        Member::SequenceNumber => rest.strip_prefix(b"\"SequenceNumber\":"),
        Member::Arrival => rest.strip_prefix(b"\"ApproximateArrivalTimestamp\":"),
        Member::Data => rest.strip_prefix(b"\"Data\":"),
        Member::PartitionKey => rest.strip_prefix(b"\"PartitionKey\":"),
        Member::Encryption => rest.strip_prefix(b"\"EncryptionType\":"),
        Member::Other => None,
    };
    if let Some(behind) = behind {
        reader.rest = behind;
        return Ok(guess);
    }
    let name = reader.text()?;
    let member = Member::named(&name.plain()?);
    reader.expect(b':', "colon")?;
    reader.order.learn(index, member);
    Ok(member)
}

fn payload(reader: &mut JsonReader<'_>) -> Result<Span, DecodeError> {
    if reader.null()? {
        return Ok(Span::default());
    }
    let text = reader.text()?;
    let plain = text.plain()?;
    let payloads = reader.payloads.content();
    let start = payloads.len();
    base64_simd::STANDARD
        .decode_append(plain.as_ref(), payloads)
        .map_err(|_| DecodeError::NotBase64)?;
    span_from(payloads, start)
}

fn text(reader: &mut JsonReader<'_>) -> Result<Span, DecodeError> {
    let span = copied(reader)?.unwrap_or_default();
    let text = reader.texts.get(span.range()).unwrap_or_default();
    if !text.is_ascii() && str::from_utf8(text).is_err() {
        return Err(DecodeError::NotUtf8);
    }
    Ok(span)
}

/// A string as it is, among the texts. `None` for null.
#[inline]
fn copied(reader: &mut JsonReader<'_>) -> Result<Option<Span>, DecodeError> {
    if reader.null()? {
        return Ok(None);
    }
    let text = reader.text()?;
    let plain = text.plain()?;
    let start = reader.texts.len();
    reader.texts.extend_from_slice(&plain);
    span_from(&reader.texts, start).map(Some)
}

fn arrival(reader: &mut JsonReader<'_>) -> Result<Option<i64>, DecodeError> {
    if reader.null()? {
        return Ok(None);
    }
    let number = reader.number()?;
    let millis = millis_of_seconds(number).ok_or(DecodeError::Expected("time"))?;
    Ok(Some(millis))
}

fn encryption(reader: &mut JsonReader<'_>) -> Result<Option<EncryptionType>, DecodeError> {
    if reader.null()? {
        return Ok(None);
    }
    let name = reader.text()?;
    Ok(Some(encryption_named(&name.plain()?)))
}

fn span_from(buffer: &[u8], start: usize) -> Result<Span, DecodeError> {
    let len = u32::try_from(buffer.len() - start).map_err(|_| DecodeError::TooLarge)?;
    let start = u32::try_from(start).map_err(|_| DecodeError::TooLarge)?;
    Ok(Span { start, len })
}
