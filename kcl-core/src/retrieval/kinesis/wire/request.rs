//! The bodies of requests, in JSON or CBOR: objects of texts, numbers and times, which is all that the two operations with
//! records need.

use std::io::Write as _;

use aws_smithy_schema::Schema;
use aws_smithy_schema::serde::{SerdeError, SerializableStruct, ShapeSerializer};
use aws_smithy_types::{BigDecimal, BigInteger, Blob, DateTime, Document};

use super::Wire;
use super::cbor_head::Head;
use super::cbor_reader::{NEGATIVE, TEXT, UNSIGNED};
use super::unused::never_written;

const OPEN_MAP: u8 = 0xbf;
const BREAK: u8 = 0xff;
const TIME_TAG: u8 = 0xc1;
const NULL: u8 = 0xf6;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// The body of a request.
pub(super) fn body(
    wire: Wire,
    input: &dyn SerializableStruct,
    schema: &Schema<'_>,
) -> Result<Vec<u8>, SerdeError> {
    let mut writer = RequestWriter {
        wire,
        out: Vec::with_capacity(512),
        is_nested: false,
        is_first: true,
    };
    writer.write_struct(schema, input)?;
    Ok(writer.out)
}

struct RequestWriter {
    wire: Wire,
    out: Vec<u8>,
    /// The outermost object has no name.
    is_nested: bool,
    /// Whether the next member is the first one of its object.
    is_first: bool,
}

impl RequestWriter {
    fn name(&mut self, member: &Schema<'_>) -> Result<(), SerdeError> {
        let name = member
            .member_name()
            .ok_or_else(|| SerdeError::unsupported("member without a name"))?;
        if self.wire == Wire::Json && !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        self.text(name)?;
        if self.wire == Wire::Json {
            self.out.push(b':');
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), SerdeError> {
        match self.wire {
            Wire::Json => serde_json::to_writer(&mut self.out, text)
                .map_err(|error| SerdeError::write_failed(error.to_string())),
            Wire::Cbor => {
                Head::write(&mut self.out, TEXT, text.len() as u64);
                self.out.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
    }

    fn number(&mut self, number: i64) -> Result<(), SerdeError> {
        match self.wire {
            Wire::Json => write!(self.out, "{number}")
                .map_err(|error| SerdeError::write_failed(error.to_string()))?,
            Wire::Cbor => match u64::try_from(number) {
                Ok(number) => Head::write(&mut self.out, UNSIGNED, number),
                // -1 is written as 0, -2 as 1: all bits turned.
                Err(_) => Head::write(&mut self.out, NEGATIVE, (!number).cast_unsigned()),
            },
        }
        Ok(())
    }

    fn constant(&mut self, json: &str, cbor: u8) {
        match self.wire {
            Wire::Json => self.out.extend_from_slice(json.as_bytes()),
            Wire::Cbor => self.out.push(cbor),
        }
    }
}

impl ShapeSerializer for RequestWriter {
    fn write_struct(
        &mut self,
        schema: &Schema<'_>,
        value: &dyn SerializableStruct,
    ) -> Result<(), SerdeError> {
        if std::mem::replace(&mut self.is_nested, true) {
            self.name(schema)?;
        }
        self.constant("{", OPEN_MAP);
        self.is_first = true;
        value.serialize_members(self)?;
        self.constant("}", BREAK);
        self.is_first = false;
        Ok(())
    }

    fn write_string(&mut self, member: &Schema<'_>, value: &str) -> Result<(), SerdeError> {
        self.name(member)?;
        self.text(value)
    }

    fn write_integer(&mut self, member: &Schema<'_>, value: i32) -> Result<(), SerdeError> {
        self.write_long(member, i64::from(value))
    }

    fn write_long(&mut self, member: &Schema<'_>, value: i64) -> Result<(), SerdeError> {
        self.name(member)?;
        self.number(value)
    }

    fn write_boolean(&mut self, member: &Schema<'_>, value: bool) -> Result<(), SerdeError> {
        self.name(member)?;
        match value {
            true => self.constant("true", TRUE),
            false => self.constant("false", FALSE),
        }
        Ok(())
    }

    fn write_null(&mut self, member: &Schema<'_>) -> Result<(), SerdeError> {
        self.name(member)?;
        self.constant("null", NULL);
        Ok(())
    }

    /// In JSON seconds with their fraction, in CBOR milliseconds under tag 1.
    fn write_timestamp(&mut self, member: &Schema<'_>, value: &DateTime) -> Result<(), SerdeError> {
        self.name(member)?;
        let millis = value
            .to_millis()
            .map_err(|error| SerdeError::write_failed(error.to_string()))?;
        match self.wire {
            Wire::Json => {
                let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
                write!(self.out, "{sign}{}.{:03}", millis / 1000, millis % 1000)
                    .map_err(|error| SerdeError::write_failed(error.to_string()))
            }
            Wire::Cbor => {
                self.out.push(TIME_TAG);
                self.number(millis)
            }
        }
    }

    fn write_list(
        &mut self,
        _: &Schema<'_>,
        _: &dyn Fn(&mut dyn ShapeSerializer) -> Result<(), SerdeError>,
    ) -> Result<(), SerdeError> {
        Err(SerdeError::unsupported("unexpected write_list"))
    }

    fn write_map(
        &mut self,
        _: &Schema<'_>,
        _: &dyn Fn(&mut dyn ShapeSerializer) -> Result<(), SerdeError>,
    ) -> Result<(), SerdeError> {
        Err(SerdeError::unsupported("unexpected write_map"))
    }

    never_written!(
        write_byte: i8,
        write_short: i16,
        write_float: f32,
        write_double: f64,
        write_big_integer: &BigInteger,
        write_big_decimal: &BigDecimal,
        write_blob: Blob,
        write_document: &Document,
    );
}
