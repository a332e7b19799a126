//! Frames of an event stream, as a subscription has them: lengths, their checksum, headers, payload, the checksum of all.

use bytes::{BufMut, Bytes, BytesMut};
use kcl_core::Wire;

const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// The type of a header's value.
const STRING: u8 = 7;

/// One event.
pub(super) fn event(event_type: &str, wire: Wire, payload: &[u8]) -> Bytes {
    let content_type = match wire {
        Wire::Json => "application/json",
        Wire::Cbor => "application/cbor",
    };
    let headers = [
        (":message-type", "event"),
        (":event-type", event_type),
        (":content-type", content_type),
    ];
    let headers_length: usize = headers
        .iter()
        .map(|(name, value)| 1 + name.len() + 3 + value.len())
        .sum();
    let length = PRELUDE + headers_length + payload.len() + CHECKSUM;
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    frame.put_u32(crc32fast::hash(&frame));
    for (name, value) in headers {
        frame.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        frame.put_slice(name.as_bytes());
        frame.put_u8(STRING);
        frame.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        frame.put_slice(value.as_bytes());
    }
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}
