//! What a failed call says: a code and a message, in JSON or CBOR.

use aws_smithy_runtime_api::http::Response;
use aws_smithy_schema::Schema;
use aws_smithy_schema::serde::{SerdeError, ShapeDeserializer};
use aws_smithy_types::{BigDecimal, BigInteger, Blob, DateTime, Document};

use super::Wire;
use super::answer::Reader;
use super::cbor_join::join_pieces;
use super::cbor_reader::CborReader;
use super::decode_error::DecodeError;
use super::json_reader::JsonReader;
use super::pool::BufferPool;
use super::unused::never_read;

/// A body that says nothing readable (empty, HTML, cut) leaves both parts empty.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ErrorBody {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

impl ErrorBody {
    pub(super) fn of(response: &Response) -> Self {
        let body = response.body().bytes().unwrap_or_default();
        let wire = Wire::of_answer(response.headers().get("content-type"));
        let mut error = match wire {
            Some(Wire::Cbor) => Self::from_cbor(body),
            // What is no JSON is not read as such either.
            Some(Wire::Json) | None => Self::from_json(body),
        };
        // As the SDK's own protocol: the header wins.
        let header = response.headers().get("x-amzn-errortype");
        error.code = header.map(str::to_owned).or(error.code);
        error.code = error.code.as_deref().and_then(bare_code);
        error
    }

    pub(super) fn from_json(body: &[u8]) -> Self {
        let (error, _) = read(&mut JsonReader::new(body, &BufferPool::default()));
        error
    }

    pub(super) fn from_cbor(body: &[u8]) -> Self {
        match read(&mut CborReader::new(body)) {
            (_, Err(DecodeError::InPieces)) => match join_pieces(body) {
                Ok(joined) => read(&mut CborReader::new(&joined)).0,
                Err(_) => Self::default(),
            },
            (error, _) => error,
        }
    }
}

/// Whatever could be read, and whether all could.
fn read<R: Reader>(reader: &mut R) -> (ErrorBody, Result<bool, DecodeError>) {
    let mut error = ErrorBody::default();
    let mut kind = None;
    let outcome = reader.object(&mut |reader, name| {
        let place = match name {
            b"code" => &mut error.code,
            b"__type" => &mut kind,
            b"message" | b"Message" | b"errorMessage" => &mut error.message,
            _ => return reader.skip(),
        };
        if !reader.is_string() {
            return reader.skip();
        }
        *place = reader.string()?;
        Ok(())
    });
    error.code = error.code.or(kind);
    (error, outcome)
}

/// The code without name space and documentation: `aws.kinesis#Code:http://...` is `Code`.
fn bare_code(code: &str) -> Option<String> {
    let code = code.split(':').next()?;
    let code = code.rsplit('#').next()?.trim();
    (!code.is_empty()).then(|| code.to_owned())
}

type Visit<'a> =
    &'a mut dyn FnMut(&Schema<'_>, &mut dyn ShapeDeserializer) -> Result<(), SerdeError>;

/// Plays the message to the SDK's error builders; the errors of Kinesis have no other member.
impl ShapeDeserializer for ErrorBody {
    fn read_struct(&mut self, schema: &Schema<'_>, visit: Visit<'_>) -> Result<(), SerdeError> {
        let member = schema
            .member_schema("message")
            .or_else(|| schema.member_schema("Message"));
        match member {
            Some(member) if self.message.is_some() => visit(member, self),
            _ => Ok(()),
        }
    }

    fn read_string(&mut self, _: &Schema<'_>) -> Result<String, SerdeError> {
        Ok(self.message.take().unwrap_or_default())
    }

    fn read_list(
        &mut self,
        _: &Schema<'_>,
        _: &mut dyn FnMut(&mut dyn ShapeDeserializer) -> Result<(), SerdeError>,
    ) -> Result<(), SerdeError> {
        Err(SerdeError::unsupported("unexpected read_list"))
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
        None
    }

    fn skip_value(&mut self) -> Result<(), SerdeError> {
        Ok(())
    }

    never_read!(
        read_boolean -> bool,
        read_byte -> i8,
        read_short -> i16,
        read_integer -> i32,
        read_long -> i64,
        read_float -> f32,
        read_double -> f64,
        read_big_integer -> BigInteger,
        read_big_decimal -> BigDecimal,
        read_blob -> Blob,
        read_timestamp -> DateTime,
        read_document -> Document,
    );
}
