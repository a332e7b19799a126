//! Answers in CBOR as Kinesis speaks it: payloads, keys and sequence numbers stay where they are in the body.
//!
//! Times are milliseconds under tag 1 (RFC 8949 would have seconds): the Java SDK reads and writes them so
//! (`StructuredJsonMarshaller`, `SdkCborGenerator`).

use bytes::Bytes;

use super::answer::{Answer, read};
use super::cbor_join::join_pieces;
use super::cbor_reader::{BYTES, CborReader, MAP, TEXT};
use super::columns::{RecordSpans, encryption_named};
use super::decode_error::DecodeError;
use super::members::Member;

/// Decodes an answer.
pub(crate) fn decode(body: Bytes) -> Result<Answer, DecodeError> {
    if u32::try_from(body.len()).is_err() {
        return Err(DecodeError::TooLarge);
    }
    match read(&mut CborReader::new(&body)) {
        // Legal CBOR that Kinesis was never seen to send.
        Err(DecodeError::InPieces) => {
            let joined = Bytes::from(join_pieces(&body)?);
            read(&mut CborReader::new(&joined))?.bind(joined)
        }
        answer => answer?.bind(body),
    }
}

/// One record.
#[inline]
pub(super) fn record(reader: &mut CborReader<'_>) -> Result<RecordSpans, DecodeError> {
    let mut record = RecordSpans::default();
    let mut index = 0;
    reader.each(MAP, &mut |reader| {
        match member(reader, index)? {
            Member::Data => record.data = reader.span(BYTES)?.unwrap_or_default(),
            Member::PartitionKey => {
                record.partition_key = reader.span(TEXT)?.unwrap_or_default();
                let key = reader.at(record.partition_key);
                if !key.is_ascii() && str::from_utf8(key).is_err() {
                    return Err(DecodeError::NotUtf8);
                }
            }
            Member::SequenceNumber => {
                record.sequence_number = reader.span(TEXT)?.unwrap_or_default();
            }
            Member::Arrival => record.arrival_millis = reader.whole_number()?,
            Member::Encryption => {
                let name = reader.span(TEXT)?;
                record.encryption = name.map(|name| encryption_named(reader.at(name)));
            }
            Member::Other => reader.skip_nested(0)?,
        }
        index += 1;
        Ok(())
    })?;
    Ok(record)
}

/// The name of the next member.
#[inline]
fn member(reader: &mut CborReader<'_>, index: usize) -> Result<Member, DecodeError> {
    let guess = reader.order.guess(index);
    let rest = reader.rest;
    // A text of up to 23 bytes has its length in the first byte, a longer one in the second.
    let behind = match guess {
        Member::SequenceNumber => rest.strip_prefix(b"\x6eSequenceNumber"),
        Member::Arrival => rest.strip_prefix(b"\x78\x1bApproximateArrivalTimestamp"),
        Member::Data => rest.strip_prefix(b"\x64Data"),
        Member::PartitionKey => rest.strip_prefix(b"\x6cPartitionKey"),
        Member::Encryption => rest.strip_prefix(b"\x6eEncryptionType"),
        Member::Other => None,
    };
    if let Some(behind) = behind {
        reader.rest = behind;
        return Ok(guess);
    }
    let member = Member::named(reader.name()?);
    reader.order.learn(index, member);
    Ok(member)
}
