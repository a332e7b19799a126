//! An answer on its way through the SDK: the SDK demands its own output type, so the whole body travels as the payload of
//! a single record, uncopied.

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_smithy_schema::Schema;
use aws_smithy_schema::serde::{SerdeError, ShapeDeserializer};
use aws_smithy_types::{BigDecimal, BigInteger, Blob, DateTime, Document};
use bytes::Bytes;

use super::Wire;
use super::unused::never_read;

/// The body of an answer and what it is written in.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) wire: Wire,
    pub(crate) body: Bytes,
}

/// The members of the SDK's output that carry an envelope.
const RECORDS: &str = "Records";
const BODY: &str = "Data";
const WIRE: &str = "MillisBehindLatest";

const WIRES: [Wire; 2] = [Wire::Json, Wire::Cbor];

impl Envelope {
    /// Takes the envelope out of what the SDK returned. `None` if the output was not made by this protocol.
    pub(crate) fn open(output: GetRecordsOutput) -> Option<Self> {
        let mark = usize::try_from(output.millis_behind_latest?).ok()?;
        let record = output.records.into_iter().next()?;
        Some(Self {
            wire: *WIRES.get(mark)?,
            body: record.data.into_bytes(),
        })
    }
}

type Visit<'a> =
    &'a mut dyn FnMut(&Schema<'_>, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;

/// Plays an answer with one record to the SDK's builders. The schema tells the answer from the record.
impl ShapeDeserializer for Envelope {
    fn read_struct(&mut self, schema: &Schema<'_>, visit: Visit<'_>) -> Result<(), SerdeError> {
        for name in [RECORDS, WIRE, BODY] {
            if let Some(member) = schema.member_schema(name) {
                visit(member, self)?;
            }
        }
        Ok(())
    }

    fn read_list(
        &mut self,
        _: &Schema<'_>,
        visit: &mut dyn FnMut(&mut dyn ShapeDeserializer) -> Result<(), SerdeError>,
    ) -> Result<(), SerdeError> {
        visit(self)
    }

    fn read_blob(&mut self, _: &Schema<'_>) -> Result<Blob, SerdeError> {
        Ok(Blob::from_maybe_shared(std::mem::take(&mut self.body)))
    }

    fn read_long(&mut self, _: &Schema<'_>) -> Result<i64, SerdeError> {
        let mark = WIRES.iter().position(|wire| *wire == self.wire);
        i64::try_from(mark.unwrap_or_default()).map_err(|_| SerdeError::custom("no such wire"))
    }

    fn read_map(
        &mut self,
        _: &Schema<'_>,
        _: &mut dyn FnMut(String, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>,
    ) -> Result<(), SerdeError> {
        Err(SerdeError::unsupported("unexpected read_map"))
    }

    fn is_null(&self) -> bool {
        false
    }

    fn container_size(&self) -> Option<usize> {
        Some(1)
    }

    fn skip_value(&mut self) -> Result<(), SerdeError> {
        Ok(())
    }

    never_read!(
        read_boolean -> bool,
        read_byte -> i8,
        read_short -> i16,
        read_integer -> i32,
        read_float -> f32,
        read_double -> f64,
        read_big_integer -> BigInteger,
        read_big_decimal -> BigDecimal,
        read_string -> String,
        read_timestamp -> DateTime,
        read_document -> Document,
    );
}
