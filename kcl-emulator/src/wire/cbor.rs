//! CBOR 1.1 as Kinesis speaks it: JSON's data model with byte strings for blobs, and moments as
//! tag 1 with an integer of epoch milliseconds (the Java SDK reads and writes them so).

use std::fmt;

use serde::de::{self, DeserializeOwned};
use serde::{Serialize, ser};

use super::cbor_read::Reader;
use super::cbor_write::Writer;

/// Values may be nested this deep; the requests of Kinesis need four levels.
pub(super) const MAX_DEPTH: usize = 64;

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CborError(pub(super) String);

impl fmt::Display for CborError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for CborError {}

impl ser::Error for CborError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl de::Error for CborError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl From<minicbor::decode::Error> for CborError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self(error.to_string())
    }
}

impl<E: fmt::Display> From<minicbor::encode::Error<E>> for CborError {
    fn from(error: minicbor::encode::Error<E>) -> Self {
        Self(error.to_string())
    }
}

pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let mut writer = Writer::default();
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

pub(crate) fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, CborError> {
    let mut reader = map_reader(body)?;
    let value = T::deserialize(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// A reader of a body, which must be a map; an empty one counts as an empty map.
pub(super) fn map_reader(body: &[u8]) -> Result<Reader<'_>, CborError> {
    /// The major type of maps, in the first three bits.
    const MAP: u8 = 5;
    match body {
        [] => Ok(Reader::new(&[0xa0])),
        [first, ..] if first >> 5 == MAP => Ok(Reader::new(body)),
        _ => Err(de::Error::custom("the body is not a CBOR map")),
    }
}
