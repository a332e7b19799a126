//! Strings that come in pieces, joined: a text of CBOR is written anew with each such string in one.

use super::cbor_head::{Head, take};
use super::cbor_reader::{ARRAY, BYTES, CborReader, MAP, MAX_DEPTH, TAG, TEXT};
use super::decode_error::DecodeError;

/// The same text without pieces.
pub(super) fn join_pieces(whole: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(whole.len());
    let mut reader = CborReader::new(whole);
    item(&mut reader, &mut out, 0)?;
    if reader.rest.is_empty() {
        Ok(out)
    } else {
        Err(DecodeError::Trailing)
    }
}

fn item(reader: &mut CborReader<'_>, out: &mut Vec<u8>, depth: u32) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let before = reader.rest;
    let head = reader.head()?;
    match head.kind {
        BYTES | TEXT if head.is_endless => string(reader, out, head.kind),
        BYTES | TEXT => {
            take(&mut reader.rest, head.value)?;
            copy(before, reader.rest, out);
            Ok(())
        }
        ARRAY | MAP => {
            copy(before, reader.rest, out);
            // Members are two items each; only the end of an endless map is looked for between them.
            let each = if head.kind == MAP { 2 } else { 1 };
            if head.is_endless {
                while !reader.ends()? {
                    items(reader, out, depth, each)?;
                }
                out.push(0xff);
            } else {
                for _ in 0..head.value {
                    items(reader, out, depth, each)?;
                }
            }
            Ok(())
        }
        TAG => {
            copy(before, reader.rest, out);
            item(reader, out, depth + 1)
        }
        _ if head.is_endless => Err(DecodeError::Expected("value")),
        _ => {
            copy(before, reader.rest, out);
            Ok(())
        }
    }
}

fn items(
    reader: &mut CborReader<'_>,
    out: &mut Vec<u8>,
    depth: u32,
    count: usize,
) -> Result<(), DecodeError> {
    for _ in 0..count {
        item(reader, out, depth + 1)?;
    }
    Ok(())
}

fn string(reader: &mut CborReader<'_>, out: &mut Vec<u8>, kind: u8) -> Result<(), DecodeError> {
    let mut joined = Vec::new();
    while !reader.ends()? {
        let piece = reader
            .span(kind)?
            .ok_or(DecodeError::Expected("piece of a string"))?;
        joined.extend_from_slice(reader.at(piece));
    }
    Head::write(out, kind, joined.len() as u64);
    out.extend_from_slice(&joined);
    Ok(())
}

/// Copies what was read between two places.
fn copy(before: &[u8], after: &[u8], out: &mut Vec<u8>) {
    let read = before.len() - after.len();
    out.extend_from_slice(before.get(..read).unwrap_or_default());
}
